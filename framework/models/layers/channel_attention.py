"""Modules that weigh the channels of a feature map, and its positions. They serve as plugins, too."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

from framework.registry import MODELS


@MODELS.register_module()
class SELayer(nn.Module):
    """Squeeze and excitation: weighs channels by what their means say.

    Source: Squeeze-and-Excitation Networks, https://arxiv.org/abs/1709.01507, section 3.

    Args:
        in_channels: Number of channels.
        ratio: Channels / those of the layer between.
        squeeze_channels: Channels of the layer between. Default: by `ratio`, rounded to multiples of
            `divisor`.
        divisor: See `squeeze_channels`.
        bias: Whether the two layers have a bias.
    """

    def __init__(
        self,
        in_channels: int,
        ratio: float = 16,
        squeeze_channels: int | None = None,
        divisor: int = 8,
        bias: bool = True,
    ) -> None:
        super().__init__()
        squeezed = squeeze_channels or max(divisor, round_half_up(in_channels / ratio / divisor) * divisor)
        self.fc1 = nn.Conv2d(in_channels, squeezed, 1, bias=bias)
        self.act = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(squeezed, in_channels, 1, bias=bias)

    def logits(self, pooled: Tensor) -> Tensor:
        """Return the logits of the weights for pooled channels, both (batch, channels, 1, 1)."""
        return self.fc2(self.act(self.fc1(pooled)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, height, width) to the same shape."""
        return x * self.logits(x.mean(dim=(2, 3), keepdim=True)).sigmoid()


@MODELS.register_module()
class ECALayer(nn.Module):
    """Efficient channel attention: weighs each channel by the means of its neighbours.

    Source: ECA-Net, https://arxiv.org/abs/1910.03151, section 3.2.

    Args:
        in_channels: Number of channels.
        kernel_size: Number of neighbours, odd. Default: the odd number next to
            (log2(in_channels) + beta) / gamma.
        gamma: See `kernel_size`.
        beta: See `kernel_size`.
    """

    def __init__(
        self, in_channels: int, kernel_size: int | None = None, gamma: float = 2, beta: float = 1
    ) -> None:
        super().__init__()
        size = kernel_size or max(3, int((math.log2(in_channels) + beta) / gamma) | 1)
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, height, width) to the same shape."""
        weights = self.conv(x.mean(dim=(2, 3)).unsqueeze(1)).sigmoid()
        return x * weights.view(len(x), -1, 1, 1)


@MODELS.register_module()
class CBAM(nn.Module):
    """Weighs channels by their means and maxima, and then positions likewise.

    Source: CBAM, https://arxiv.org/abs/1807.06521, section 3.

    Args:
        in_channels: Number of channels.
        ratio: Channels / those of the layer between.
        kernel_size: Size of the convolution that weighs positions, odd.
    """

    def __init__(self, in_channels: int, ratio: float = 16, kernel_size: int = 7) -> None:
        super().__init__()
        self.channel = SELayer(in_channels, ratio, divisor=1, bias=False)
        conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.spatial = nn.Sequential(
            OrderedDict(conv=nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(1))))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, height, width) to the same shape."""
        pooled = x.mean(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
        x = x * (self.channel.logits(pooled[0]) + self.channel.logits(pooled[1])).sigmoid()
        positions = torch.cat((x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)), dim=1)
        return x * self.spatial(positions).sigmoid()


def round_half_up(value: float) -> int:
    """Return the nearest integer, the larger one of two."""
    return math.floor(value + 0.5)
