"""Backbones: images to features."""

from framework.models.backbones.base import BaseBackbone
from framework.models.backbones.beit import BEiTViT
from framework.models.backbones.convnext import ConvNeXt
from framework.models.backbones.deit import DeiT3, DistilledVisionTransformer
from framework.models.backbones.huggingface_backbone import HuggingFaceBackbone
from framework.models.backbones.resnet import ResNet
from framework.models.backbones.resnet_variants import (
    ResNetCIFAR,
    ResNetV1c,
    ResNetV1d,
    ResNeXt,
    SEResNet,
    SEResNeXt,
)
from framework.models.backbones.swin_transformer import SwinTransformer
from framework.models.backbones.swin_transformer_v2 import SwinTransformerV2
from framework.models.backbones.timm_backbone import TimmBackbone
from framework.models.backbones.torchvision_backbone import TorchvisionBackbone
from framework.models.backbones.vision_transformer import VisionTransformer

__all__ = [
    "BEiTViT",
    "BaseBackbone",
    "ConvNeXt",
    "DeiT3",
    "DistilledVisionTransformer",
    "HuggingFaceBackbone",
    "ResNeXt",
    "ResNet",
    "ResNetCIFAR",
    "ResNetV1c",
    "ResNetV1d",
    "SEResNeXt",
    "SEResNet",
    "SwinTransformer",
    "SwinTransformerV2",
    "TimmBackbone",
    "TorchvisionBackbone",
    "VisionTransformer",
]
