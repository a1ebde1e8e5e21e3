"""The residual blocks of ResNets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from framework.models.layers.channel_attention import SELayer
from framework.models.layers.drop_path import build_drop_path
from framework.models.layers.norm import build_norm_layer
from framework.models.layers.plugins import PluginPlan


@dataclass(frozen=True)
class BlockOptions:
    """What all residual blocks of a network share, by the names that `ResNet` has for it."""

    base_channels: int
    expansion: int
    style: str
    avg_down: bool
    with_cp: bool
    norm_cfg: Mapping[str, Any]
    drop_path_rate: float
    groups: int
    width_per_group: int | None
    se_ratio: float | None
    plan: PluginPlan

    def width(self, mid: int) -> int:
        """Return the channels of a grouped 3x3 convolution that has `mid` channels in a plain ResNet."""
        if self.width_per_group is None:
            return mid
        return mid * self.width_per_group * self.groups // self.base_channels


@dataclass(frozen=True)
class BlockShape:
    """Stage, channels, stride and dilation of one residual block."""

    stage: int
    in_channels: int
    out_channels: int
    stride: int
    dilation: int


class ResidualBlock(nn.Module):
    """What the two kinds of residual blocks share: the shortcut, and its sum with the branch."""

    expansion = 1
    positions: tuple[str, ...] = ()

    def __init__(self, shape: BlockShape, options: BlockOptions) -> None:
        super().__init__()
        self.with_cp = options.with_cp
        self.make_branch(shape, options)
        ratio = options.se_ratio
        self.se = nn.Identity() if ratio is None else SELayer(shape.out_channels, ratio)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_downsample(shape, options)
        self.drop_path = build_drop_path(options.drop_path_rate)

    def make_branch(self, shape: BlockShape, options: BlockOptions) -> None:
        """Create the layers of the residual branch."""
        raise NotImplementedError

    def branch(self, x: Tensor) -> Tensor:
        """Return the residual branch of `x`."""
        raise NotImplementedError

    def last_norm(self) -> nn.Module:
        """Return the normalisation layer at the end of the branch, which has a weight."""
        raise NotImplementedError

    def residual(self, x: Tensor) -> Tensor:
        """Return shortcut plus branch, before the last activation."""
        out = self.drop_path(self.branch(x))
        out += x if self.downsample is None else self.downsample(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to (batch, out_channels, h / stride, w / stride)."""
        if self.with_cp and x.requires_grad:
            return self.relu(checkpoint(self.residual, x, use_reentrant=False))
        return self.relu(self.residual(x))


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions, for ResNet-18 and 34 (https://arxiv.org/abs/1512.03385, figure 5, left)."""

    positions = ("after_conv1", "after_conv2")

    def make_branch(self, shape: BlockShape, options: BlockOptions) -> None:
        """Create the layers of the residual branch."""
        mid = shape.out_channels // options.expansion
        self.conv1 = conv3x3(shape.in_channels, mid, shape.stride, shape.dilation)
        self.bn1 = build_norm_layer(options.norm_cfg, mid)
        self.conv2 = conv3x3(mid, shape.out_channels)
        self.bn2 = build_norm_layer(options.norm_cfg, shape.out_channels)
        self.after_conv1 = make_plugins("after_conv1", shape, options, mid)
        self.after_conv2 = make_plugins("after_conv2", shape, options, shape.out_channels)

    def branch(self, x: Tensor) -> Tensor:
        """Return the residual branch of `x`."""
        x = self.after_conv1(self.relu(self.bn1(self.conv1(x))))
        return self.after_conv2(self.se(self.bn2(self.conv2(x))))

    def last_norm(self) -> nn.Module:
        """Return the normalisation layer at the end of the branch."""
        return self.bn2


class Bottleneck(ResidualBlock):
    """1x1, 3x3, 1x1 convolutions, for the deeper ones (https://arxiv.org/abs/1512.03385, figure 5, right)."""

    expansion = 4
    positions = ("after_conv1", "after_conv2", "after_conv3")

    def make_branch(self, shape: BlockShape, options: BlockOptions) -> None:
        """Create the layers of the residual branch."""
        mid = options.width(shape.out_channels // options.expansion)
        first, second = (1, shape.stride) if options.style == "pytorch" else (shape.stride, 1)
        self.conv1 = conv1x1(shape.in_channels, mid, first)
        self.bn1 = build_norm_layer(options.norm_cfg, mid)
        self.conv2 = conv3x3(mid, mid, second, shape.dilation, options.groups)
        self.bn2 = build_norm_layer(options.norm_cfg, mid)
        self.conv3 = conv1x1(mid, shape.out_channels)
        self.bn3 = build_norm_layer(options.norm_cfg, shape.out_channels)
        self.after_conv1 = make_plugins("after_conv1", shape, options, mid)
        self.after_conv2 = make_plugins("after_conv2", shape, options, mid)
        self.after_conv3 = make_plugins("after_conv3", shape, options, shape.out_channels)

    def branch(self, x: Tensor) -> Tensor:
        """Return the residual branch of `x`."""
        x = self.after_conv1(self.relu(self.bn1(self.conv1(x))))
        x = self.after_conv2(self.relu(self.bn2(self.conv2(x))))
        return self.after_conv3(self.se(self.bn3(self.conv3(x))))

    def last_norm(self) -> nn.Module:
        """Return the normalisation layer at the end of the branch."""
        return self.bn3


def make_plugins(position: str, shape: BlockShape, options: BlockOptions, channels: int) -> nn.Module:
    """Return the plugins of one position, or an identity."""
    return options.plan.build(position, shape.stage, channels) or nn.Identity()


def make_downsample(shape: BlockShape, options: BlockOptions) -> nn.Sequential | None:
    """Return what brings the shortcut to the shape of the branch, or None where it has that shape."""
    if shape.stride == 1 and shape.in_channels == shape.out_channels:
        return None
    norm = build_norm_layer(options.norm_cfg, shape.out_channels)
    if not options.avg_down:
        return nn.Sequential(conv1x1(shape.in_channels, shape.out_channels, shape.stride), norm)
    pool: nn.Module = nn.Identity()
    if shape.stride > 1:
        pool = nn.AvgPool2d(shape.stride, shape.stride, ceil_mode=True, count_include_pad=False)
    return nn.Sequential(pool, conv1x1(shape.in_channels, shape.out_channels), norm)


def conv3x3(
    in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Return a 3x3 convolution without bias that keeps the resolution at stride 1."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, dilation, dilation, groups, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 1x1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
