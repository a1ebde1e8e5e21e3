"""Multi-head self-attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.errors import ConfigError
from framework.models.layers.rotary import Rotation, rotate

QKV_BIASES = (True, False, "qv_bias")


class Attention(nn.Module):
    """Multi-head self-attention over all tokens.

    Source: Attention Is All You Need, https://arxiv.org/abs/1706.03762, section 3.2.

    Args:
        dim: Channels of input and output.
        num_heads: Number of heads; divides `dim`.
        qkv_bias: Whether the projection to queries, keys and values has a bias; `qv_bias`: that of the keys
            counts as zero, as in DINOv3.
        attn_drop_rate: Dropout of the attention weights.
        drop_rate: Dropout of the output.

    Raises:
        ConfigError: `num_heads` does not divide `dim`, or there is no such `qkv_bias`.
    """

    bias_mask: Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool | str = True,
        attn_drop_rate: float = 0.0,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_num_heads(dim, num_heads)
        self.num_heads = num_heads
        self.attn_drop_rate = attn_drop_rate
        if qkv_bias not in QKV_BIASES:
            raise ConfigError(f"qkv_bias={qkv_bias!r}: accepted are {', '.join(map(repr, QKV_BIASES))}")
        self.qkv = nn.Linear(dim, 3 * dim, bias=bool(qkv_bias))
        self.without_key_bias = qkv_bias == "qv_bias"
        if self.without_key_bias:
            mask = torch.ones(3, dim).index_fill(0, torch.tensor([1]), 0.0).flatten()
            self.register_buffer("bias_mask", mask, persistent=False)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """Map (batch, tokens, dim) to (batch, tokens, dim); `rotation` is that of the patches."""
        batch, tokens, dim = x.shape
        qkv = self._project(x).view(batch, tokens, 3, self.num_heads, dim // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        drop = self.attn_drop_rate if self.training else 0.0
        heads = functional.scaled_dot_product_attention(query, key, value, dropout_p=drop)
        return self.proj_drop(self.proj(heads.transpose(1, 2).reshape(batch, tokens, dim)))

    def _project(self, x: Tensor) -> Tensor:
        if not self.without_key_bias:
            return self.qkv(x)
        return functional.linear(x, self.qkv.weight, self.qkv.bias * self.bias_mask)


def check_num_heads(dim: int, num_heads: int) -> None:
    """Check that channels can be shared out among heads.

    Raises:
        ConfigError: They cannot.
    """
    if dim % num_heads:
        raise ConfigError(f"num_heads must divide embed_dims, got num_heads={num_heads}, embed_dims={dim}")
