"""Precision of what must not be computed in half precision."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_single(x: Tensor) -> Tensor:
    """Return `x` in single precision, or in the higher one that it has."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def as_it_is(x: Tensor) -> torch.autocast:
    """Return a context in which nothing on the device of `x` is computed in less than its own precision."""
    return torch.autocast(x.device.type, enabled=False)
