#!/usr/bin/env python
"""Write the names and shapes of one tiny model per naming scheme: `python tools/make_keys.py [FOLDER]`.

Where timm, torchvision or transformers write a scheme themselves, the names are theirs; elsewhere they are
timm's, renamed by the table. The first line of a file says which. The tests read `tests/pretrain/keys`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
import torchvision
import transformers
from timm.models import Beit, ConvNeXt, Eva, SwinTransformer, SwinTransformerV2, VisionTransformer
from torch import Tensor
from torchvision.models import convnext, swin_transformer

from framework.pretrain.dialects import TABLES
from framework.pretrain.translate import rename

Weights = dict[str, Tensor]

FOLDER = Path(__file__).parents[1] / "tests" / "pretrain" / "keys"
HEADS = 2
SIZES = dict(hidden_size=8, num_hidden_layers=2, num_attention_heads=HEADS, intermediate_size=16)
TOKENS = dict(**SIZES, image_size=8, patch_size=4)
TIMM = dict(img_size=8, patch_size=4, embed_dim=8, depth=2, num_heads=HEADS, mlp_ratio=2, num_classes=3)
STAGES = dict(depths=(1, 1, 1, 2), num_classes=3)
SWIN = dict(img_size=32, patch_size=2, embed_dim=4, num_heads=(1, 1, 2, 2), window_size=2, **STAGES)
HF_SWIN = dict(
    image_size=32, patch_size=2, embed_dim=4, depths=[1, 1, 1, 2], num_heads=[1, 1, 2, 2], window_size=2
)
HF_STAGES = dict(hidden_sizes=[4, 8, 12, 16], depths=[1, 1, 1, 2])


def saved(name: str, **config: Any) -> Weights:
    """What `save_pretrained` writes."""
    with tempfile.TemporaryDirectory() as folder:
        _transformer(name, config).save_pretrained(folder)
        return safetensors.torch.load_file(f"{folder}/model.safetensors")


def running(name: str, **config: Any) -> Weights:
    """The names inside a running model."""
    return dict(_transformer(name, config).state_dict())


def _transformer(name: str, config: dict[str, Any]) -> Any:
    model_class = getattr(transformers, name)
    return model_class(model_class.config_class(**config))


def vit(**options: Any) -> Weights:
    """A Vision Transformer of timm."""
    return dict(VisionTransformer(**{**TIMM, **options}).state_dict())


def rotary_vit() -> Weights:
    """What DINOv3 shares with a Vision Transformer of timm, and its periods."""
    weights = vit(reg_tokens=4, **SCALED)
    del weights["pos_embed"]
    return {**weights, "rope_embed.periods": torch.ones(1)}


def beit(**options: Any) -> Weights:
    """A BEiT of timm."""
    return dict(Beit(**{**TIMM, **options}, init_values=0.1).state_dict())


def eva(**options: Any) -> Weights:
    """A DINOv3 of timm."""
    rope = dict(rope_type="dinov3", use_rot_pos_emb=True, rope_rotate_half=True, use_abs_pos_emb=False)
    return dict(
        Eva(**{**TIMM, **rope, **options}, init_values=0.1, num_reg_tokens=4, use_fc_norm=False).state_dict()
    )


def torchvision_swin(**options: Any) -> Weights:
    """A Swin Transformer of torchvision."""
    model = torchvision.models.SwinTransformer(
        [2, 2], 4, [1, 1, 1, 2], [1, 1, 2, 2], [2, 2], num_classes=3, **options
    )
    return dict(model.state_dict())


def torchvision_convnext() -> Weights:
    """A ConvNeXt of torchvision."""
    sizes = ((4, 8, 1), (8, 12, 1), (12, 16, 1), (16, None, 2))
    blocks = [convnext.CNBlockConfig(*size) for size in sizes]
    return dict(torchvision.models.ConvNeXt(blocks, num_classes=3).state_dict())


def resnet(name: str) -> Weights:
    """A narrow ResNet of timm."""
    block = timm.models.resnet.BasicBlock if name == "resnet" else timm.models.resnet.Bottleneck
    deep = {} if name == "resnet" else dict(stem_width=4, stem_type="deep", avg_down=name == "resnet_d")
    channels = dict(channels=(4, 8, 12, 16))
    return dict(timm.models.ResNet(block, (1, 1, 1, 2), num_classes=3, **channels, **deep).state_dict())


SCALED = dict(init_values=0.1, num_classes=0)
V2 = dict(block=swin_transformer.SwinTransformerBlockV2, downsample_layer=swin_transformer.PatchMergingV2)

#: (table, column): the library's own model. '' is the model that the other columns are renamed from.
MODELS: dict[tuple[str, str], Callable[[], Weights]] = {
    ("vision_transformer", ""): lambda: vit(num_classes=0),
    ("vision_transformer", "timm"): lambda: vit(reg_tokens=4, init_values=0.1, pre_norm=True),
    ("vision_transformer", "torchvision"): lambda: dict(
        torchvision.models.VisionTransformer(8, 4, 2, HEADS, 8, 16, num_classes=3).state_dict()
    ),
    ("vision_transformer", "huggingface"): lambda: saved("ViTForImageClassification", **TOKENS),
    ("vision_transformer", "huggingface_v5"): lambda: running("ViTForImageClassification", **TOKENS),
    ("vision_transformer", "huggingface_deit"): lambda: saved(
        "DeiTForImageClassificationWithTeacher", **TOKENS
    ),
    ("vision_transformer", "huggingface_dinov2"): lambda: saved(
        "Dinov2WithRegistersModel", **TOKENS, mlp_ratio=2
    ),
    ("vision_transformer", "huggingface_dinov2_giant"): lambda: saved(
        "Dinov2Model", **TOKENS, use_swiglu_ffn=True
    ),
    ("vision_transformer", "huggingface_dinov2_v5"): lambda: running("Dinov2Model", **TOKENS, mlp_ratio=2),
    ("vision_transformer", "huggingface_dinov2_giant_v5"): lambda: running(
        "Dinov2Model", **TOKENS, use_swiglu_ffn=True
    ),
    ("vision_transformer", "huggingface_dinov3"): lambda: saved("DINOv3ViTModel", **TOKENS),
    ("vision_transformer", "huggingface_dinov3_swiglu"): lambda: saved(
        "DINOv3ViTModel", **TOKENS, use_gated_mlp=True
    ),
    ("vision_transformer", "huggingface_dinov3_v5"): lambda: running("DINOv3ViTModel", **TOKENS),
    ("vision_transformer", "huggingface_dinov3_swiglu_v5"): lambda: running(
        "DINOv3ViTModel", **TOKENS, use_gated_mlp=True
    ),
    ("vision_transformer", "timm_dinov3"): lambda: eva(),
    ("vision_transformer", "timm_dinov3_swiglu"): lambda: eva(swiglu_mlp=True, swiglu_align_to=8),
    ("vision_transformer", "huggingface_clip"): lambda: saved("CLIPVisionModelWithProjection", **TOKENS),
    ("beit", ""): lambda: beit(use_rel_pos_bias=True),
    ("beit", "timm"): lambda: beit(use_rel_pos_bias=True),
    ("beit", "shared"): lambda: beit(num_classes=0, use_shared_rel_pos_bias=True),
    ("beit", "huggingface"): lambda: saved(
        "BeitForImageClassification", **TOKENS, use_relative_position_bias=True
    ),
    ("beit", "huggingface_shared"): lambda: saved(
        "BeitForMaskedImageModeling", **TOKENS, vocab_size=9, use_shared_relative_position_bias=True
    ),
    ("beit", "huggingface_v5"): lambda: running(
        "BeitForImageClassification", **TOKENS, use_relative_position_bias=True
    ),
    ("resnet", ""): lambda: resnet("resnet"),
    ("resnet", "timm"): lambda: resnet("resnet"),
    ("resnet", "huggingface"): lambda: saved("ResNetForImageClassification", embedding_size=4, **HF_STAGES),
    ("resnet_d", ""): lambda: resnet("resnet_d"),
    ("resnet_d", "timm"): lambda: resnet("resnet_d"),
    ("convnext", ""): lambda: dict(ConvNeXt(dims=(4, 8, 12, 16), use_grn=True, **STAGES).state_dict()),
    ("convnext", "timm"): lambda: dict(ConvNeXt(dims=(4, 8, 12, 16), **STAGES).state_dict()),
    ("convnext", "timm_norm_first"): lambda: dict(
        ConvNeXt(dims=(4, 8, 12, 16), head_norm_first=True, **STAGES).state_dict()
    ),
    ("convnext", "torchvision"): torchvision_convnext,
    ("convnext", "huggingface"): lambda: saved("ConvNextForImageClassification", **HF_STAGES),
    ("convnext", "huggingface_v2"): lambda: saved("ConvNextV2ForImageClassification", **HF_STAGES),
    ("swin_transformer", ""): lambda: dict(SwinTransformer(**SWIN).state_dict()),
    ("swin_transformer", "timm"): lambda: dict(SwinTransformer(**SWIN).state_dict()),
    ("swin_transformer", "torchvision"): torchvision_swin,
    ("swin_transformer", "huggingface"): lambda: saved("SwinForImageClassification", **HF_SWIN),
    ("swin_transformer", "huggingface_v5"): lambda: running("SwinForImageClassification", **HF_SWIN),
    ("swin_transformer_v2", ""): lambda: dict(SwinTransformerV2(**SWIN).state_dict()),
    ("swin_transformer_v2", "timm"): lambda: dict(SwinTransformerV2(**SWIN).state_dict()),
    ("swin_transformer_v2", "torchvision"): lambda: torchvision_swin(**V2),
    ("swin_transformer_v2", "huggingface"): lambda: saved("Swinv2ForImageClassification", **HF_SWIN),
}

#: Models for the columns that store what the common one does not have.
OTHERS: dict[str, Callable[[], Weights]] = {
    "ibot": lambda: vit(**SCALED),
    "dinov2": lambda: vit(reg_tokens=4, **SCALED),
    "dinov2_giant": lambda: vit(reg_tokens=4, **SCALED),
    "dinov2_chunked": lambda: vit(reg_tokens=4, **SCALED),
    "dinov2_giant_chunked": lambda: vit(**SCALED),
    "dinov3": lambda: rotary_vit(),
    "dinov3_swiglu": lambda: rotary_vit(),
    "mmpretrain_swiglu": lambda: vit(**SCALED),
    "clip": lambda: {k: t for k, t in vit(pre_norm=True).items() if k != "head.bias"},
    "mmpretrain_deep": lambda: resnet("resnet_c"),
}


def main(folder: Path) -> None:
    """Write one file per table and column."""
    folder.mkdir(exist_ok=True)
    for table in TABLES:
        for name, column in table.columns.items():
            make = MODELS.get((table.name, name))
            if make is None:
                without = () if column.head else ("head.fc", "head.weight", "head.bias", "fc.")
                common = OTHERS.get(name, MODELS[table.name, ""])()
                kept = {key: tensor for key, tensor in common.items() if not key.startswith(without)}
                weights = rename(kept, name, heads=lambda key: HEADS)
            else:
                weights = make()
            lines = [f"# {column.tested if make else 'timm ' + timm.__version__ + ', renamed by the table'}"]
            lines += [" ".join([key, *map(str, tensor.shape)]) for key, tensor in weights.items()]
            (folder / f"{table.name}.{name}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
