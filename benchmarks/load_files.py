"""The files of `load.py`: one set of random weights under several names.

The names are written here by hand, so that the benchmark does not rely on what it measures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

ARCHES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}

MMPRETRAIN = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^blocks\.(\d+)\.norm(\d)\.", r"layers.\1.ln\2."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"layers.\1.ffn.layers.0.0."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"layers.\1.ffn.layers.1."),
    (r"^blocks\.(\d+)\.attn\.", r"layers.\1.attn."),
    (r"^norm\.", "ln1."),
)
HUGGING_FACE = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^blocks\.(\d+)\.norm1\.", r"encoder.layer.\1.layernorm_before."),
    (r"^blocks\.(\d+)\.norm2\.", r"encoder.layer.\1.layernorm_after."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layer.\1.attention.output.dense."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"encoder.layer.\1.output.dense."),
    (r"^norm\.", "layernorm."),
)
QKV = re.compile(r"^blocks\.(\d+)\.attn\.qkv\.(\w+)$")


def meta_model(arch: str) -> nn.Module:
    """Build a model without memory."""
    import torch

    from framework.models.backbones.vision_transformer import VisionTransformer

    with torch.device("meta"):
        return VisionTransformer(arch=arch)


def make_files(folder: Path, arch: str) -> None:
    """Write one set of random weights in every naming, and a file that is ten times too large."""
    import torch
    from safetensors.torch import save_file

    weights = random_weights(arch)
    torch.save(weights, folder / "own.pth")
    save_file(weights, folder / "own.safetensors")
    named = {f"backbone.{rename(name, MMPRETRAIN)}": tensor for name, tensor in weights.items()}
    torch.save({"meta": {"epoch": 1}, "state_dict": named}, folder / "mmpretrain.pth")
    (folder / "hugging_face").mkdir()
    save_file(dict(hugging_face(weights)), folder / "hugging_face/model.safetensors", {"format": "pt"})
    (folder / "hugging_face/config.json").write_text(json.dumps(hugging_face_config(arch)))
    small = random_weights("small")
    torch.save(small, folder / "small.pth")
    large = {f"backbone.{name}": tensor for name, tensor in small.items()}
    rest = 9 * sum(tensor.numel() for tensor in small.values())
    large |= {f"decoder.layers.{i}.weight": torch.randn(1024, 1024) for i in range(rest >> 20)}
    torch.save({"state_dict": large}, folder / "large.pth")
    torch.save({f"weight_{i}": torch.randn(4, 4) for i in range(5000)}, folder / "flat.pth")


def random_weights(arch: str) -> dict[str, Tensor]:
    """Draw weights for a model; reproducible."""
    import torch

    generator = torch.Generator().manual_seed(0)
    shapes = {name: tensor.shape for name, tensor in meta_model(arch).state_dict().items()}
    return {name: torch.empty(shape).normal_(0, 0.02, generator=generator) for name, shape in shapes.items()}


def rename(name: str, rules: Sequence[tuple[str, str]]) -> str:
    """Apply the first rule that matches."""
    return next((re.sub(old, new, name) for old, new in rules if re.search(old, name)), name)


def hugging_face(weights: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Name and split weights as transformers saves a ViTModel."""
    for name, tensor in weights.items():
        if match := QKV.match(name):
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                stem = f"encoder.layer.{match[1]}.attention.attention.{part}"
                yield f"{stem}.{match[2]}", piece.contiguous()
        else:
            yield rename(name, HUGGING_FACE), tensor


def hugging_face_config(arch: str) -> dict[str, Any]:
    """Return what stands in a ViTModel's config.json."""
    width, layers, heads = ARCHES[arch]
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    names = {"architectures": ["ViTModel"], "model_type": "vit", "layer_norm_eps": 1e-6}
    return {**names, **sizes, "intermediate_size": 4 * width, "image_size": 224, "patch_size": 16}
