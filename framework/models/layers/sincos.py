"""Fixed positional embeddings of sines and cosines."""

from __future__ import annotations

import torch
from torch import Tensor

from framework.errors import ConfigError

#: Wavelengths run from 2 pi to this many times 2 pi: https://arxiv.org/abs/1706.03762, section 3.5.
TEMPERATURE = 10000.0


def sincos_pos_embed(grid: tuple[int, int], dim: int, prefix: int = 0, *, rows_first: bool = False) -> Tensor:
    """Return positional embeddings of a grid: sines and cosines of its columns and of its rows.

    Source: Attention Is All You Need, https://arxiv.org/abs/1706.03762, section 3.5, for one dimension. In
    two dimensions the published weights differ: facebookresearch/mae@efb2a80 util/pos_embed.py has columns
    in the first half of the channels, facebookresearch/moco-v3@c349e6e vits.py the rows. Each half has the
    sines before the cosines.

    Args:
        grid: Rows and columns of patches.
        dim: Number of channels.
        prefix: How many zeros come first, for tokens that are no patches.
        rows_first: Whether the first half of the channels is for the rows.

    Returns:
        (1, prefix + rows * columns, dim), row by row, float32.

    Raises:
        ConfigError: `dim` is not a multiple of 4.
    """
    if dim % 4:
        raise ConfigError(f"embeddings of sines and cosines need channels in multiples of 4, got {dim}")
    rows, columns = torch.meshgrid(*map(torch.arange, grid), indexing="ij")
    frequencies = TEMPERATURE ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    halves = []
    for positions in (rows, columns) if rows_first else (columns, rows):
        angles = positions.flatten()[:, None] * frequencies
        halves += [angles.sin(), angles.cos()]
    leading = torch.zeros(prefix, dim, dtype=torch.float64)
    return torch.cat((leading, torch.cat(halves, dim=1))).float()[None]
