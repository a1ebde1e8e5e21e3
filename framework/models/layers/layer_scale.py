"""LayerScale."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """Multiplies each channel of a residual branch by a learned factor.

    Source: Going deeper with Image Transformers, https://arxiv.org/abs/2103.17239.

    Args:
        dim: Number of channels, the last dimension of the input.
        init_value: Initial value of every factor.
    """

    def __init__(self, dim: int, init_value: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), float(init_value)))

    def forward(self, x: Tensor) -> Tensor:
        """Scale `x` (..., dim)."""
        return x * self.gamma
