"""The layer of a transformer encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from framework.errors import ConfigError
from framework.models.layers.activation import build_activation
from framework.models.layers.attention import Attention
from framework.models.layers.drop_path import build_drop_path
from framework.models.layers.layer_scale import LayerScale
from framework.models.layers.mlp import Mlp, SwiGLUMlp
from framework.models.layers.norm import build_norm_layer
from framework.models.layers.rotary import Rotation

FFN_TYPES = ("origin", "swiglu_fused")


class TransformerBlock(nn.Module):
    """Attention and a feed-forward layer, each on normalised tokens and added to what came in.

    Source: An Image is Worth 16x16 Words, https://arxiv.org/abs/2010.11929, figure 1. The arguments are those
    that mmpretrain accepts in `layer_cfgs`.

    Args:
        embed_dims: Channels of the tokens.
        num_heads: Number of attention heads.
        feedforward_channels: Hidden channels of the feed-forward layer.
        layer_scale_init_value: Initial value of the factors on both branches; 0 for no such factors.
        drop_rate: Dropout at the end of attention and in the feed-forward layer.
        attn_drop_rate: Dropout of the attention weights.
        drop_path_rate: Rate of stochastic depth.
        qkv_bias: Whether queries, keys and values have a bias; `qv_bias`: the keys have none.
        ffn_type: `origin` (two linear layers with an activation) or `swiglu_fused` (gated).
        act_cfg: Activation of the feed-forward layer. Default GELU.
        norm_cfg: The normalisation layers. Default LN with eps 1e-6.
        plugins: What the backbone passes the patches through after the block (`after_block`), or None.

    Raises:
        ConfigError: An argument's value is not among the accepted ones.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        layer_scale_init_value: float = 0.0,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        qkv_bias: bool | str = True,
        ffn_type: str = "origin",
        act_cfg: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        plugins: nn.Module | None = None,
    ) -> None:
        super().__init__()
        norm_cfg = norm_cfg or {"type": "LN", "eps": 1e-6}
        self.norm1 = build_norm_layer(norm_cfg, embed_dims)
        self.attn: nn.Module = Attention(embed_dims, num_heads, qkv_bias, attn_drop_rate, drop_rate)
        self.ls1 = _layer_scale(embed_dims, layer_scale_init_value)
        self.drop_path1 = build_drop_path(drop_path_rate)
        self.norm2 = build_norm_layer(norm_cfg, embed_dims)
        self.mlp = _mlp(ffn_type, embed_dims, feedforward_channels, act_cfg or {"type": "GELU"}, drop_rate)
        self.ls2 = _layer_scale(embed_dims, layer_scale_init_value)
        self.drop_path2 = build_drop_path(drop_path_rate)
        self.after_block = plugins or nn.Identity()

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """Map (batch, tokens, embed_dims) to the same shape; `rotation` is that of the patches."""
        x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x), rotation)))
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


def _layer_scale(dim: int, init_value: float) -> nn.Module:
    return LayerScale(dim, init_value) if init_value else nn.Identity()


def _mlp(ffn_type: str, dim: int, hidden_dim: int, act_cfg: Mapping[str, Any], drop_rate: float) -> nn.Module:
    if ffn_type == "origin":
        return Mlp(dim, hidden_dim, build_activation(act_cfg), drop_rate)
    if ffn_type == "swiglu_fused":
        return SwiGLUMlp(dim, hidden_dim, drop_rate)
    raise ConfigError(f"there is no ffn_type {ffn_type!r}: accepted are {', '.join(FFN_TYPES)}")
