"""Batch normalisation over processes, on CPUs as well."""

from __future__ import annotations

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn

from framework.models.layers.collectives import sum_over_processes


class SyncBatchNorm(nn.SyncBatchNorm):
    """`torch.nn.SyncBatchNorm`, which has no form for CPUs, with one for them. Alone it is plain batch
    normalisation.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel (dimension 1) over the batches of all processes."""
        use_batch = self.training or self.running_mean is None
        if x.device.type != "cpu" or not use_batch or get_world_size() == 1:
            return super().forward(x)
        dims = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        count = sum_over_processes(x.new_tensor(x.numel() / x.shape[1]))
        mean = sum_over_processes(x.sum(dims)) / count
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
