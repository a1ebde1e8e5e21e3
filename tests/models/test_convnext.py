"""ConvNeXt against timm's, and what mmpretrain's arguments mean."""

import pytest
import torch
from torch import nn

from framework.errors import ConfigError
from framework.models.backbones import ConvNeXt
from framework.registry import BACKBONES

DEPTHS, CHANNELS = (1, 2, 3, 1), (8, 16, 24, 32)
ARCH = {"depths": DEPTHS, "channels": CHANNELS}
V2 = {"use_grn": True, "layer_scale_init_value": 0}


def small(**kwargs: object) -> ConvNeXt:
    return ConvNeXt(**{"arch": ARCH, **kwargs})


def timm_small(**kwargs: object) -> nn.Module:
    convnext = pytest.importorskip("timm.models.convnext")
    model = convnext.ConvNeXt(**{"depths": DEPTHS, "dims": CHANNELS, "num_classes": 0, **kwargs})
    generator = torch.Generator().manual_seed(3)
    for name, tensor in model.state_dict().items():
        near_one = name.endswith("norm.weight") or name in ("stem.1.weight",)
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3 + near_one)
    return model.eval()


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        (V2, {"use_grn": True, "ls_init_value": None}),
        ({"linear_pw_conv": False}, {"conv_mlp": True}),
        ({"linear_pw_conv": False, **V2}, {"conv_mlp": True, "use_grn": True, "ls_init_value": None}),
        ({"in_channels": 1, "norm_cfg": {"type": "LN2d", "eps": 0.1}}, {"in_chans": 1, "norm_eps": 0.1}),
        ({"act_cfg": {"type": "ReLU"}}, {"act_layer": "relu"}),
    ],
    ids=lambda arguments: ",".join(arguments),
)
def test_features_equal_timms(ours: dict, theirs: dict) -> None:
    oracle, model = timm_small(**theirs), small(**ours).eval()
    model.load_state_dict(oracle.state_dict())
    images = torch.randn(2, ours.get("in_channels", 3), 64, 96)
    with torch.no_grad():
        (feature,) = model(images)
        close(feature, oracle(images))


def test_features_of_several_stages() -> None:
    oracle = timm_small()
    model = small(out_indices=(0, -1), gap_before_final_norm=False).eval()
    report = model.load_state_dict(oracle.state_dict(), strict=False)
    assert (report.missing_keys, report.unexpected_keys) == (["norm0.weight", "norm0.bias"], [])
    nn.init.uniform_(model.norm0.bias)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        first, last = model(images)
        theirs = oracle.forward_intermediates(images, indices=[0, 3], intermediates_only=True)
        close(
            first,
            nn.functional.layer_norm(theirs[0].movedim(1, -1), (8,), None, model.norm0.bias, 1e-6).movedim(
                -1, 1
            ),
        )
        close(last, oracle.head.norm(theirs[1]))
    assert model.out_channels == (8, 32) and model.feature_dim == 32
    assert "head.norm.weight" not in small(out_indices=(1,)).state_dict()


@pytest.mark.parametrize(
    ("arch", "timm_name"),
    [
        ("atto", "convnextv2_atto"),
        ("femto", "convnextv2_femto"),
        ("pico", "convnextv2_pico"),
        ("nano", "convnextv2_nano"),
        ("huge", "convnextv2_huge"),
        ("Tiny", "convnext_tiny"),
        ("small", "convnext_small"),
        ("base", "convnext_base"),
        ("large", "convnext_large"),
        ("xlarge", "convnext_xlarge"),
    ],
)
def test_named_sizes_are_timms(arch: str, timm_name: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        oracle = timm.create_model(timm_name, num_classes=0).state_dict()
        linear = oracle["stages.0.blocks.0.mlp.fc1.weight"].ndim == 2
        model = ConvNeXt(arch, linear_pw_conv=linear, **(V2 if "v2" in timm_name else {}))
    ours = {name: value.shape for name, value in model.state_dict().items()}
    assert ours == {name: value.shape for name, value in oracle.items()}


def test_initial_values() -> None:
    torch.manual_seed(0)
    model = small(arch={"depths": (1, 1), "channels": (8, 128)}, use_grn=True, layer_scale_init_value=0.5)
    block = model.stages[1].blocks[0]
    # A normal distribution that is cut off at a hundred deviations.
    assert block.mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.mlp.fc1.bias.abs().max() == 0 and block.gamma.tolist() == [0.5] * 128
    assert block.mlp.grn.weight.abs().max() == 0 and block.norm.weight.min() == 1
    assert small(layer_scale_init_value=0).stages[0].blocks[0].gamma is None


def test_drop_path_rises_to_the_last_block() -> None:
    model = small(drop_path_rate=0.6)
    rates = [getattr(block.drop_path, "p", 0.0) for stage in model.stages for block in stage.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


@pytest.mark.parametrize("frozen", [0, 1, 3])
def test_frozen_stages_do_not_learn(frozen: int) -> None:
    model = small(frozen_stages=frozen, drop_path_rate=0.5).train()
    for name, parameter in model.named_parameters():
        part = name.split(".")
        still = frozen > 0 and (part[0] == "stem" or (part[0] == "stages" and int(part[1]) < frozen))
        assert parameter.requires_grad != still, name
    assert [stage.training for stage in model.stages] == [i >= frozen for i in range(4)]


def test_recomputed_blocks_give_the_same_gradients() -> None:
    plain, recomputed = small(layer_scale_init_value=0), small(layer_scale_init_value=0, with_cp=True)
    recomputed.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 64, 64)
    for model in (plain, recomputed):
        model(images)[0].square().sum().backward()
    for a, b in zip(plain.parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize(("third", "groups"), [(9, 6), (27, 12)])
def test_layer_depth_groups_the_blocks_of_the_third_stage_by_three(third: int, groups: int) -> None:
    with torch.device("meta"):
        model = small(arch={"depths": (3, 3, third, 3), "channels": CHANNELS}, out_indices=(0, 3))
    depth = {"stem.0.weight": 0, "stages.0.blocks.2.gamma": 1, "stages.1.downsample.0.bias": 2}
    depth |= {"stages.2.downsample.1.weight": 3, "stages.2.blocks.2.conv_dw.bias": 3}
    depth |= {"stages.2.blocks.3.gamma": 4, f"stages.2.blocks.{third - 1}.gamma": groups - 1}
    depth |= {"stages.3.downsample.0.weight": groups, "stages.3.blocks.0.gamma": groups}
    depth |= {"head.norm.bias": groups + 1, "norm0.weight": groups + 1}
    assert set(depth) <= {name for name, _ in model.named_parameters()}
    assert {n: model.get_layer_depth(n) for n in depth} == {n: (d, groups + 2) for n, d in depth.items()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"arch": "tinny"}, "did you mean tiny.*Accepted: atto"),
        ({"arch": {"depths": (1, 1)}}, "dict of depths, channels"),
        ({"arch": {"depths": (1, 1), "channels": (8,)}}, "one entry for each stage"),
        ({"out_indices": 4}, "from 0 to 3"),
        ({"frozen_stages": 5}, "to 4"),
    ],
)
def test_wrong_values_are_told_with_the_accepted_ones(arguments: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BACKBONES.build({"type": "ConvNeXt", "arch": ARCH, **arguments})
