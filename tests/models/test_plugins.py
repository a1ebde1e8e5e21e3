"""Modules that users put into a backbone, and what of the backbone still loads."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from framework.errors import ConfigError
from framework.registry import BACKBONES, MODELS

SMALL = {"stem_channels": 8, "base_channels": 8}
CONVNEXT = {"type": "ConvNeXt", "arch": {"depths": (1, 2), "channels": (8, 16)}}
SWIN = {
    "type": "SwinTransformer",
    "arch": {"embed_dims": 8, "depths": (1, 2), "num_heads": (2, 4)},
    "window_size": 4,
    "out_indices": (1,),
}
SIZES = {"embed_dims": 24, "num_layers": 3, "num_heads": 3, "feedforward_channels": 48}
VIT = {"type": "VisionTransformer", "arch": SIZES, "img_size": 32, "patch_size": 8}
BEIT = {**VIT, "type": "BEiTViT"}
RESNET = {"type": "ResNet", "depth": 50, **SMALL}
IDENTITIES = ("ContextBlock", "NonLocal2d")


class Seer(nn.Module):
    """A plugin of a user, which needs no registration to be named."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.ndim == 4 and x.shape[1] == self.in_channels
        x = x.clone()
        x[:, :, 0] = 0
        return x


def plugin(name: str | type, **kwargs: object) -> dict:
    return {"cfg": {"type": name}, **kwargs}


@pytest.mark.parametrize("name", ["SELayer", "ECALayer", "CBAM", "ContextBlock", "NonLocal2d"])
def test_every_plugin_keeps_the_shape_and_learns(name: str) -> None:
    layer = MODELS.build({"type": name, "in_channels": 32})
    x = torch.randn(2, 32, 5, 6)
    out = layer(x)
    assert out.shape == x.shape and torch.equal(out, x) == (name in IDENTITIES)
    out.square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


@pytest.mark.parametrize(
    ("name", "module", "theirs"),
    [
        ("SELayer", "squeeze_excite", "SEModule"),
        ("ECALayer", "eca", "EcaModule"),
        ("CBAM", "cbam", "CbamModule"),
    ],
)
@pytest.mark.parametrize("channels", [16, 80, 512])
def test_channel_attention_equals_timms(name: str, module: str, theirs: str, channels: int) -> None:
    oracle = getattr(pytest.importorskip(f"timm.layers.{module}"), theirs)(channels).eval()
    layer = MODELS.build({"type": name, "in_channels": channels}).eval()
    layer.load_state_dict(oracle.state_dict())
    x = torch.randn(2, channels, 7, 9)
    torch.testing.assert_close(layer(x), oracle(x))


@pytest.mark.parametrize("pooling", ["att", "avg"])
def test_context_block_is_what_the_paper_says(pooling: str) -> None:
    kinds = ("channel_add", "channel_mul")
    layer = MODELS.build(
        {
            "type": "ContextBlock",
            "in_channels": 8,
            "ratio": 0.5,
            "pooling_type": pooling,
            "fusion_types": kinds,
        }
    )
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 8, 3, 4)
    weights = torch.full((2, 12), 1 / 12)
    if pooling == "att":
        weights = functional.conv2d(x, layer.conv_mask.weight, layer.conv_mask.bias).view(2, 12).softmax(1)
    context = torch.einsum("bcp,bp->bc", x.flatten(2), weights)

    def transformed(part: nn.Sequential) -> torch.Tensor:
        hidden = context @ part[0].weight.flatten(1).T + part[0].bias
        hidden = functional.layer_norm(hidden, (4,), part[1].weight.flatten(), part[1].bias.flatten())
        return (hidden.relu() @ part[3].weight.flatten(1).T + part[3].bias)[..., None, None]

    expected = x * transformed(layer.channel_mul_conv).sigmoid() + transformed(layer.channel_add_conv)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("mode", ["embedded_gaussian", "gaussian", "dot_product"])
@pytest.mark.parametrize("sub_sample", [False, True])
def test_non_local_block_is_what_the_paper_says(mode: str, sub_sample: bool) -> None:
    cfg = {"type": "NonLocal2d", "in_channels": 6, "mode": mode, "sub_sample": sub_sample}
    layer = MODELS.build({**cfg, "reduction": 1 if mode == "gaussian" else 2})
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 6, 4, 6)

    def smaller(maps: torch.Tensor) -> torch.Tensor:
        return functional.max_pool2d(maps, 2) if sub_sample else maps

    query, key = (x, x) if mode == "gaussian" else (layer.theta(x), layer.phi(x))
    products = torch.einsum("bcp,bcq->bpq", query.flatten(2), smaller(key).flatten(2))
    if mode == "embedded_gaussian":
        products = products / 3**0.5
    weights = products / products.shape[2] if mode == "dot_product" else products.softmax(2)
    attended = torch.einsum("bpq,bcq->bcp", weights, smaller(layer.g(x)).flatten(2)).view(2, -1, 4, 6)
    torch.testing.assert_close(layer(x), x + layer.conv_out(attended), rtol=1e-4, atol=1e-4)


def new_modules(cfg: dict, plugins: list) -> set[str]:
    plain, stitched = BACKBONES.build(cfg), BACKBONES.build({**cfg, "plugins": plugins})
    assert stitched.state_dict().keys() >= plain.state_dict().keys()
    return {name.rsplit(".", 2)[0] for name in stitched.state_dict().keys() - plain.state_dict().keys()}


def test_positions_in_a_residual_network() -> None:
    last_two = (False, False, True, True)
    at = [plugin("SELayer", stages=last_two, position="after_conv3"), plugin("CBAM", position="after_stage")]
    added = new_modules({**RESNET, "depth": 50}, at)
    blocks = {3: 6, 4: 3}
    expected = {f"layer{i}.{j}.after_conv3.0" for i, count in blocks.items() for j in range(count)}
    stages = {f"layer{i}.after_stage.0" for i in range(1, 5)}
    assert {name for name in added if "conv3" in name} == expected
    assert {name.split(".0")[0] + ".0" for name in added if "stage" in name} == stages
    model = BACKBONES.build({**RESNET, "plugins": [plugin("ECALayer", position="after_stage")]})
    assert model.get_layer_depth("layer3.after_stage.0.conv.weight") == (13, 18)
    assert model.get_layer_depth("layer3.5.conv1.weight") == (13, 18)


@pytest.mark.parametrize(
    ("position", "channels", "before"),
    [("after_conv1", 8, "conv2"), ("after_conv2", 8, "conv3"), ("after_conv3", 32, "drop_path")],
)
def test_where_a_plugin_stands_in_a_bottleneck(position: str, channels: int, before: str) -> None:
    model = BACKBONES.build({**RESNET, "plugins": [plugin("SELayer", position=position)]}).eval()
    block = model.layer1[1]
    nn.init.uniform_(block.bn3.weight)
    seen: dict[str, torch.Tensor] = {}
    layer = block.get_submodule(f"{position}.0")
    layer.register_forward_hook(lambda module, args, out: seen.update(plugin=out))
    block.get_submodule(before).register_forward_pre_hook(lambda module, args: seen.update(next=args[0]))
    block(torch.randn(1, 32, 4, 4))
    assert layer.fc1.in_channels == channels and seen["next"] is seen["plugin"]


@pytest.mark.parametrize(
    ("cfg", "names"),
    [
        (
            CONVNEXT,
            {
                "stages.0.blocks.0.after_block.0",
                "stages.1.blocks.0.after_block.0",
                "stages.1.blocks.1.after_block.0",
            },
        ),
        (
            SWIN,
            {
                "layers.0.blocks.0.after_block.0",
                "layers.1.blocks.0.after_block.0",
                "layers.1.blocks.1.after_block.0",
            },
        ),
        (VIT, {f"blocks.{i}.after_block.0" for i in range(3)}),
        (BEIT, {f"blocks.{i}.after_block.0" for i in range(3)}),
    ],
    ids=lambda value: value.get("type") if isinstance(value, dict) else "",
)
def test_plugins_follow_the_blocks_of_the_others(cfg: dict, names: set[str]) -> None:
    assert new_modules(cfg, [plugin("SELayer")]) == names


@pytest.mark.parametrize(
    ("cfg", "name"), [(CONVNEXT, "stages.1.after_stage.0"), (SWIN, "layers.1.after_stage.0")]
)
def test_plugins_follow_stages(cfg: dict, name: str) -> None:
    assert new_modules(cfg, [plugin("SELayer", stages=(False, True), position="after_stage")]) == {name}


@pytest.mark.parametrize("cfg", [RESNET, CONVNEXT, SWIN, VIT, BEIT], ids=lambda cfg: cfg["type"])
def test_plugins_see_maps_with_the_channels_first(cfg: dict) -> None:
    position = {"position": "after_stage"} if cfg is RESNET else {}
    last = {"out_type": "featmap", "final_norm": False} if "patch_size" in cfg else {}
    last |= {"norm_cfg": None} if cfg is SWIN else {}
    model = BACKBONES.build({**cfg, **last, "plugins": [plugin(Seer, **position)]}).eval()
    size = 64 if cfg in (RESNET, SWIN) else 32
    captured: list[torch.Tensor] = []
    if cfg is CONVNEXT:
        model.head.register_forward_pre_hook(lambda module, args: captured.append(args[0]))
        model.gap_before_final_norm = False
    feature = model(torch.randn(1, 3, size, size))[-1]
    feature = captured[0] if captured else feature
    assert feature[:, :, 0].abs().max() == 0 and feature[:, :, 1].abs().max() > 0


def test_tokens_before_the_patches_pass_by() -> None:
    plain = BACKBONES.build({**VIT, "num_registers": 2, "out_type": "raw"}).eval()
    stitched = BACKBONES.build(
        {
            **VIT,
            "num_registers": 2,
            "out_type": "raw",
            "plugins": [plugin("SELayer", stages=(False, False, True))],
        }
    ).eval()
    stitched.load_state_dict(plain.state_dict(), strict=False)
    images = torch.randn(1, 3, 32, 32)
    ours, theirs = stitched(images)[0], plain(images)[0]
    torch.testing.assert_close(ours[:, :3], theirs[:, :3])
    assert not torch.allclose(ours[:, 3:], theirs[:, 3:])


@pytest.mark.parametrize("name", IDENTITIES)
@pytest.mark.parametrize("cfg", [RESNET, CONVNEXT, SWIN, VIT], ids=lambda cfg: cfg["type"])
def test_plugins_that_start_as_identities_leave_the_features(cfg: dict, name: str) -> None:
    position = {"position": "after_conv3"} if cfg is RESNET else {}
    plain = BACKBONES.build(cfg).eval()
    stitched = BACKBONES.build({**cfg, "plugins": [plugin(name, **position)]}).eval()
    stitched.load_state_dict(plain.state_dict(), strict=False)
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(stitched(images)[0], plain(images)[0])


@pytest.mark.parametrize("cfg", [RESNET, CONVNEXT, SWIN, VIT, BEIT], ids=lambda cfg: cfg["type"])
def test_all_that_is_not_new_loads_and_the_report_lists_the_new(cfg: dict, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = BACKBONES.build(cfg)
    for parameter in plain.parameters():
        nn.init.normal_(parameter)
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in plain.state_dict().items()}}, file)
    position = {"position": "after_conv3"} if cfg is RESNET else {}
    plugins = [plugin("ContextBlock", **position), plugin("CBAM", **position)]
    stitched = BACKBONES.build({**cfg, "plugins": plugins, "pretrain": str(file)})
    state, old = stitched.state_dict(), plain.state_dict()
    assert all(torch.equal(state[name], value) for name, value in old.items())
    new = {name for name in state.keys() - old.keys() if "num_batches_tracked" not in name}
    assert set(stitched.pretrain_report.fresh) - {n for n in state if "num_batches" in n} == new
    assert all(".after_" in name for name in new)
    zeros = [n for n in new if n.endswith("channel_add_conv.3.weight")]
    assert zeros and all(state[name].abs().max() == 0 for name in zeros)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (plugin("SELayer"), "no position None.*Accepted: after_conv1, after_conv2, after_conv3, after_stage"),
        (plugin("SELayer", position="after_conv4"), "did you mean after_conv"),
        (plugin("SELayer", position="after_conv1", stages=(True,)), "one boolean for each of the 4 stages"),
        (plugin("SELayer", position="after_conv1", stages=(1, 2, 3, 4)), "one boolean for each"),
        ({"type": "SELayer"}, "dicts of cfg, stages, position"),
        (
            {"cfg": {"type": "SeLayer"}, "position": "after_conv1"},
            r"plugins\[0\].cfg.type.*did you mean SELayer",
        ),
        ({"cfg": {"type": "SELayer", "rato": 4}, "position": "after_conv1"}, r"plugins\[0\].cfg.rato.*ratio"),
        (
            {"cfg": {"type": "NonLocal2d", "mode": "x"}, "position": "after_conv1"},
            "embedded_gaussian, gaussian",
        ),
        ({"cfg": {"type": "ContextBlock", "pooling_type": "x"}, "position": "after_conv1"}, "att, avg"),
        (
            {"cfg": {"type": "ContextBlock", "fusion_types": ()}, "position": "after_conv1"},
            "channel_add, channel_mul",
        ),
    ],
)
def test_wrong_plugins_are_told_with_the_accepted_words(entry: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BACKBONES.build({**RESNET, "plugins": [entry]})


def test_networks_without_bottlenecks_have_no_third_convolution() -> None:
    with pytest.raises(ConfigError, match="Accepted: after_conv1, after_conv2, after_stage"):
        BACKBONES.build({**RESNET, "depth": 18, "plugins": [plugin("SELayer", position="after_conv3")]})
