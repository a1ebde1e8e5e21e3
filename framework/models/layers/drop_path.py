"""Stochastic depth."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torchvision.ops import StochasticDepth


def build_drop_path(rate: float) -> nn.Module:
    """Return a layer that drops a residual branch of whole samples with probability `rate` in training.

    Source: Deep Networks with Stochastic Depth, https://arxiv.org/abs/1603.09382.

    Args:
        rate: Probability in [0, 1) that the branch of one sample is set to zero; what is kept is scaled by
            1 / (1 - rate). 0 gives an identity.
    """
    return StochasticDepth(rate, mode="row") if rate > 0 else nn.Identity()


def linear_rates(last: float, count: int) -> Sequence[float]:
    """Return `count` rates that rise in equal steps from 0 to `last`: the paper's linear decay rule."""
    return [last * i / max(count - 1, 1) for i in range(count)]
