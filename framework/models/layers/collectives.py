"""Exchange between processes that gradients flow through.

The convention is that of DistributedDataParallel: what is optimised is the mean of the losses of all
processes, and the gradients of the parameters are averaged at the end. So the gradient of whatever came from
other processes is the sum over all processes. A loss that every process computes from everything, and one
that every process computes for its own samples, then both give the gradients of one process with the whole
batch.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size
from torch import Tensor
from torch import distributed as dist


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = x.shape[0]
        parts = [torch.empty_like(x) for _ in range(get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        return total[get_rank() * ctx.rows :][: ctx.rows]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        return total


def gather(x: Tensor) -> Tensor:
    """Return the rows of all processes, in the order of their ranks; alone, `x` itself.

    Args:
        x: (rows, ...), of the same shape in every process.
    """
    return _Gather.apply(x) if get_world_size() > 1 else x


def sum_over_processes(x: Tensor) -> Tensor:
    """Return the sum of `x` over all processes; alone, `x` itself."""
    return _Sum.apply(x) if get_world_size() > 1 else x
