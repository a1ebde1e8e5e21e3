"""ResNet against torchvision's and timm's, and its freezing."""

import math
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from framework.errors import ConfigError
from framework.models.backbones import ResNet
from framework.registry import BACKBONES, MODELS


def filled(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a module without initialising it, and give every tensor values that tell it from the others."""
    with torch.device("meta"):
        module = build()
    module.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(7)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            positive = name.endswith(("running_var", "bn1.weight", "bn2.weight"))
            tensor.uniform_(*((0.5, 1.5) if positive else (-0.1, 0.1)), generator=generator)
        else:
            tensor.zero_()
    return module


def adopt(build: Callable[[], nn.Module], weights: dict[str, torch.Tensor]) -> nn.Module:
    """Build a module with copies of `weights`."""
    with torch.device("meta"):
        module = build()
    module.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, assign=True)
    return module


def torchvision_features(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    features = []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        x = stage(x)
        features.append(x)
    return features


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("training", [False, True])
def test_features_equal_torchvisions_to_the_bit(depth: int, training: bool) -> None:
    oracle = filled(getattr(torchvision.models, f"resnet{depth}")).train(training)
    weights = {k: v for k, v in oracle.state_dict().items() if not k.startswith("fc.")}
    model = adopt(lambda: ResNet(depth=depth, out_indices=(0, 1, 2, 3)), weights)
    model.train(training)
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        ours, theirs = model(images), torchvision_features(oracle, images)
    assert len(ours) == 4 and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert all(torch.equal(v, oracle.state_dict()[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("depth", [34, 101, 152])
def test_names_and_shapes_are_torchvisions(depth: int) -> None:
    with torch.device("meta"):
        oracle = getattr(torchvision.models, f"resnet{depth}")().state_dict()
        ours = ResNet(depth=depth).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in oracle.items() if k[:3] != "fc."}


def test_the_bare_type_is_resnet50() -> None:
    with torch.device("meta"):
        model = MODELS.build({"type": "ResNet"})
    assert model.feature_dim == 2048 and model.out_channels == (2048,)
    assert [len(stage) for stage in model.stages()] == [3, 4, 6, 3]


def test_deep_stem_and_average_down_equal_timms() -> None:
    timm = pytest.importorskip("timm")
    oracle = filled(lambda: timm.create_model("resnet18d", num_classes=0)).eval()
    model = adopt(lambda: ResNet(depth=18, deep_stem=True, avg_down=True), oracle.state_dict()).eval()
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(model(images)[0].mean((2, 3)), oracle(images), rtol=1e-5, atol=1e-6)


def small(**kwargs: object) -> ResNet:
    return ResNet(**{"depth": 18, "stem_channels": 8, "base_channels": 8, **kwargs})


def test_width_stages_strides_and_dilations() -> None:
    model = small(num_stages=3, strides=(1, 2, 1), dilations=(1, 1, 2), out_indices=(0, -1), in_channels=1)
    shapes = [tuple(f.shape) for f in model(torch.randn(1, 1, 32, 32))]
    assert shapes == [(1, 8, 8, 8), (1, 32, 4, 4)]
    assert model.out_channels == (8, 32) and model.feature_dim == 32
    assert model.layer3[0].conv1.dilation == (2, 2) and model.layer2[0].conv1.dilation == (1, 1)


@pytest.mark.parametrize(("style", "strides"), [("pytorch", (1, 2)), ("caffe", (2, 1))])
def test_style_says_where_a_bottleneck_strides(style: str, strides: tuple[int, int]) -> None:
    block = small(depth=50, style=style).layer2[0]
    assert (block.conv1.stride[0], block.conv2.stride[0]) == strides


def test_initial_values() -> None:
    torch.manual_seed(0)
    model = ResNet(depth=18)
    fan_out = 512 * 9
    assert model.layer4[1].conv2.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.01)
    assert model.layer4[1].bn2.weight.abs().max() == 0 and model.layer4[1].bn1.weight.min() == 1
    assert small(zero_init_residual=False).layer4[1].bn2.weight.min() == 1


@pytest.mark.parametrize("frozen", [-1, 0, 2, 4])
def test_frozen_stages_do_not_move(frozen: int) -> None:
    model = small(frozen_stages=frozen, zero_init_residual=False).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images = torch.randn(4, 3, 32, 32)
    if frozen < 4:
        model(images)[0].square().sum().backward()
        optimizer.step()
    else:
        assert not model(images)[0].requires_grad
    stages = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
    still = stages[: frozen + 2] if frozen >= 0 else []
    for name, value in model.state_dict().items():
        moved = not torch.equal(value, before[name])
        assert moved == (name.split(".")[0] not in still), name


def test_norm_eval_keeps_statistics_and_trains_weights() -> None:
    model = small(norm_eval=True, zero_init_residual=False).train()
    before = model.bn1.running_mean.clone()
    model(torch.randn(4, 3, 32, 32) + 3)[0].sum().backward()
    assert torch.equal(model.bn1.running_mean, before) and model.bn1.weight.grad is not None
    assert model.training and not model.layer3[0].bn2.training


def test_recomputed_blocks_give_the_same_gradients() -> None:
    torch.manual_seed(0)
    plain, recomputed = small(norm_eval=True), small(norm_eval=True, with_cp=True)
    recomputed.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 32)
    for model in (plain, recomputed):
        model(images)[0].square().sum().backward()
    for a, b in zip(plain.parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_other_norms_and_drop_path() -> None:
    model = small(
        norm_cfg={"type": "GN", "num_groups": 4, "requires_grad": False},
        drop_path_rate=1.0,
        zero_init_residual=False,
    )
    assert isinstance(model.layer1[0].bn1, nn.GroupNorm) and not model.bn1.weight.requires_grad
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(model.train().layer1[0](x), x.relu())
    assert not torch.equal(model.eval().layer1[0](x), x.relu())


def test_layer_depth_counts_blocks() -> None:
    model = small()
    names = {"conv1.weight": 0, "bn1.bias": 0, "layer1.0.conv1.weight": 1, "layer1.1.bn2.bias": 2}
    names |= {"layer2.0.downsample.0.weight": 3, "layer4.1.conv2.weight": 8}
    assert {name: model.get_layer_depth(name) for name in names} == {n: (d, 10) for n, d in names.items()}
    assert model.get_layer_depth("backbone.layer1.0.conv1.weight", "backbone.") == (1, 10)
    assert model.get_layer_depth("head.fc.weight", "backbone.") == (9, 10)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depth": 20}, "18, 34, 50, 101, 152"),
        ({"style": "tensorflow"}, "pytorch, caffe"),
        ({"out_indices": (4,)}, "from 0 to 3"),
        ({"out_indices": (1, -3)}, "different indices"),
        ({"frozen_stages": 5}, "-1 .* to 4"),
        ({"num_stages": 5}, "1 to 4"),
        ({"num_stages": 2}, "each of the 2 stages"),
        ({"conv_cfg": {"type": "DCN"}}, "conv_cfg=None"),
        ({"norm_cfg": {"type": "BatchNorm"}}, "BN, BN1d"),
        ({"norm_cfg": {"type": "GN"}}, "num_groups"),
    ],
)
def test_wrong_values_are_told_with_the_accepted_ones(arguments: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BACKBONES.build({"type": "ResNet", **arguments})
