"""Patch embedding, and positional embeddings on its grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.models.layers.norm import build_norm_layer

ANTIALIASED = ("bicubic", "bilinear")
INTERPOLATIONS = (*ANTIALIASED, "nearest")
Size = int | tuple[int, int]


def to_pair(size: Size) -> tuple[int, int]:
    """Return (height, width) of a size that may be one number for both."""
    if isinstance(size, int):
        return size, size
    height, width = size
    return int(height), int(width)


class PatchEmbed(nn.Module):
    """Cuts an image into patches and projects each one linearly.

    Source: An Image is Worth 16x16 Words, https://arxiv.org/abs/2010.11929, section 3.1.

    Args:
        img_size: Height and width in pixels of the images that the model is built for.
        patch_size: Height and width of a patch in pixels.
        in_channels: Channels of the image.
        embed_dims: Channels of a patch's embedding.
        stride: Distance of neighbouring patches in pixels. Default: `patch_size`, so that they do not
            overlap.
        padding: Zeros around the image in pixels.
        bias: Whether the projection has a bias.
        norm_cfg: Normalisation of the embeddings (`norm`). Default: none.

    Attributes:
        grid_size: Rows and columns of patches of an image of `img_size`.

    Raises:
        ValueError: The patches do not cover an image of `img_size` exactly.
    """

    def __init__(
        self,
        img_size: Size,
        patch_size: Size,
        in_channels: int,
        embed_dims: int,
        stride: Size | None = None,
        padding: Size = 0,
        bias: bool = True,
        norm_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        kernel = to_pair(patch_size)
        self.proj = nn.Conv2d(
            in_channels,
            embed_dims,
            kernel,
            stride=kernel if stride is None else to_pair(stride),
            padding=to_pair(padding),
            bias=bias,
        )
        self.norm = nn.Identity() if norm_cfg is None else build_norm_layer(norm_cfg, embed_dims)
        self.grid_size = self.grid_of(*to_pair(img_size))

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """Return rows and columns of patches of an image of `height` x `width` pixels.

        Raises:
            ValueError: The patches do not cover the image exactly.
        """
        return self._count(height, 0), self._count(width, 1)

    def _count(self, pixels: int, axis: int) -> int:
        kernel, stride = self.proj.kernel_size[axis], self.proj.stride[axis]
        rest = pixels + 2 * int(self.proj.padding[axis]) - kernel
        if rest < 0 or rest % stride:
            side = ("height", "width")[axis]
            raise ValueError(
                f"image {side} of {pixels} pixels cannot be cut into patches of {kernel} pixels at a stride "
                f"of {stride}: resize the images, or choose a patch_size whose patches cover them exactly"
            )
        return rest // stride + 1

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Embed the patches of `x` (batch, in_channels, height, width).

        Returns:
            Tokens (batch, rows * columns, embed_dims), row by row, and (rows, columns).

        Raises:
            ValueError: The patches do not cover the image exactly.
        """
        grid = self.grid_of(x.shape[-2], x.shape[-1])
        return self.norm(self.proj(x).flatten(2).transpose(1, 2)), grid


def resize_pos_embed(
    pos_embed: Tensor, old: tuple[int, int], new: tuple[int, int], prefix: int, mode: str = "bicubic"
) -> Tensor:
    """Interpolate the positional embeddings of a grid to another grid; those of leading tokens stay.

    Args:
        pos_embed: (1, prefix + old rows * old columns, channels).
        old: Rows and columns that `pos_embed` is for.
        new: Rows and columns that are wanted.
        prefix: Number of leading embeddings that belong to no patch.
        mode: `bicubic` or `bilinear` (both with antialias), or `nearest`.

    Returns:
        (1, prefix + new rows * new columns, channels), in the dtype of `pos_embed`.
    """
    if old == new:
        return pos_embed
    leading, grid = pos_embed[:, :prefix], pos_embed[:, prefix:]
    image = grid.float().reshape(1, *old, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(image, size=new, mode=mode, antialias=mode in ANTIALIASED)
    tokens = resized.permute(0, 2, 3, 1).reshape(1, new[0] * new[1], -1).to(grid.dtype)
    return torch.cat((leading, tokens), dim=1)
