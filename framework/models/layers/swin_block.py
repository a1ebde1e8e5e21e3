"""Blocks and patch merging of Swin Transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from framework.models.layers.activation import build_activation
from framework.models.layers.drop_path import build_drop_path
from framework.models.layers.mlp import Mlp
from framework.models.layers.norm import build_norm_layer
from framework.models.layers.patch_embed import Size, to_pair
from framework.models.layers.plugins import on_channels_first
from framework.models.layers.window_attention import (
    WindowAttention,
    WindowAttentionV2,
    from_windows,
    shift_mask,
    to_windows,
)


class SwinBlock(nn.Module):
    """Window attention and a feed-forward layer, each on normalised maps and added to what came in.

    Source: Swin Transformer, https://arxiv.org/abs/2103.14030, figure 3b.

    Args:
        dim: Number of channels.
        num_heads: Number of attention heads.
        window_size: Rows and columns of the windows.
        shift: Whether windows are shifted by half their size.
        ffn_ratio: Hidden channels of the feed-forward layer / `dim`.
        drop_path: Rate of stochastic depth.
        pad_small_map: Whether maps smaller than a window are padded, and maps of its size are shifted.
        with_cp: Whether training computes the block a second time in the backward pass.
        attn_cfgs: `qkv_bias`, `attn_drop_rate` and `drop_rate` of the attention.
        ffn_cfgs: `act_cfg` and `ffn_drop`, the dropout, of the feed-forward layer.
        norm_cfg: The normalisation layers. Default LN.
        plugins: What the output passes through, or None.

    Raises:
        ConfigError: `num_heads` does not divide `dim`, or there is no such norm or activation.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: Size = 7,
        shift: bool = False,
        ffn_ratio: float = 4.0,
        drop_path: float = 0.0,
        pad_small_map: bool = False,
        with_cp: bool = False,
        attn_cfgs: Mapping[str, Any] | None = None,
        ffn_cfgs: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        plugins: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.window_size, self.shift = to_pair(window_size), shift
        self.pad_small_map, self.with_cp = pad_small_map, with_cp
        norm_cfg, ffn_cfgs = norm_cfg or {"type": "LN"}, ffn_cfgs or {}
        self.norm1 = build_norm_layer(norm_cfg, dim)
        self.attn = self.make_attention(dim, num_heads, attn_cfgs or {})
        self.drop_path1 = build_drop_path(drop_path)
        self.norm2 = build_norm_layer(norm_cfg, dim)
        activation = build_activation(ffn_cfgs.get("act_cfg", {"type": "GELU"}))
        self.mlp = Mlp(dim, int(dim * ffn_ratio), activation, ffn_cfgs.get("ffn_drop", 0.0))
        self.drop_path2 = build_drop_path(drop_path)
        self.after_block = plugins or nn.Identity()

    def make_attention(self, dim: int, num_heads: int, attn_cfgs: Mapping[str, Any]) -> WindowAttention:
        """Create the attention."""
        return WindowAttention(dim, num_heads, self.window_size, **attn_cfgs)

    def residual(self, x: Tensor) -> Tensor:
        """Return `x` plus both branches."""
        x = x + self.drop_path1(self.attend(self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, rows, columns, dim) to the same shape.

        Raises:
            ValueError: The map is smaller than the window, and `pad_small_map` is not set.
        """
        if self.with_cp and x.requires_grad:
            return checkpoint(self.whole, x, use_reentrant=False)
        return self.whole(x)

    def whole(self, x: Tensor) -> Tensor:
        """Return the output of the block behind its plugins."""
        return on_channels_first(self.after_block, self.residual(x))

    def attend(self, x: Tensor) -> Tensor:
        """Attend within windows of a map, padded with zeros to whole windows, and shifted if wanted."""
        rows, columns = x.shape[1:3]
        self._check_size(rows, columns)
        height, width = self.window_size
        x = functional.pad(x, (0, 0, 0, -columns % width, 0, -rows % height))
        size = (x.shape[1], x.shape[2])
        shift = self.shift_of(size)
        mask = None
        if any(shift):
            x = x.roll((-shift[0], -shift[1]), dims=(1, 2))
            mask = shift_mask(size, self.window_size, shift, x.device)
        windows = self.attn(to_windows(x, self.window_size), mask)
        x = from_windows(windows, self.window_size, size)
        return (x.roll(shift, dims=(1, 2)) if any(shift) else x)[:, :rows, :columns]

    def shift_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return by how many rows and columns a map is shifted: not where one window covers it."""
        if not self.shift:
            return 0, 0
        pairs = zip(size, self.window_size, strict=True)
        row, column = (w // 2 if self.pad_small_map or w < s else 0 for s, w in pairs)
        return row, column

    def _check_size(self, rows: int, columns: int) -> None:
        height, width = self.window_size
        if not self.pad_small_map and (rows < height or columns < width):
            raise ValueError(
                f"a map of {rows}x{columns} positions is smaller than the attention window of "
                f"{height}x{width}: use larger images, a smaller window_size (one for each stage if need "
                "be), or pad_small_map=True"
            )


class SwinBlockV2(SwinBlock):
    """Cosine attention and a feed-forward layer, each normalised at its end and added to what came in.

    Source: Swin Transformer V2, https://arxiv.org/abs/2111.09883, figure 1. The norms of the branches start
    from weight 0, as the authors' do.

    Args:
        dim: Number of channels.
        num_heads: Number of attention heads.
        pretrained_window_size: Window in pre-training; 0 for `window_size`.
        extra_norm: Whether the sum is normalised (`norm3`), which huge models need.
        norm_cfg: The normalisation layers. Default LN.
        attn_cfgs: As in `SwinBlock`.
        **kwargs: The other arguments of `SwinBlock`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        pretrained_window_size: Size = 0,
        extra_norm: bool = False,
        norm_cfg: Mapping[str, Any] | None = None,
        attn_cfgs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        attn_cfgs = {"pretrained_window_size": to_pair(pretrained_window_size), **(attn_cfgs or {})}
        super().__init__(dim, num_heads, norm_cfg=norm_cfg, attn_cfgs=attn_cfgs, **kwargs)
        self.norm3 = build_norm_layer(norm_cfg or {"type": "LN"}, dim) if extra_norm else nn.Identity()
        for norm in (self.norm1, self.norm2):
            nn.init.zeros_(norm.get_parameter("weight"))

    def make_attention(self, dim: int, num_heads: int, attn_cfgs: Mapping[str, Any]) -> WindowAttention:
        """Create the attention."""
        return WindowAttentionV2(dim, num_heads, self.window_size, **attn_cfgs)

    def residual(self, x: Tensor) -> Tensor:
        """Return `x` plus both branches."""
        x = x + self.drop_path1(self.norm1(self.attend(x)))
        return self.norm3(x + self.drop_path2(self.norm2(self.mlp(x))))


class PatchMerging(nn.Module):
    """Joins the channels of 2x2 neighbours, normalises them and maps them to fewer.

    Source: Swin Transformer, https://arxiv.org/abs/2103.14030, section 3.1. Of the neighbours, the one below
    comes second and the one to the right third, as in the authors' code.

    Args:
        dim: Channels of the input.
        out_dim: Channels of the output.
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(self.norm_dim(dim, out_dim))
        self.reduction = nn.Linear(4 * dim, out_dim, bias=False)

    def norm_dim(self, dim: int, out_dim: int) -> int:
        """Return the number of channels that are normalised."""
        return 4 * dim

    def merge(self, x: Tensor) -> Tensor:
        """Normalise and reduce (batch, rows, columns, 4 * dim)."""
        return self.reduction(self.norm(x))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, rows, columns, dim) to (batch, rows / 2, columns / 2, out_dim), sizes rounded up."""
        x = functional.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.merge(torch.cat(corners, dim=-1))


class PatchMergingV2(PatchMerging):
    """Patch merging with the norm at the end (https://arxiv.org/abs/2111.09883, section 3.2)."""

    def norm_dim(self, dim: int, out_dim: int) -> int:
        """Return the number of channels that are normalised."""
        return out_dim

    def merge(self, x: Tensor) -> Tensor:
        """Reduce and normalise (batch, rows, columns, 4 * dim)."""
        return self.norm(self.reduction(x))
