"""Batch normalisation over processes, on CPUs."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from framework.models.layers.collectives import sum_over_processes


class CPUSyncBatchNorm(_BatchNorm):
    """What `torch.nn.SyncBatchNorm` is on GPUs: batch normalisation over the batches of all processes."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected (batch, channels, ...), got {tuple(input.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel (dimension 1)."""
        if get_world_size() == 1 or not (self.training or self.running_mean is None):
            return super().forward(x)
        dims = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        sums = sum_over_processes(torch.cat([x.sum(dims), x.new_tensor([x.numel() / x.shape[1]])]))
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        centred = x - mean.view(shape)
        variance = sum_over_processes(centred.square().sum(dims)) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        x = centred * (variance + self.eps).rsqrt().view(shape)
        return x if self.weight is None else x * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if not self.training or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        factor = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, factor)
        self.running_var.lerp_(variance, factor)


def sync_on_cpus(model: nn.Module) -> nn.Module:
    """Return a model whose `torch.nn.SyncBatchNorm`, which works on GPUs only, work on CPUs.

    Parameters and buffers stay the same objects.
    """
    if isinstance(model, nn.SyncBatchNorm):
        return _for_cpus(model)
    for name, child in model.named_children():
        setattr(model, name, sync_on_cpus(child))
    return model


def _for_cpus(layer: nn.SyncBatchNorm) -> CPUSyncBatchNorm:
    options: dict[str, Any] = {"affine": layer.affine, "track_running_stats": layer.track_running_stats}
    new = CPUSyncBatchNorm(layer.num_features, layer.eps, layer.momentum, **options, device="meta")
    new._parameters, new._buffers = layer._parameters, layer._buffers
    return new.train(layer.training)
