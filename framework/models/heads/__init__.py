"""Heads: features to logits."""

from framework.models.heads.cls_head import ClsHead
from framework.models.heads.linear_head import ClassifierHead, LinearClsHead
from framework.models.heads.vision_transformer_head import VisionTransformerClsHead

__all__ = ["ClassifierHead", "ClsHead", "LinearClsHead", "VisionTransformerClsHead"]
