"""Rotary positions of patches."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from framework.errors import ConfigError

#: Cosine and sine of the angles, each (patches, channels of a head).
Rotation = tuple[Tensor, Tensor]


class RotaryEmbedding(nn.Module):
    """Turns queries and keys by angles that grow with the place of their patch, so that only offsets count.

    The rows of a grid turn one half of the frequencies, its columns the other. Places are those of the
    patches' centres, from -1 to 1 along both sides of an image, whatever its size.

    Source: DINOv3, https://arxiv.org/abs/2508.10104, section 3.2; RoFormer, https://arxiv.org/abs/2104.09864.

    Args:
        head_dim: Channels of a head, a multiple of 4.
        theta: The frequencies fall from 1 towards 1 / theta.
        shift: In training all places move by up to this, rows and columns apart. Default: they do not.
        jitter: In training rows and columns are each stretched by a factor between 1 / jitter and jitter.
        rescale: In training both are stretched by one such factor.

    Attributes:
        periods: (head_dim / 4,), the inverse of the frequencies. Official files have them, rounded.

    Raises:
        ConfigError: `head_dim` is not a multiple of 4, or an argument is none of the accepted values.
    """

    periods: Tensor

    def __init__(
        self,
        head_dim: int,
        theta: float = 100.0,
        shift: float | None = None,
        jitter: float | None = None,
        rescale: float | None = None,
    ) -> None:
        super().__init__()
        if head_dim % 4:
            raise ConfigError(f"rope needs heads of a multiple of 4 channels, got {head_dim}")
        for name, factor in (("jitter", jitter), ("rescale", rescale)):
            if factor is not None and factor < 1:
                raise ConfigError(f"rope: {name} is a factor of at least 1, got {factor}")
        self.shift, self.jitter, self.rescale = shift, jitter, rescale
        self.register_buffer("periods", theta ** torch.arange(0, 1, 4 / head_dim, dtype=torch.float32))

    def forward(self, grid: tuple[int, int]) -> Rotation:
        """Return the rotation of the patches of a grid of (rows, columns)."""
        rows, columns = (self._places(count) for count in grid)
        places = torch.cartesian_prod(rows, columns)
        if self.training:
            places = self._moved(places)
        angles = 2 * math.pi * places[:, :, None] / self.periods.float()
        angles = angles.flatten(1).tile(2)
        return angles.cos(), angles.sin()

    def _places(self, count: int) -> Tensor:
        return (torch.arange(count, device=self.periods.device) + 0.5) * (2 / count) - 1

    def _moved(self, places: Tensor) -> Tensor:
        if self.shift is not None:
            places = places + places.new_empty(2).uniform_(-self.shift, self.shift)
        for factor, sides in ((self.jitter, 2), (self.rescale, 1)):
            if factor is not None:
                most = math.log(factor)
                places = places * places.new_empty(sides).uniform_(-most, most).exp()
        return places


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the patches, which are the last tokens of `x` (batch, heads, tokens, channels of a head)."""
    cos, sin = rotation
    prefix, patches = x.tensor_split([x.shape[-2] - cos.shape[-2]], dim=-2)
    first, second = patches.chunk(2, dim=-1)
    turned = patches * cos + torch.cat((-second, first), dim=-1) * sin
    return torch.cat((prefix, turned.to(x.dtype)), dim=-2)
