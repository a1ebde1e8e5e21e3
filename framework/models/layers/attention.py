"""Multi-head self-attention."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from framework.errors import ConfigError


class Attention(nn.Module):
    """Multi-head self-attention over all tokens.

    Source: Attention Is All You Need, https://arxiv.org/abs/1706.03762, section 3.2.

    Args:
        dim: Channels of input and output.
        num_heads: Number of heads; divides `dim`.
        qkv_bias: Whether the projection to queries, keys and values has a bias.
        attn_drop_rate: Dropout of the attention weights.
        drop_rate: Dropout of the output.

    Raises:
        ConfigError: `num_heads` does not divide `dim`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool = True,
        attn_drop_rate: float = 0.0,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_num_heads(dim, num_heads)
        self.num_heads = num_heads
        self.attn_drop_rate = attn_drop_rate
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, tokens, dim) to (batch, tokens, dim)."""
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.num_heads, dim // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        drop = self.attn_drop_rate if self.training else 0.0
        heads = functional.scaled_dot_product_attention(query, key, value, dropout_p=drop)
        return self.proj_drop(self.proj(heads.transpose(1, 2).reshape(batch, tokens, dim)))


def check_num_heads(dim: int, num_heads: int) -> None:
    """Check that channels can be shared out among heads.

    Raises:
        ConfigError: They cannot.
    """
    if dim % num_heads:
        raise ConfigError(f"num_heads must divide embed_dims, got num_heads={num_heads}, embed_dims={dim}")
