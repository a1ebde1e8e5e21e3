"""DINOv3, which has rotary positions: our features are those of transformers and timm, and back."""

from __future__ import annotations

import re
from functools import partial

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from framework import BACKBONES
from framework.pretrain import export, load_pretrained
from framework.pretrain.errors import MismatchError

GATED = pytest.mark.parametrize("gated", [False, True], ids=["mlp", "swiglu"])


def ours(gated: bool, **more: object) -> nn.Module:
    arch = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=96 if gated else 64)
    config = dict(
        type="VisionTransformer",
        arch=arch,
        layer_cfgs=dict(ffn_type="swiglu_fused" if gated else "origin"),
        img_size=32,
        patch_size=8,
        out_type="raw",
        rope={},
        num_registers=4,
        qkv_bias="qv_bias",
        layer_scale_init_value=1.0,
        norm_cfg=dict(type="LN", eps=1e-5),
    )
    return BACKBONES.build(dict(config, **more)).eval()


def huggingface(gated: bool) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    mlp = dict(use_gated_mlp=gated, hidden_act="silu" if gated else "gelu")
    config = transformers.DINOv3ViTConfig(
        **sizes, **mlp, num_register_tokens=4, image_size=32, patch_size=8, rope_theta=100.0
    )
    return transformers.DINOv3ViTModel(config).eval()


def timms(gated: bool) -> nn.Module:
    eva = pytest.importorskip("timm").models.eva
    sizes = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2, num_classes=0)
    rope = dict(rope_type="dinov3", use_rot_pos_emb=True, rope_rotate_half=True, rope_temperature=100)
    rest = dict(init_values=0.1, num_reg_tokens=4, use_fc_norm=False, dynamic_img_size=True)
    mlp = dict(swiglu_mlp=gated, swiglu_align_to=8)
    norm = partial(nn.LayerNorm, eps=1e-5)
    return eva.Eva(**sizes, **rope, **rest, **mlp, use_abs_pos_emb=False, norm_layer=norm).eval()


@torch.no_grad()
def features(model: nn.Module, shape: tuple[int, int] = (32, 48)) -> Tensor:
    """Of images that are no squares, so that rows and columns cannot be mixed up."""
    out = model(torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(1)))
    return out[-1] if isinstance(out, tuple) else out.last_hidden_state


@torch.no_grad()
def timms_features(model: nn.Module) -> Tensor:
    return model.forward_features(torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)))


@GATED
def test_features_are_those_of_transformers(gated, tmp_path, filled, assert_close) -> None:
    theirs = filled(huggingface(gated))
    theirs.save_pretrained(tmp_path)
    model = ours(gated, pretrain=str(tmp_path))
    assert model.pretrain_report.unexpected == ("embeddings.mask_token",)
    assert not model.pretrain_report.fresh
    for shape in ((32, 32), (32, 48), (64, 24)):
        assert_close(features(model, shape), features(theirs, shape))


@GATED
def test_what_is_written_is_read_by_transformers(gated, tmp_path, filled, assert_close) -> None:
    model, theirs = filled(ours(gated)), huggingface(gated)
    model.rope_embed.periods.copy_(torch.tensor([1.0, 10.0]))  # which theirs has, and does not store
    with pytest.raises(MismatchError, match="the bias of its key is not zero"):
        export(model, "huggingface_dinov3_swiglu" if gated else "huggingface_dinov3")
    before = features(model)
    for block in model.blocks:
        block.attn.qkv.bias.data[32:64] = 0
    assert torch.equal(features(model), before), "with qv_bias the keys have no bias"
    written = export(model, "huggingface_dinov3_swiglu" if gated else "huggingface_dinov3")
    safetensors.torch.save_file(written, tmp_path / "model.safetensors", metadata={"format": "pt"})
    theirs.config.save_pretrained(tmp_path)
    again, info = type(theirs).from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == {"embeddings.mask_token"} and not info["unexpected_keys"]
    assert_close(features(again.eval()), before)
    torch.save(model.state_dict(), tmp_path / "ours.pth")
    report = load_pretrained(theirs, tmp_path / "ours.pth")
    assert report.fresh == ("embeddings.mask_token",), str(report)
    assert_close(features(theirs), before)


@GATED
def test_features_are_those_of_timm_and_back(gated, tmp_path, filled, assert_close) -> None:
    theirs = filled(timms(gated))
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    model = ours(gated, pretrain=str(tmp_path / "timm.pth"))
    assert model.pretrain_report.clean, str(model.pretrain_report)
    assert_close(features(model), timms_features(theirs))
    again = timms(gated)
    again.load_state_dict(export(model, "timm_dinov3_swiglu" if gated else "timm_dinov3"))
    assert_close(timms_features(again), features(model))


def official(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Write what transformers saves as facebookresearch/dinov3@6876159 names it."""
    layers = sorted({int(match[1]) for name in weights if (match := re.match(r"layer\.(\d)", name))})
    rules = (
        ("^embeddings.register_tokens", "storage_tokens"),
        ("^embeddings.patch_embeddings", "patch_embed.proj"),
        ("^embeddings.", ""),
        ("^layer", "blocks"),
        (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"),
        (r"attention\.o_proj", "attn.proj"),
        (r"mlp\.gate_proj", "mlp.w1"),
        (r"mlp\.up_proj", "mlp.w2" if "layer.0.mlp.gate_proj.weight" in weights else "mlp.fc1"),
        (r"mlp\.down_proj", "mlp.w3" if "layer.0.mlp.gate_proj.weight" in weights else "mlp.fc2"),
    )
    written = {}
    for name, tensor in weights.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        if not re.search("[qkv]_proj", name):
            written[name] = tensor
    for i in layers:
        stem = f"layer.{i}.attention"
        written[f"blocks.{i}.attn.qkv.weight"] = torch.cat(
            [weights[f"{stem}.{p}_proj.weight"] for p in "qkv"]
        )
        query, value = weights[f"{stem}.q_proj.bias"], weights[f"{stem}.v_proj.bias"]
        written[f"blocks.{i}.attn.qkv.bias"] = torch.cat(
            (query, torch.rand(32), value)
        )  # the key's is masked
        mask = torch.ones(3, 32).index_fill(0, torch.tensor([1]), 0)
        written[f"blocks.{i}.attn.qkv.bias_mask"] = mask.flatten()
    written["mask_token"] = written["mask_token"][0]
    return written


@GATED
def test_official_files_with_their_rounded_periods(gated, tmp_path, filled, assert_close) -> None:
    theirs = filled(huggingface(gated))
    theirs.save_pretrained(tmp_path)
    weights = official(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    periods = torch.tensor([1.0, 10.0]) * 1.03
    weights["rope_embed.periods"] = periods.bfloat16()
    torch.save(weights, tmp_path / "official.pth")
    model = ours(gated, pretrain=str(tmp_path / "official.pth"))
    assert model.pretrain_report.dialect == ("dinov3_swiglu" if gated else "dinov3")
    assert model.pretrain_report.unexpected == ("mask_token",) and not model.pretrain_report.fresh
    theirs.rope_embeddings.inv_freq.copy_(1 / periods.bfloat16().float())
    assert_close(features(model), features(theirs))
    assert torch.equal(model.rope_embed.periods, periods.bfloat16().float())


def test_number_of_parameters_of_the_published_sizes() -> None:
    eva = pytest.importorskip("timm").models.eva
    config = dict(rope={}, num_registers=4, qkv_bias=False, layer_scale_init_value=1e-5)
    names = {
        "dinov3-small": "vit_small_patch16_dinov3",
        "dinov3-small-plus": "vit_small_plus_patch16_dinov3",
        "dinov3-base": "vit_base_patch16_dinov3",
        "dinov3-large": "vit_large_patch16_dinov3",
        "dinov3-huge-plus": "vit_huge_plus_patch16_dinov3",
        "dinov3-7b": "vit_7b_patch16_dinov3",
    }
    for arch, name in names.items():
        with torch.device("meta"):
            model = BACKBONES.build(dict(config, type="VisionTransformer", arch=arch))
            theirs = getattr(eva, name)(num_classes=0)
        count = sum(p.numel() for p in model.parameters())
        assert count == sum(p.numel() for p in theirs.parameters()), arch
