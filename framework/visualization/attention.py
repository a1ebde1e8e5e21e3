"""Where a Vision Transformer looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from framework.errors import ConfigError
from framework.models.backbones import VisionTransformer


@dataclass(frozen=True)
class Attention:
    """The attention of one layer.

    Attributes:
        weights: How much of each token (last axis) each token takes up (batch, heads, tokens, tokens); the
            sum over the last axis is 1.
        grid: Rows and columns of patches, which are the last tokens.
    """

    weights: Tensor
    grid: tuple[int, int]

    @property
    def of_class_token(self) -> Tensor:
        """How much of each patch the class token takes up (batch, heads, rows, columns)."""
        rows, columns = self.grid
        return self.weights[:, :, 0, -rows * columns :].unflatten(-1, self.grid)


@torch.no_grad()
def attention_of(model: Any, images: Tensor, layer: int = -1) -> Attention:
    """Return the attention weights of a layer of a Vision Transformer.

    They are computed from the queries, keys and biases that the layer itself hands to
    `scaled_dot_product_attention`: with rotary positions or a bias for relative positions these are included.

    Args:
        model: A model with `extract_feat`, a data preprocessor, and a `VisionTransformer` with a class token
            as its backbone. It is put into evaluation mode.
        images: (batch, channels, height, width), as they come from the dataset.
        layer: Index of the layer; negative ones count from the end.

    Raises:
        ConfigError: The backbone has no class token, or no such layer.
    """
    backbone = _checked(model, layer)
    calls = _AttentionCalls()
    grids: list[tuple[int, int]] = []
    handle = backbone.patch_embed.register_forward_hook(lambda module, given, out: grids.append(out[1]))
    try:
        inputs = model.eval().data_preprocessor({"inputs": images}, False)["inputs"]
        with calls:
            model.extract_feat(inputs)
    finally:
        handle.remove()
    return Attention(_weights(*calls.seen[layer]), grids[0])


def _checked(model: Any, layer: int) -> VisionTransformer:
    backbone = getattr(model, "backbone", model)
    name = type(backbone).__name__
    if not isinstance(backbone, VisionTransformer):
        raise ConfigError(
            f"Attention maps are those of a class token, which {name} does not have: expected is a model "
            f"whose backbone is a VisionTransformer, or one of its kind, such as MAEViT, BEiTViT or DeiT3"
        )
    if backbone.cls_token is None:
        raise ConfigError(
            f"Attention maps are those of the class token, and this {name} is built without one: set "
            f"model.backbone.with_cls_token=True, where the checkpoint has it"
        )
    layers = backbone.num_layers
    if not -layers <= layer < layers:
        raise ConfigError(f"{name} has the layers 0 to {layers - 1}, or -{layers} to -1; got {layer}")
    return backbone


class _AttentionCalls(TorchFunctionMode):
    """Keeps query, key and bias of each call of `scaled_dot_product_attention`."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            self.seen.append((args[0], args[1], kwargs.get("attn_mask")))
        return func(*args, **kwargs)


def _weights(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return (scores if bias is None else scores + bias).softmax(dim=-1)
