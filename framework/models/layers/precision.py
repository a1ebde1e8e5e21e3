"""Precision of what must not be computed in half precision."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_single(x: Tensor) -> Tensor:
    """Return `x` in single precision, or in the higher one that it has."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
