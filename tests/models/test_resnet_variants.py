"""The family of ResNets against torchvision's and timm's, and what mmpretrain's arguments mean."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from framework.errors import ConfigError
from framework.models.backbones import ResNet, ResNetV1c, ResNetV1d, ResNeXt, SEResNet, SEResNeXt
from framework.registry import BACKBONES


def filled(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a module without initialising it, and give every tensor values that tell it from the others."""
    with torch.device("meta"):
        module = build()
    module.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(7)
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            tensor.zero_()
        elif tensor.ndim == 1 and name.endswith(("weight", "running_var")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        else:
            tensor.uniform_(-0.1, 0.1, generator=generator)
    return module


def adopt(build: Callable[[], nn.Module], weights: dict[str, torch.Tensor]) -> nn.Module:
    with torch.device("meta"):
        module = build()
    module.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, assign=True)
    return module.eval()


def without_head(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")}


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("resnext50_32x4d", lambda: ResNeXt()),
        ("wide_resnet50_2", lambda: ResNet(width_per_group=128)),
        ("wide_resnet50_2", lambda: ResNet(base_channels=128, expansion=2)),
    ],
)
def test_features_equal_torchvisions(name: str, build: Callable[[], nn.Module]) -> None:
    oracle = filled(getattr(torchvision.models, name)).eval()
    model = adopt(build, without_head(oracle.state_dict()))
    oracle.fc = nn.Identity()
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(model(images)[0].mean((2, 3)), oracle(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("resnet50c", lambda: ResNetV1c(depth=50)),
        ("resnet50d", lambda: ResNetV1d(depth=50)),
        ("seresnet18", lambda: SEResNet(depth=18)),
        ("seresnet50", lambda: SEResNet(depth=50)),
        ("seresnext50_32x4d", lambda: SEResNeXt(depth=50)),
    ],
)
def test_features_equal_timms(name: str, build: Callable[[], nn.Module]) -> None:
    timm = pytest.importorskip("timm")
    oracle = filled(lambda: timm.create_model(name, num_classes=0)).eval()
    model = adopt(build, oracle.state_dict())
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(model(images)[0].mean((2, 3)), oracle(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("resnext101_32x8d", lambda: ResNeXt(depth=101, width_per_group=8)),
        ("resnext101_64x4d", lambda: ResNeXt(depth=101, groups=64)),
        ("wide_resnet101_2", lambda: ResNet(depth=101, width_per_group=128)),
    ],
)
def test_names_and_shapes_are_torchvisions(name: str, build: Callable[[], nn.Module]) -> None:
    with torch.device("meta"):
        oracle, ours = without_head(getattr(torchvision.models, name)().state_dict()), build().state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in oracle.items()}


def test_what_the_config_says_goes_before_what_the_class_has() -> None:
    with torch.device("meta"):
        plain = ResNet(depth=50).state_dict().keys()
        assert ResNetV1d(depth=50, deep_stem=False, avg_down=False).state_dict().keys() == plain
        one_group = ResNeXt(depth=50, groups=1)
        assert SEResNet(depth=50, se_ratio=4).layer1[0].se.fc1.out_channels == 64
    shapes = [one_group.layer1[0].conv2.weight.shape, one_group.layer1[0].conv2.groups]
    assert shapes == [(64, 64, 3, 3), 1]


def test_networks_without_bottlenecks_have_no_groups() -> None:
    with pytest.raises(ConfigError, match=r"depth=18 has no bottlenecks.*50, 101 or 152"):
        BACKBONES.build({"type": "ResNeXt", "depth": 18})
