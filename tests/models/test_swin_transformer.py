"""Swin Transformers against timm's and torchvision's, and what mmpretrain's arguments mean."""

import re
from functools import partial

import pytest
import torch
from torch import nn

from framework.errors import ConfigError
from framework.models.backbones import SwinTransformer, SwinTransformerV2
from framework.models.layers.window_attention import relative_position_index
from framework.registry import BACKBONES

SIZES = {"embed_dims": 12, "depths": (2, 2, 1), "num_heads": (2, 3, 6)}
KINDS = {1: SwinTransformer, 2: SwinTransformerV2}
VERSIONS = pytest.mark.parametrize("version", [1, 2])


def small(version: int, **kwargs: object) -> SwinTransformer:
    arch = SIZES if version == 1 else {**SIZES, "extra_norm_every_n_blocks": 0}
    stages = {"pretrained_window_sizes": (0, 0, 0)} if version == 2 else {}
    sizes = {"arch": arch, "img_size": 64, "window_size": 4, "out_indices": (2,), "drop_path_rate": 0}
    return KINDS[version](**{**sizes, **stages, **kwargs})


def randomise(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        near_one = parameter.ndim == 1 and name.endswith("weight")
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2 + near_one
    return model.eval()


def timm_small(version: int, **kwargs: object) -> nn.Module:
    names = {1: ("swin_transformer", "SwinTransformer"), 2: ("swin_transformer_v2", "SwinTransformerV2")}
    module, name = names[version]
    kind = getattr(pytest.importorskip(f"timm.models.{module}"), name)
    sizes = {"embed_dim": 12, "depths": (2, 2, 1), "num_heads": (2, 3, 6), "window_size": 4, "num_classes": 0}
    return randomise(kind(**{**sizes, "img_size": 64, "drop_path_rate": 0, **kwargs}))


def torchvision_small(version: int) -> nn.Module:
    swin = pytest.importorskip("torchvision.models.swin_transformer")
    parts = {
        1: (swin.SwinTransformerBlock, swin.PatchMerging),
        2: (swin.SwinTransformerBlockV2, swin.PatchMergingV2),
    }
    block, merging = parts[version]
    model = swin.SwinTransformer(
        patch_size=[4, 4],
        embed_dim=12,
        depths=[2, 2, 1],
        num_heads=[2, 3, 6],
        window_size=[4, 4],
        stochastic_depth_prob=0.0,
        num_classes=1,
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
        block=block,
        downsample_layer=merging,
    )
    return randomise(model)


def from_torchvision(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {}
    for key, value in weights.items():
        name = key.replace("features.0.0.", "patch_embed.proj.").replace("features.0.2.", "patch_embed.norm.")
        stage = re.match(r"features\.(\d+)\.", name)
        if stage and int(stage[1]) % 2:
            name = name.replace(stage[0], f"layers.{int(stage[1]) // 2}.blocks.")
        elif stage:
            name = name.replace(stage[0], f"layers.{int(stage[1]) // 2}.downsample.")
        name = name.replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.")
        name = re.sub(r"cpb_mlp\.fc(\d)", lambda m: f"cpb_mlp.{2 * int(m[1]) - 2}", name)
        if not re.search(r"^head|relative_position_index|relative_coords", name):
            renamed[name] = value
    return renamed


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@VERSIONS
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"window_size": (8, 4, 2)}, {"window_size": (8, 4, 2)}),
        ({"in_channels": 1, "img_size": (64, 128)}, {"in_chans": 1, "img_size": (64, 128)}),
        (
            {"stage_cfgs": {"block_cfgs": {"ffn_ratio": 2.0, "attn_cfgs": {"qkv_bias": False}}}},
            {"mlp_ratio": 2.0, "qkv_bias": False},
        ),
    ],
    ids=lambda arguments: ",".join(arguments),
)
def test_features_equal_timms(version: int, ours: dict, theirs: dict) -> None:
    oracle, model = timm_small(version, **theirs), small(version, **ours).eval()
    model.load_state_dict(oracle.state_dict())
    size = theirs.get("img_size", 64)
    images = torch.randn(2, theirs.get("in_chans", 3), *(size if isinstance(size, tuple) else (size, size)))
    with torch.no_grad():
        (feature,) = model(images)
        close(feature, oracle.forward_features(images).permute(0, 3, 1, 2))


def test_windows_of_pretraining_scale_the_offsets_as_timms() -> None:
    oracle = timm_small(2, pretrained_window_sizes=(3, 6, 2))
    model = small(2, pretrained_window_sizes=(3, 6, 2)).eval()
    model.load_state_dict(oracle.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        close(model(images)[0], oracle.forward_features(images).permute(0, 3, 1, 2))


@VERSIONS
@pytest.mark.parametrize("size", [(64, 64), (72, 88), (64, 108)])
def test_features_equal_torchvisions_where_maps_are_padded(version: int, size: tuple[int, int]) -> None:
    oracle, model = torchvision_small(version), small(version).eval()
    weights = from_torchvision(oracle.state_dict())
    for key in [key for key in weights if version == 2 and key.endswith("qkv.bias")]:
        query, _, value = weights.pop(key).chunk(3)
        weights |= {key.replace("qkv.bias", "q_bias"): query, key.replace("qkv.bias", "v_bias"): value}
    model.load_state_dict(weights)
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        close(model(images)[0], oracle.norm(oracle.features(images)).permute(0, 3, 1, 2))


@VERSIONS
def test_small_maps_are_padded_only_if_wanted(version: int) -> None:
    images = torch.randn(1, 3, 40, 64)
    with pytest.raises(ValueError, match=r"3x4 positions .* window of 4x4.*pad_small_map=True"):
        small(version)(images)
    assert small(version, pad_small_map=True)(images)[0].shape == (1, 48, 3, 4)
    assert small(version).layers[1].blocks[1].shift_of((4, 8)) == (0, 2)
    assert small(version, pad_small_map=True).layers[1].blocks[1].shift_of((4, 8)) == (2, 2)
    assert small(version).layers[1].blocks[0].shift_of((8, 8)) == (0, 0)


@VERSIONS
def test_features_of_several_stages(version: int) -> None:
    oracle = timm_small(version)
    model = small(version, out_indices=(0, -1)).eval()
    report = model.load_state_dict(oracle.state_dict(), strict=False)
    assert (report.missing_keys, report.unexpected_keys) == (["norm0.weight", "norm0.bias"], [])
    nn.init.uniform_(model.norm0.bias)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        first, last = model(images)
        theirs = oracle.forward_intermediates(images, indices=[0, 2], intermediates_only=True)
        close(
            first,
            nn.functional.layer_norm(theirs[0].movedim(1, -1), (12,), None, model.norm0.bias).movedim(-1, 1),
        )
        close(last, oracle.norm(theirs[1].movedim(1, -1)).movedim(-1, 1))
    assert model.out_channels == (12, 48) and model.feature_dim == 48


def test_features_after_patch_merging() -> None:
    model = small(1, out_indices=(0, 2), out_after_downsample=True).eval()
    assert [tuple(f.shape) for f in model(torch.randn(1, 3, 64, 64))] == [(1, 24, 8, 8), (1, 48, 4, 4)]
    assert model.out_channels == (24, 48) and model.norm0.normalized_shape == (24,)


@pytest.mark.parametrize(
    ("version", "arch", "timm_name"),
    [
        (1, "tiny", "swin_tiny_patch4_window7_224"),
        (1, "S", "swin_small_patch4_window7_224"),
        (1, "base", "swin_base_patch4_window7_224"),
        (1, "large", "swin_large_patch4_window7_224"),
        (2, "tiny", "swinv2_tiny_window8_256"),
        (2, "small", "swinv2_small_window8_256"),
        (2, "base", "swinv2_base_window8_256"),
        (2, "large", "swinv2_large_window12_192"),
    ],
)
def test_named_sizes_are_timms(version: int, arch: str, timm_name: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        oracle = timm.create_model(timm_name, num_classes=0).state_dict()
        model = KINDS[version](arch)
    ours = {name: value.shape for name, value in model.state_dict().items()}
    assert ours == {name: value.shape for name, value in oracle.items()}


def test_extra_norms_of_the_huge_models() -> None:
    arch = {**SIZES, "depths": (1, 1, 5), "extra_norm_every_n_blocks": 2}
    model = small(2, arch=arch)
    assert {n for n in model.state_dict() if "norm3" in n and "weight" in n} == {
        "layers.2.blocks.1.norm3.weight",
        "layers.2.blocks.3.norm3.weight",
    }
    nn.init.constant_(model.layers[2].blocks[3].norm3.bias, 7.0)
    x = torch.randn(1, 4, 4, 48)
    close(model.layers[2].blocks[3](x).mean(), torch.tensor(7.0))


def test_index_of_relative_positions() -> None:
    index = relative_position_index((2, 3))
    offsets = [(row, column) for row in range(-1, 2) for column in range(-2, 3)]
    for i in range(6):
        for j in range(6):
            assert offsets[index[i, j]] == (i // 3 - j // 3, i % 3 - j % 3)


@VERSIONS
def test_what_the_loader_needs(version: int) -> None:
    model = small(version, window_size=(4, 4, 2))
    assert model.layers[2].blocks[0].attn.window_size == (2, 2)
    assert not {n for n in model.state_dict() if re.search("index|coords|mask", n)}


@VERSIONS
def test_absolute_positional_embedding(version: int) -> None:
    model = small(version, use_abs_pos_embed=True).eval()
    plain = small(version).eval()
    report = plain.load_state_dict(model.state_dict(), strict=False)
    assert report.unexpected_keys == ["absolute_pos_embed"] and model.absolute_pos_embed.shape == (1, 256, 12)
    images = torch.randn(1, 3, 64, 64)
    expected = plain.embed(images) + model.absolute_pos_embed.view(1, 16, 16, 12)
    torch.testing.assert_close(model.embed(images), expected)
    assert model.embed(torch.randn(1, 3, 61, 96)).shape == (1, 16, 24, 12)


def test_initial_values() -> None:
    torch.manual_seed(0)
    first, second = (small(version, use_abs_pos_embed=True) for version in (1, 2))
    block = first.layers[2].blocks[0]
    for weight in (block.mlp.fc1.weight, block.attn.relative_position_bias_table, first.absolute_pos_embed):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert block.attn.qkv.bias.abs().max() == 0 and block.norm1.weight.min() == 1
    block = second.layers[0].blocks[1]
    assert block.norm1.weight.abs().max() == block.norm2.weight.abs().max() == 0
    assert block.attn.logit_scale.exp().flatten().tolist() == pytest.approx([10, 10])
    assert torch.equal(block(x := torch.randn(1, 8, 8, 12)), x)


@VERSIONS
def test_drop_path_rises_and_block_configs_replace_it(version: int) -> None:
    model = small(version, drop_path_rate=0.4)
    rates = [getattr(block.drop_path2, "p", 0.0) for layer in model.layers for block in layer.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    cfgs = [{}, {"block_cfgs": [{}, {"drop_path": 0.7}]}, {"window_size": 2}]
    model = small(version, stage_cfgs=cfgs)
    assert model.layers[1].blocks[1].drop_path1.p == 0.7 and model.layers[2].blocks[0].window_size == (2, 2)


@VERSIONS
@pytest.mark.parametrize("frozen", [-1, 0, 1])
def test_frozen_stages_do_not_learn(version: int, frozen: int) -> None:
    model = small(version, frozen_stages=frozen, out_indices=(0, 1, 2), drop_path_rate=0.5).train()
    for name, parameter in model.named_parameters():
        part = name.split(".")
        still = frozen >= 0 and part[0] == "patch_embed"
        still |= part[0] == "layers" and int(part[1]) <= frozen
        still |= part[0] in [f"norm{i}" for i in range(frozen + 1)]
        assert parameter.requires_grad != still, name
    assert [layer.training for layer in model.layers] == [i > frozen for i in range(3)]


@VERSIONS
def test_recomputed_blocks_give_the_same_gradients(version: int) -> None:
    plain, recomputed = randomise(small(version)), small(version, with_cp=True)
    recomputed.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 64, 64)
    for model in (plain, recomputed):
        model(images)[0].square().sum().backward()
    for a, b in zip(plain.parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_layer_depth_for_layerwise_decay() -> None:
    model = small(1, out_indices=(0, 2), use_abs_pos_embed=True)
    depth = {"patch_embed.norm.bias": 0, "absolute_pos_embed": 0, "layers.0.blocks.1.attn.qkv.bias": 2}
    depth |= {"layers.1.downsample.norm.weight": 3, "layers.1.blocks.0.norm1.weight": 3}
    depth |= {"layers.2.blocks.0.mlp.fc1.bias": 5, "norm.bias": 6, "norm0.weight": 6}
    assert set(depth) <= {name for name, _ in model.named_parameters()}
    assert {name: model.get_layer_depth(name) for name in depth} == {n: (d, 7) for n, d in depth.items()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"arch": "tinny"}, "did you mean tiny.*Accepted: tiny, small"),
        ({"arch": {**SIZES, "num_heads": (5, 3, 6)}}, "num_heads=5, embed_dims=12"),
        ({"arch": {**SIZES, "num_heads": (2, 3)}}, "each of the 3 stages"),
        ({"window_size": (4, 4)}, "each of the 3 stages"),
        ({"stage_cfgs": [{}]}, "each of the 3 items"),
        ({"stage_cfgs": {"depth": 2}}, "stage_cfgs: unknown depth; accepted are block_cfgs"),
        ({"stage_cfgs": {"block_cfgs": {"ratio": 2}}}, "block_cfgs: unknown ratio; .*ffn_ratio"),
        ({"patch_cfg": {"kernel": 2}}, "stride, padding, bias, norm_cfg"),
        ({"interpolate_mode": "area"}, "bicubic, bilinear, nearest"),
        ({"frozen_stages": 3}, "to 2"),
    ],
)
def test_wrong_values_are_told_with_the_accepted_ones(arguments: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BACKBONES.build({"type": "SwinTransformer", "arch": SIZES, "out_indices": (2,), **arguments})


def test_windows_of_pretraining_need_one_entry_per_stage() -> None:
    with pytest.raises(ConfigError, match=r"each of the 3 stages, got \(0,\)"):
        small(2, pretrained_window_sizes=(0,))
