"""The layouts of official repositories and of OpenMMLab, made from timm's models: our features are timm's."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from framework import BACKBONES
from framework.pretrain import load_pretrained

timm = pytest.importorskip("timm")

Weights = dict[str, Tensor]
ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
VIT = dict(type="VisionTransformer", arch=ARCH, img_size=32, patch_size=8, out_type="raw")
AVERAGE = dict(VIT, out_type="avg_featmap", final_norm=False)
SCALED = dict(VIT, layer_scale_init_value=1.0)
BEIT = dict(VIT, type="BEiTViT", layer_scale_init_value=0.1, final_norm=True)
SWIN_ARCH = dict(embed_dims=8, depths=[1, 2, 1, 1], num_heads=[1, 2, 2, 4])
SWIN = dict(type="SwinTransformer", arch=SWIN_ARCH, img_size=32, patch_size=2, window_size=2)
SWIN_V2 = dict(SWIN, type="SwinTransformerV2", arch=dict(SWIN_ARCH, extra_norm_every_n_blocks=0))
CONVNEXT = dict(type="ConvNeXt", arch=dict(channels=[8, 16, 24, 32], depths=[1, 2, 1, 1]))
CONVNEXT_V2 = dict(CONVNEXT, use_grn=True, layer_scale_init_value=0.0)
QUICK_GELU = dict(layer_cfgs=dict(act_cfg=dict(type="QuickGELU")))


def vit(**options: Any) -> nn.Module:
    base = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2, num_classes=5)
    return timm.models.VisionTransformer(**{**base, **options})


def scaled_vit(**options: Any) -> nn.Module:
    return vit(init_values=0.1, **options)


def giant() -> nn.Module:
    width = dict(mlp_layer=timm.layers.SwiGLUPacked, mlp_ratio=88 * 2 / 32)
    return scaled_vit(act_layer=nn.SiLU, **width)


def clip() -> nn.Module:
    layers = dict(act_layer=timm.layers.QuickGELU, norm_layer=partial(nn.LayerNorm, eps=1e-5))
    return vit(pre_norm=True, num_classes=0, **layers)


def beit(**options: Any) -> nn.Module:
    base = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2, num_classes=5)
    base |= dict(init_values=0.1, global_pool="token", use_abs_pos_emb=False)
    return timm.models.Beit(**{**base, **options})


def swin(cls: Any) -> nn.Module:
    sizes = dict(embed_dim=8, depths=(1, 2, 1, 1), num_heads=(1, 2, 2, 4), window_size=2)
    return cls(img_size=32, patch_size=2, num_classes=5, **sizes)


def convnext(**options: Any) -> nn.Module:
    return timm.models.ConvNeXt(depths=(1, 2, 1, 1), dims=(8, 16, 24, 32), num_classes=5, **options)


def renamed(weights: Weights, *rules: tuple[str, str]) -> Weights:
    """Apply regular expressions to names, one after the other."""
    result = {}
    for name, tensor in weights.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        result[name] = tensor
    assert len(result) == len(weights)
    return result


def without(weights: Weights, *parts: str) -> Weights:
    return {name: t for name, t in weights.items() if not name.startswith(parts)}


def prefixed(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


def noise(weights: Weights) -> Weights:
    return {name: torch.rand_like(t) if t.is_floating_point() else t for name, t in weights.items()}


def junk(*shapes: tuple[str, tuple[int, ...]]) -> Weights:
    return {name: torch.rand(shape) for name, shape in shapes}


def mae(w: Weights) -> Any:
    extra = junk(("mask_token", (1, 1, 16)), ("decoder_embed.weight", (16, 32)))
    return dict(model=without(w, "head") | extra)


def dino(w: Weights) -> Any:
    teacher = prefixed("backbone.", without(w, "head")) | junk(("head.mlp.0.weight", (64, 32)))
    return dict(student=prefixed("module.", noise(teacher)), teacher=teacher, epoch=3)


def ibot(w: Weights) -> Any:
    return dino(renamed(w, (r"ls(\d)\.gamma", r"gamma_\1")))


def moco_v3(w: Weights) -> Any:
    encoder = without(w, "head") | junk(("head.0.weight", (64, 32)), ("head.3.weight", (5, 64)))
    momentum = prefixed("module.momentum_encoder.", noise(encoder))
    return dict(state_dict=prefixed("module.base_encoder.", encoder) | momentum, arch="vit")


def dinov2(w: Weights) -> Any:
    return renamed(without(w, "head"), ("^reg_token", "register_tokens")) | junk(("mask_token", (1, 32)))


def dinov2_run(w: Weights) -> Any:
    chunks = renamed(dinov2(w), (r"^blocks\.(\d)\.", r"blocks.0.\1."), (r"^blocks\.0\.1\.", "blocks.1.1."))
    return dict(teacher=prefixed("backbone.", chunks) | junk(("dino_head.mlp.0.weight", (64, 32))))


def dinov2_giant(w: Weights) -> Any:
    return renamed(dinov2(w), (r"mlp\.fc1\.", "mlp.w12."), (r"mlp\.fc2\.", "mlp.w3."))


def ijepa(w: Weights) -> Any:
    encoder = prefixed("module.", without(w, "head"))
    return dict(
        encoder=noise(encoder), target_encoder=encoder, predictor=junk(("module.mask_token", (1, 1, 8)))
    )


def msn(w: Weights) -> Any:
    encoder = prefixed("module.", without(w, "head") | junk(("fc.fc1.weight", (64, 32))))
    return dict(encoder=noise(encoder), target_encoder=encoder, prototypes=torch.rand(8, 16))


def clip_file(w: Weights) -> Any:
    rules = (
        ("^blocks", "transformer.resblocks"),
        (r"norm(\d)\.", r"ln_\1."),
        (r"attn\.qkv\.", "attn.in_proj_"),
        (r"attn\.proj", "attn.out_proj"),
        (r"mlp\.fc1", "mlp.c_fc"),
        (r"mlp\.fc2", "mlp.c_proj"),
        ("^norm_pre", "ln_pre"),
        ("^norm", "ln_post"),
        (r"^patch_embed\.proj", "conv1"),
        ("^cls_token", "class_embedding"),
        ("^pos_embed", "positional_embedding"),
    )
    visual = renamed(w, *rules) | junk(("proj", (32, 16)))
    visual["class_embedding"] = visual["class_embedding"].flatten()
    visual["positional_embedding"] = visual["positional_embedding"][0]
    text = {name: torch.rand(8) for name in visual if name.startswith("transformer")}
    return prefixed("visual.", visual) | text | junk(("positional_embedding", (77, 8)))


def mm(*rules: tuple[str, str]) -> Callable[[Weights], Any]:
    def write(w: Weights) -> Any:
        backbone = prefixed("backbone.", renamed(without(w, "head.fc", "head.w", "head.b", "fc."), *rules))
        return dict(state_dict=backbone | junk(("head.fc.weight", (5, 32))), meta=dict(epoch=1))

    return write


MM_VIT = (
    (r"^norm\.", "ln1."),
    (r"^fc_norm\.", "ln2."),
    (r"\.norm(\d)\.", r".ln\1."),
    ("^blocks", "layers"),
    (r"mlp\.fc1", "ffn.layers.0.0"),
    (r"mlp\.fc2", "ffn.layers.1"),
    (r"ls1\.gamma", "attn.gamma1.weight"),
    (r"ls2\.gamma", "ffn.gamma2.weight"),
    (r"patch_embed\.proj", "patch_embed.projection"),
)
MM_SEGMENTATION = (
    *MM_VIT,
    (r"attn\.qkv\.", "attn.attn.in_proj_"),
    (r"attn\.proj\.", "attn.attn.out_proj."),
)


def jax(w: Weights) -> Weights:
    out: Weights = {}
    for name, t in w.items():
        leaf = {"weight": "scale", "bias": "bias"}.get(name.rsplit(".", 1)[-1], "")
        block = re.match(r"blocks\.(\d)\.(\w+)\.?(\w*)", name)
        if block is None:
            stem = {"norm": "Transformer/encoder_norm/", "cls_token": "cls"}.get(name.split(".")[0])
            if stem is not None:
                out[stem + leaf] = t
            elif name == "pos_embed":
                out["Transformer/posembed_input/pos_embedding"] = t
            elif name == "patch_embed.proj.weight":
                out["embedding/kernel"] = t.permute(2, 3, 1, 0)
            elif name == "patch_embed.proj.bias":
                out["embedding/bias"] = t
            continue
        root, kind = f"Transformer/encoderblock_{block[1]}/", f"{block[2]}.{block[3]}"
        attention = f"{root}MultiHeadDotProductAttention_1/"
        if kind.startswith("norm"):
            out[f"{root}LayerNorm_{0 if block[2] == 'norm1' else 2}/{leaf}"] = t
        elif kind == "attn.qkv":
            for part, value in zip(("query", "key", "value"), t.chunk(3), strict=True):
                heads = value.T.reshape(32, 4, 8) if leaf == "scale" else value.reshape(4, 8)
                out[f"{attention}{part}/{'kernel' if leaf == 'scale' else 'bias'}"] = heads
        elif kind == "attn.proj":
            out[f"{attention}out/{'kernel' if leaf == 'scale' else 'bias'}"] = (
                t.T.reshape(4, 8, 32) if leaf == "scale" else t
            )
        else:
            dense = f"{root}MlpBlock_3/Dense_{int(block[3][-1]) - 1}/"
            out[f"{dense}{'kernel' if leaf == 'scale' else 'bias'}"] = t.T if leaf == "scale" else t
    return out


def big_vision(w: Weights) -> Weights:
    new = {
        name.replace("posembed_input/", "")
        .replace("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0")
        .replace("LayerNorm_2", "LayerNorm_1")
        .replace("MlpBlock_3", "MlpBlock_0"): t
        for name, t in jax(w).items()
    }
    new["pos_embedding"] = new.pop("Transformer/pos_embedding")
    return prefixed("params/", new)


def official_swin(w: Weights) -> Weights:
    weights = renamed(
        w,
        (r"^layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample"),  # type: ignore[arg-type]
        (r"^head\.fc\.", "head."),
    )
    index = {f"layers.{i}.blocks.0.attn.relative_position_index": torch.zeros(4, 4) for i in range(4)}
    return weights | index


def simmim(w: Weights) -> Any:
    encoder = prefixed("encoder.", without(official_swin(w), "head"))
    return dict(model=encoder | junk(("encoder.mask_token", (1, 1, 8)), ("decoder.0.weight", (12, 32, 1, 1))))


def mm_swin(w: Weights) -> Any:
    rules = (
        (r"^layers\.(\d)\.downsample", lambda m: f"stages.{int(m[1]) - 1}.downsample"),
        ("^layers", "stages"),
        (r"\.attn\.", ".attn.w_msa."),
        (r"mlp\.fc1", "ffn.layers.0.0"),
        (r"mlp\.fc2", "ffn.layers.1"),
        (r"patch_embed\.proj", "patch_embed.projection"),
        ("^norm", "norm3"),
    )
    order = {}
    for name, t in w.items():
        merged = re.sub(r"(downsample)\..*", r"\1.reduction.weight", name)
        if "downsample" in name and t.shape[-1] == w[merged].shape[-1]:  # version 2 has its norm behind
            parts = t.reshape(*t.shape[:-1], 4, -1)[..., [0, 2, 1, 3], :]  # rows outside, then columns
            t = parts.transpose(-1, -2).reshape(t.shape)
        order[name] = t
    return mm(*rules)(order)


OFFICIAL_CONVNEXT = (
    (r"^stem\.", "downsample_layers.0."),
    (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
    (r"\.blocks\.", "."),
    ("conv_dw", "dwconv"),
    (r"mlp\.fc", "pwconv"),
    (r"mlp\.grn\.weight", "grn.gamma"),
    (r"mlp\.grn\.bias", "grn.beta"),
    (r"^head\.norm", "norm"),
    (r"^head\.fc", "head"),
)


def official_convnext(w: Weights) -> Any:
    weights = renamed(w, *OFFICIAL_CONVNEXT)
    return dict(model={n: t[None, None, None] if "grn" in n else t for n, t in weights.items()})


def sparse_convnext(w: Weights) -> Any:
    out = {}
    for name, t in without(renamed(w, *OFFICIAL_CONVNEXT), "head", "norm").items():
        if "grn" in name:
            t = t[None]
        elif name.endswith("dwconv.weight"):
            name, t = name.replace("weight", "kernel"), t[:, 0].transpose(1, 2).flatten(1).T
        elif t.dim() == 4 and not name.startswith("downsample_layers.0."):
            name, t = name.replace("weight", "kernel"), t.transpose(2, 3).flatten(2).permute(2, 1, 0)
        elif "dwconv" in name or re.match(r"downsample_layers\.[123]\.1\.", name):
            t = t[None]
        elif re.match(r"(stages|downsample_layers\.[123])\.", name):
            name = re.sub(r"\.(\w+)$", r".linear.\1" if "pwconv" in name else r".ln.\1", name)
        out[f"encoder.{name}"] = t
    return dict(model=out | junk(("mask_token", (1, 8, 1, 1)), ("decoder.0.dwconv.weight", (8, 1, 7, 7))))


MM_CONVNEXT = (
    *OFFICIAL_CONVNEXT[:3],
    ("conv_dw", "depthwise_conv"),
    (r"mlp\.fc", "pointwise_conv"),
    (r"mlp\.grn\.weight", "grn.gamma"),
    (r"mlp\.grn\.bias", "grn.beta"),
    (r"^head\.norm", "norm3"),
)


Layout = Callable[[Weights], Any]

#: case: (the source model, its weights in the layout, our config, what stays fresh)
CASES: dict[str, tuple[Callable[[], nn.Module], Layout, dict[str, Any], set[str]]] = {
    "timm": (vit, lambda w: w, VIT, set()),
    "timm, class token without position": (
        lambda: vit(no_embed_class=True, reg_tokens=4),
        lambda w: w,
        dict(VIT, no_embed_class=True, num_registers=4),
        set(),
    ),
    "MAE": (vit, mae, VIT, set()),
    "MAE, fine-tuned": (lambda: vit(global_pool="avg"), lambda w: dict(model=w), AVERAGE, set()),
    "DINO": (vit, dino, VIT, set()),
    "iBOT": (scaled_vit, ibot, SCALED, set()),
    "MoCo v3": (vit, moco_v3, VIT, set()),
    "DINOv2": (scaled_vit, dinov2, SCALED, set()),
    "DINOv2, registers": (
        lambda: scaled_vit(reg_tokens=4, no_embed_class=True),
        dinov2,
        dict(SCALED, num_registers=4, no_embed_class=True),
        set(),
    ),
    "DINOv2, own training": (scaled_vit, dinov2_run, SCALED, set()),
    "DINOv2 giant": (
        giant,
        dinov2_giant,
        dict(SCALED, arch=dict(ARCH, feedforward_channels=128), layer_cfgs=dict(ffn_type="swiglu_fused")),
        set(),
    ),
    "I-JEPA": (
        lambda: vit(class_token=False, global_pool="avg", fc_norm=False),
        ijepa,
        dict(VIT, with_cls_token=False),
        set(),
    ),
    "MSN": (vit, msn, VIT, set()),
    "OpenAI CLIP": (
        clip,
        clip_file,
        dict(VIT, pre_norm=True, norm_cfg=dict(type="LN", eps=1e-5), **QUICK_GELU),
        set(),
    ),
    "JAX": (vit, jax, VIT, set()),
    "big_vision": (vit, big_vision, VIT, set()),
    "mmpretrain ViT": (vit, mm(*MM_VIT), VIT, set()),
    "mmpretrain ViT, layer scale": (scaled_vit, mm(*MM_VIT), SCALED, set()),
    "mmpretrain ViT, average": (lambda: vit(global_pool="avg"), mm(*MM_VIT), AVERAGE, set()),
    "mmsegmentation ViT": (vit, mm(*MM_SEGMENTATION), VIT, set()),
    "BEiT": (lambda: beit(use_rel_pos_bias=True), lambda w: dict(model=w), BEIT, set()),
    "BEiT, pretrained": (
        lambda: beit(use_shared_rel_pos_bias=True),
        lambda w: dict(
            model=without(w, "head") | junk(("mask_token", (1, 1, 32)), ("lm_head.weight", (9, 32)))
        ),
        BEIT,
        set(),
    ),
    "BEiT, absolute positions": (
        lambda: beit(use_rel_pos_bias=True, use_abs_pos_emb=True),
        lambda w: dict(module=w),
        dict(BEIT, use_abs_pos_emb=True),
        set(),
    ),
    "mmpretrain BEiT": (
        lambda: beit(use_rel_pos_bias=True),
        mm(*MM_VIT),
        BEIT,
        set(),
    ),
    "Swin": (
        lambda: swin(timm.models.SwinTransformer),
        lambda w: dict(model=official_swin(w), config="x"),
        dict(SWIN, norm_cfg=dict(type="LN", eps=1e-5)),
        set(),
    ),
    "SimMIM Swin": (lambda: swin(timm.models.SwinTransformer), simmim, SWIN, set()),
    "mmpretrain Swin": (lambda: swin(timm.models.SwinTransformer), mm_swin, SWIN, set()),
    "Swin V2": (
        lambda: swin(timm.models.SwinTransformerV2),
        lambda w: dict(model=official_swin(w)),
        SWIN_V2,
        set(),
    ),
    "mmpretrain Swin V2": (lambda: swin(timm.models.SwinTransformerV2), mm_swin, SWIN_V2, set()),
    "ConvNeXt": (convnext, official_convnext, CONVNEXT, set()),
    "ConvNeXt V2": (
        lambda: convnext(use_grn=True, ls_init_value=None),
        official_convnext,
        CONVNEXT_V2,
        set(),
    ),
    "ConvNeXt V2, sparse": (
        lambda: convnext(use_grn=True, ls_init_value=None),
        sparse_convnext,
        CONVNEXT_V2,
        {"head.norm.weight", "head.norm.bias"},
    ),
    "timm ConvNeXt, pointwise convolutions": (
        lambda: convnext(conv_mlp=True),
        lambda w: w,
        CONVNEXT,
        set(),
    ),
    "mmpretrain ConvNeXt": (convnext, mm(*MM_CONVNEXT), CONVNEXT, set()),
    "mmpretrain ConvNeXt V2": (
        lambda: convnext(use_grn=True, ls_init_value=None),
        mm(*MM_CONVNEXT),
        CONVNEXT_V2,
        set(),
    ),
}


def save(container: Any, folder: Any) -> str:
    flat = {name: t for name, t in container.items() if isinstance(t, Tensor)}
    if any("/" in name for name in flat):
        np.savez(folder / "file.npz", **{name: t.numpy() for name, t in flat.items()})
        return str(folder / "file.npz")
    torch.save(container, folder / "file.pth")
    return str(folder / "file.pth")


@torch.no_grad()
def timm_features(model: nn.Module, images: Tensor, ours: Tensor) -> Tensor:
    tokens = model.forward_features(images)
    if ours.dim() == 3:
        return tokens
    if ours.dim() == 4:  # a map: Swin keeps channels last
        return tokens.permute(0, 3, 1, 2)
    return model.forward_head(tokens, pre_logits=True)


@pytest.mark.filterwarnings("ignore:Overwriting:UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_features_are_the_source_models(case, tmp_path, filled, assert_close) -> None:
    make, layout, config, fresh = CASES[case]
    theirs = filled(make())
    if case == "big_vision":  # no position is stored for the class token
        theirs.pos_embed.data[:, 0] = 0
    weights = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    path = save(layout(weights) if case != "big_vision" else _without_class_slot(layout(weights)), tmp_path)
    ours = BACKBONES.build(dict(config, pretrain=path)).eval()
    report = ours.pretrain_report
    assert set(report.fresh) == fresh and not report.mismatched, str(report)
    images = torch.randn(2, 3, 32, 32) if "Conv" not in case else torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        got = ours(images)[-1]
    if fresh:  # the final norm, which this layout does not have
        theirs.head.norm = ours.head.norm
    assert_close(got, timm_features(theirs, images, got))


def _without_class_slot(container: Weights) -> Weights:
    return {n: t[:, 1:] if n == "params/pos_embedding" else t for n, t in container.items()}


@pytest.mark.filterwarnings("ignore:Overwriting:UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_timms_own_model_takes_the_layout(case, tmp_path, filled, assert_close) -> None:
    if CASES[case][3] or case == "big_vision":
        pytest.skip("this layout has no final norm, or no position of the class token")
    theirs = filled(CASES[case][0]())
    weights = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    again = CASES[case][0]().eval()
    load_pretrained(again, save(CASES[case][1](weights), tmp_path))
    images = torch.randn(2, 3, 32, 32) if "Conv" not in case else torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(again.forward_features(images), theirs.forward_features(images))
