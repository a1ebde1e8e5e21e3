"""Members of the ResNet family: what they have where the config does not say it."""

from __future__ import annotations

from framework.models.backbones.resnet import ResNet, Variant
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
