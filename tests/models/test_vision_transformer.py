"""Vision Transformer against timm's, and what mmpretrain's arguments mean."""

from functools import partial

import pytest
import torch
from torch import nn

from framework.errors import ConfigError
from framework.models.backbones import VisionTransformer
from framework.registry import BACKBONES

ARCH = {"embed_dims": 48, "num_layers": 3, "num_heads": 3, "feedforward_channels": 96}


def small(**kwargs: object) -> VisionTransformer:
    return VisionTransformer(**{"arch": ARCH, "img_size": 32, "patch_size": 8, **kwargs})


def timm_small(**kwargs: object) -> nn.Module:
    vit = pytest.importorskip("timm.models.vision_transformer")
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3, "mlp_ratio": 2}
    model = vit.VisionTransformer(**{**sizes, "num_classes": 0, "dynamic_img_size": True, **kwargs})
    generator = torch.Generator().manual_seed(3)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return model.eval()


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


POOLED = {"out_type": "avg_featmap", "final_norm": False}
TIMM_POOLED = {"global_pool": "avg", "fc_norm": True}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        (POOLED, TIMM_POOLED),
        ({"num_registers": 4}, {"reg_tokens": 4}),
        ({"num_registers": 4, "no_embed_class": True}, {"reg_tokens": 4, "no_embed_class": True}),
        ({"num_registers": 2, **POOLED}, {"reg_tokens": 2, **TIMM_POOLED}),
        ({"with_cls_token": False, **POOLED}, {"class_token": False, **TIMM_POOLED}),
        ({"layer_scale_init_value": 0.1}, {"init_values": 0.1}),
        ({"pre_norm": True}, {"pre_norm": True}),
        ({"qkv_bias": False}, {"qkv_bias": False}),
        ({"norm_cfg": {"type": "LN", "eps": 0.1}}, {"norm_layer": partial(nn.LayerNorm, eps=0.1)}),
        ({"img_size": (16, 48)}, {"img_size": (16, 48)}),
    ],
    ids=lambda arguments: ",".join(arguments),
)
@pytest.mark.parametrize("size", [(32, 32), (48, 24)])
def test_features_equal_timms(ours: dict, theirs: dict, size: tuple[int, int]) -> None:
    oracle, model = timm_small(**theirs), small(**ours).eval()
    model.load_state_dict(oracle.state_dict())
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        (feature,) = model(images)
        close(feature, oracle(images))


@pytest.mark.parametrize("ffn", ["swiglu_fused", "QuickGELU"])
def test_feed_forward_kinds_equal_timms(ffn: str) -> None:
    layers = pytest.importorskip("timm.layers")
    if ffn == "swiglu_fused":
        theirs = {"mlp_layer": layers.SwiGLUPacked, "mlp_ratio": 4 * 2 / 3, "act_layer": nn.SiLU}
        model = small(layer_cfgs={"ffn_type": ffn, "feedforward_channels": 96})
    else:
        theirs = {"act_layer": layers.QuickGELU}
        model = small(layer_cfgs={"act_cfg": {"type": ffn}})
    oracle = timm_small(**theirs)
    model.load_state_dict(oracle.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        close(model.eval()(images)[0], oracle(images))


@pytest.mark.parametrize("registers", [0, 2])
def test_out_types_are_views_of_the_tokens(registers: int) -> None:
    oracle = timm_small(reg_tokens=registers)
    images = torch.randn(2, 3, 32, 24)
    with torch.no_grad():
        tokens = oracle.forward_features(images)
        features = {}
        for out_type in ("raw", "cls_token", "featmap", "avg_featmap"):
            model = small(num_registers=registers, out_type=out_type).eval()
            model.load_state_dict(oracle.state_dict(), strict=False)
            (features[out_type],) = model(images)
    close(features["raw"], tokens)
    close(features["cls_token"], tokens[:, 0])
    patches = tokens[:, 1 + registers :]
    assert features["featmap"].shape == (2, 48, 4, 3)
    close(features["featmap"][:, :, 2, 1], patches[:, 2 * 3 + 1])
    close(features["avg_featmap"], nn.functional.layer_norm(patches.mean(1), (48,), eps=1e-6))


def test_features_of_several_layers_and_only_the_last_normalised() -> None:
    oracle = timm_small()
    model = small(out_indices=(0, -1), out_type="raw").eval()
    model.load_state_dict(oracle.state_dict())
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        first, last = model(images)
        theirs = oracle.forward_intermediates(
            images, indices=[0, 2], return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
        )
    close(first, torch.cat((theirs[0][1], theirs[0][0]), dim=1))
    close(last, oracle.norm(torch.cat((theirs[1][1], theirs[1][0]), dim=1)))
    assert model.out_channels == (48, 48) and model.feature_dim == 48


@pytest.mark.parametrize(
    ("arguments", "norms"),
    [
        ({}, {"norm"}),
        ({"final_norm": False}, set()),
        ({"out_type": "avg_featmap", "final_norm": False}, {"fc_norm"}),
        ({"out_type": "avg_featmap"}, {"norm", "fc_norm"}),
        ({"pre_norm": True}, {"norm", "norm_pre"}),
    ],
)
def test_which_norms_there_are(arguments: dict, norms: set[str]) -> None:
    names = {name.split(".")[0] for name in small(**arguments).state_dict()}
    assert {name for name in names if "norm" in name} == norms
    assert ("patch_embed.proj.bias" in small(**arguments).state_dict()) != ("pre_norm" in arguments)


@pytest.mark.parametrize(
    ("arch", "timm_name"),
    [
        ("tiny", "vit_tiny_patch16_224"),
        ("deit-small", "vit_small_patch16_224"),
        ("base", "vit_base_patch16_224"),
        ("l", "vit_large_patch16_224"),
        ("huge", "vit_huge_patch14_224"),
        ("giant", "vit_giant_patch14_224"),
        ("gigantic", "vit_gigantic_patch14_224"),
        ("dinov2-g", "vit_giant_patch14_dinov2"),
    ],
)
def test_named_sizes_are_timms(arch: str, timm_name: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        oracle = timm.create_model(timm_name, num_classes=0)
        scaled = 1e-5 if any("ls1" in name for name in oracle.state_dict()) else 0.0
        size, patch = oracle.patch_embed.img_size, oracle.patch_embed.patch_size
        model = VisionTransformer(arch, img_size=size, patch_size=patch, layer_scale_init_value=scaled)
    ours = {name: value.shape for name, value in model.state_dict().items()}
    assert ours == {name: value.shape for name, value in oracle.state_dict().items()}


def test_attributes_for_the_loader() -> None:
    model = small(img_size=(32, 48), num_registers=2)
    assert (model.patch_embed.grid_size, model.num_prefix_tokens, model.pos_embed_prefix) == ((4, 6), 3, 3)
    assert model.pos_embed.shape == (1, 3 + 24, 48) and model.reg_token.shape == (1, 2, 48)
    model = small(num_registers=2, no_embed_class=True)
    assert (model.num_prefix_tokens, model.pos_embed_prefix, model.pos_embed.shape[1]) == (3, 0, 16)


def test_overlapping_patches() -> None:
    model = small(patch_cfg={"stride": 4, "padding": 2}, out_type="featmap")
    assert model.patch_embed.grid_size == (8, 8) and model.pos_embed.shape[1] == 65
    assert model(torch.randn(1, 3, 32, 32))[0].shape == (1, 48, 8, 8)


def test_initial_values() -> None:
    torch.manual_seed(0)
    model = VisionTransformer("tiny", num_registers=4, layer_scale_init_value=0.1)
    # A normal distribution that is cut off at two deviations has 0.88 of its deviation.
    for weight in (model.blocks[0].mlp.fc1.weight, model.patch_embed.proj.weight, model.pos_embed):
        assert weight.std().item() == pytest.approx(0.02, rel=0.15) and weight.abs().max() <= 2
    assert model.cls_token.abs().min() > 0 and model.reg_token.abs().min() > 0
    assert model.blocks[2].attn.qkv.bias.abs().max() == 0
    assert model.blocks[1].ls2.gamma.tolist() == [pytest.approx(0.1)] * 192


def test_drop_path_rises_to_the_last_layer() -> None:
    model = small(drop_path_rate=0.4)
    assert isinstance(model.blocks[0].drop_path1, nn.Identity)
    assert [model.blocks[i].drop_path2.p for i in (1, 2)] == [pytest.approx(0.2), pytest.approx(0.4)]


def test_layer_cfgs_replace_the_shared_arguments() -> None:
    cfgs = [{"drop_path_rate": 0.3, "attn_drop_rate": 0.2}, {"qkv_bias": False}, {"num_heads": 6}]
    model = small(layer_cfgs=cfgs, drop_rate=0.1)
    assert model.blocks[0].drop_path1.p == 0.3 and model.blocks[0].attn.attn_drop_rate == 0.2
    assert model.blocks[1].attn.qkv.bias is None and model.blocks[0].attn.qkv.bias is not None
    assert model.blocks[2].attn.num_heads == 6 and model.blocks[2].mlp.drop.p == 0.1


@pytest.mark.parametrize("frozen", [-1, 0, 2, 3])
def test_frozen_stages_do_not_learn_and_stay_in_evaluation_mode(frozen: int) -> None:
    model = small(frozen_stages=frozen, drop_path_rate=0.3, num_registers=1, out_type="avg_featmap").train()
    stem = {"cls_token", "reg_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    for name, parameter in model.named_parameters():
        part = name.split(".")
        still = (
            (frozen >= 0 and name in stem)
            or (part[0] == "blocks" and int(part[1]) < frozen)
            or (part[0] == "norm" and frozen == 3)
        )
        assert parameter.requires_grad != still, name
    assert [block.training for block in model.blocks] == [i >= frozen for i in range(3)]
    assert model.training and model.fc_norm.training


def test_frozen_layers_are_deterministic_in_training() -> None:
    model = small(frozen_stages=3, drop_path_rate=0.9, drop_rate=0.5)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model.train()(images)[0], model.eval()(images)[0])


def test_layer_depth_for_layerwise_decay() -> None:
    model = small(pre_norm=True, num_registers=1, out_type="avg_featmap")
    depth = {"cls_token": 0, "reg_token": 0, "pos_embed": 0, "patch_embed.proj.weight": 0, "norm_pre.bias": 0}
    depth |= {"blocks.0.norm1.weight": 1, "blocks.2.mlp.fc2.bias": 3, "norm.weight": 4, "fc_norm.bias": 4}
    assert set(depth) <= {name for name, _ in model.named_parameters()}
    assert {name: model.get_layer_depth(name) for name in depth} == {n: (d, 5) for n, d in depth.items()}
    assert model.get_layer_depth("head.fc.weight", prefix="backbone.") == (4, 5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"arch": "bse"}, "did you mean .*base.*Accepted: tiny, small"),
        ({"arch": {"embed_dims": 48}}, "num_layers, num_heads, feedforward_channels"),
        ({"out_type": "token"}, "cls_token, avg_featmap, featmap, raw"),
        ({"out_type": "cls_token", "with_cls_token": False}, "avg_featmap, featmap, raw"),
        ({"out_indices": 3}, "from 0 to 2"),
        ({"frozen_stages": 4}, "to 3"),
        ({"interpolate_mode": "area"}, "bicubic, bilinear, nearest"),
        ({"patch_cfg": {"dilation": 2}}, "stride, padding, bias"),
        ({"layer_cfgs": [{}]}, "each of the 3 layers"),
        ({"layer_cfgs": {"ffn_type": "glu"}}, "origin, swiglu_fused"),
        ({"layer_cfgs": {"act_cfg": {"type": "GeLU"}}}, "did you mean .*GELU"),
        ({"arch": {**ARCH, "num_heads": 5}}, "num_heads=5, embed_dims=48"),
    ],
)
def test_wrong_values_are_told_with_the_accepted_ones(arguments: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BACKBONES.build({"type": "VisionTransformer", "arch": ARCH, **arguments})


@pytest.mark.parametrize("size", [30, 4])
def test_images_that_patches_do_not_cover_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} pixels cannot be cut into patches of 8"):
        small()(torch.randn(1, 3, size, 32))
    with pytest.raises(ValueError, match="4 pixels cannot be cut into patches of 8 pixels at a stride of 4"):
        small(patch_cfg={"stride": 4})(torch.randn(1, 3, 4, 32))
    with pytest.raises(ValueError, match="width of 33 pixels"):
        small(img_size=(32, 33))
