"""Members of the ResNet family: what they have where the config does not say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from framework.errors import ConfigError
from framework.models.backbones.resnet import ResNet, Variant
from framework.models.layers import build_norm_layer
from framework.models.layers.residual_block import conv3x3
from framework.registry import BACKBONES


@BACKBONES.register_module()
class ResNetV1c(ResNet):
    """ResNet with a deep stem (https://arxiv.org/abs/1812.01187, ResNet-C). Arguments as `ResNet`."""

    variant = Variant(deep_stem=True)


@BACKBONES.register_module()
class ResNetV1d(ResNet):
    """ResNet with a deep stem and average pooling in shortcuts (https://arxiv.org/abs/1812.01187, ResNet-D).

    Arguments as `ResNet`.
    """

    variant = Variant(deep_stem=True, avg_down=True)


@BACKBONES.register_module()
class ResNeXt(ResNet):
    """ResNeXt: 32 groups of 4 channels (https://arxiv.org/abs/1611.05431). Arguments as `ResNet`."""

    variant = Variant(groups=32, width_per_group=4)


@BACKBONES.register_module()
class SEResNet(ResNet):
    """ResNet with squeeze and excitation (https://arxiv.org/abs/1709.01507). Arguments as `ResNet`."""

    variant = Variant(se_ratio=16)


@BACKBONES.register_module()
class SEResNeXt(ResNet):
    """ResNeXt with squeeze and excitation (https://arxiv.org/abs/1709.01507). Arguments as `ResNet`."""

    variant = Variant(groups=32, width_per_group=4, se_ratio=16)


@BACKBONES.register_module(name="ResNet_CIFAR")
class ResNetCIFAR(ResNet):
    """ResNet for images of 32x32: its first convolution keeps the resolution, and no pooling follows.

    Arguments as `ResNet`, without a deep stem.

    Source: https://arxiv.org/abs/1512.03385, section 4.2, for the stem; the stages are those for ImageNet.

    Raises:
        ConfigError: `deep_stem` is True, or an argument's value is not among the accepted ones.
    """

    def _make_stem(
        self, in_channels: int, stem_channels: int, norm_cfg: Mapping[str, Any], deep: bool
    ) -> None:
        if deep:
            raise ConfigError("ResNet_CIFAR has no deep stem: leave deep_stem out, or use ResNet")
        self.conv1 = conv3x3(in_channels, stem_channels)
        self.bn1 = build_norm_layer(norm_cfg, stem_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity()
