"""The transformer layer of BEiT, and its bias for relative positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.errors import ConfigError
from framework.models.layers.attention import Attention
from framework.models.layers.transformer_block import TransformerBlock
from framework.models.layers.window_attention import relative_position_index

#: Rows of a table that are for the class token: from it, to it, and to itself.
CLASS_ROWS = 3
BIASES = ("qv_bias", True, False)


def index_with_class_token(window_size: tuple[int, int]) -> Tensor:
    """Return where each pair of a class token and the patches of a grid finds its bias.

    Source: BEiT, https://github.com/microsoft/unilm, beit/modeling_finetune.py.

    Args:
        window_size: Rows and columns of patches.

    Returns:
        (1 + patches, 1 + patches): rows of a table of all offsets and `CLASS_ROWS` more.
    """
    offsets = (2 * window_size[0] - 1) * (2 * window_size[1] - 1)
    index = functional.pad(relative_position_index(window_size), (1, 0, 1, 0))
    index[0, 1:], index[1:, 0], index[0, 0] = offsets, offsets + 1, offsets + 2
    return index


class RelativePositionBias(nn.Module):
    """A learned bias for each offset of two patches, and for the class token if there is one.

    Args:
        window_size: Rows and columns of patches.
        num_heads: Number of attention heads.
        with_cls_token: Whether there is a class token.
    """

    relative_position_index: Tensor

    def __init__(self, window_size: tuple[int, int], num_heads: int, with_cls_token: bool = True) -> None:
        super().__init__()
        self.make_table(window_size, num_heads, with_cls_token)

    def make_table(self, window_size: tuple[int, int], num_heads: int, with_cls_token: bool) -> None:
        """Create the table, of zeros."""
        self.window_size = window_size
        rows = (2 * window_size[0] - 1) * (2 * window_size[1] - 1) + CLASS_ROWS * with_cls_token
        self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, num_heads))
        index = index_with_class_token if with_cls_token else relative_position_index
        self.register_buffer("relative_position_index", index(window_size), persistent=False)

    def forward(self) -> Tensor:
        """Return the bias of each pair of tokens, (num_heads, tokens, tokens)."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)


class BEiTAttention(RelativePositionBias):
    """Multi-head self-attention with a bias for relative positions.

    Args:
        attention: Whose projections it takes over.
        bias: `qv_bias` (queries and values have one), True (keys, too) or False.
        window_size: Rows and columns of patches, or None without a table of its own.
        with_cls_token: Whether there is a class token.
    """

    def __init__(
        self,
        attention: Attention,
        bias: str | bool,
        window_size: tuple[int, int] | None,
        with_cls_token: bool,
    ) -> None:
        nn.Module.__init__(self)
        self.num_heads, self.attn_drop_rate = attention.num_heads, attention.attn_drop_rate
        self.qkv, self.proj, self.proj_drop = attention.qkv, attention.proj, attention.proj_drop
        dim = self.proj.in_features
        self.q_bias = nn.Parameter(torch.zeros(dim)) if bias == "qv_bias" else None
        self.v_bias = nn.Parameter(torch.zeros(dim)) if bias == "qv_bias" else None
        self.own_table = window_size is not None
        if window_size is not None:
            self.make_table(window_size, self.num_heads, with_cls_token)

    def forward(self, x: Tensor, shared: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Map (batch, tokens, dim) to the same shape; `shared` is a bias (num_heads, tokens, tokens)."""
        qkv = self._project(x).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        bias = super().forward() if self.own_table else None
        if shared is not None:
            bias = shared if bias is None else bias + shared
        drop = self.attn_drop_rate if self.training else 0.0
        mask = None if bias is None else bias.to(query.dtype)
        heads = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=drop)
        return self.proj_drop(self.proj(heads.transpose(1, 2).flatten(-2)))

    def _project(self, x: Tensor) -> Tensor:
        if self.q_bias is None or self.v_bias is None:
            return self.qkv(x)
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        return functional.linear(x, self.qkv.weight, bias)


class BEiTBlock(TransformerBlock):
    """A transformer layer with relative position bias.

    Source: BEiT, https://arxiv.org/abs/2106.08254, section 2.3 and appendix.

    Args:
        embed_dims: Channels of the tokens.
        num_heads: Number of attention heads.
        feedforward_channels: Hidden channels of the feed-forward layer.
        layer_scale_init_value: Initial value of `gamma_1` and `gamma_2`, the factors on both branches; 0 for
            none.
        bias: `qv_bias` (queries and values have one), True (keys, too) or False.
        window_size: Rows and columns of patches, or None without a table of its own.
        with_cls_token: Whether there is a class token.
        **kwargs: The other arguments of `TransformerBlock`.

    Raises:
        ConfigError: An argument's value is not among the accepted ones.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        layer_scale_init_value: float = 0.0,
        bias: str | bool = "qv_bias",
        window_size: tuple[int, int] | None = None,
        with_cls_token: bool = True,
        **kwargs: Any,
    ) -> None:
        if bias not in BIASES:
            raise ConfigError(f"bias={bias!r}: accepted are {', '.join(map(repr, BIASES))}")
        kwargs["qkv_bias"] = bias is True
        super().__init__(embed_dims, num_heads, feedforward_channels, **kwargs)
        assert isinstance(self.attn, Attention)
        self.attn = BEiTAttention(self.attn, bias, window_size, with_cls_token)
        scale = layer_scale_init_value
        self.gamma_1 = nn.Parameter(torch.full((embed_dims,), float(scale))) if scale else None
        self.gamma_2 = nn.Parameter(torch.full((embed_dims,), float(scale))) if scale else None

    def forward(  # type: ignore[override]
        self, x: Tensor, shared: Tensor | None = None
    ) -> Tensor:
        """Map (batch, tokens, embed_dims) to the same shape; `shared` is a bias for the attention."""
        x = x + self.drop_path1(_scaled(self.gamma_1, self.attn(self.norm1(x), shared)))
        return x + self.drop_path2(_scaled(self.gamma_2, self.mlp(self.norm2(x))))


def _scaled(gamma: nn.Parameter | None, branch: Tensor) -> Tensor:
    return branch if gamma is None else gamma * branch
