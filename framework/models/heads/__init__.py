"""Heads: features to logits."""

from framework.models.heads.cls_head import ClsHead
from framework.models.heads.contrastive_head import ContrastiveHead
from framework.models.heads.deit_head import DeiTClsHead
from framework.models.heads.dino_head import DINOHead
from framework.models.heads.latent_heads import LatentCrossCorrelationHead, LatentPredictHead
from framework.models.heads.linear_head import ClassifierHead, LinearClsHead
from framework.models.heads.mae_head import MAEPretrainHead
from framework.models.heads.mocov3_head import MoCoV3Head
from framework.models.heads.multi_label_head import MultiLabelClsHead, MultiLabelLinearClsHead
from framework.models.heads.simmim_head import SimMIMHead
from framework.models.heads.stacked_head import StackedLinearClsHead
from framework.models.heads.swav_head import SwAVHead
from framework.models.heads.vision_transformer_head import VisionTransformerClsHead

__all__ = [
    "ClassifierHead",
    "ClsHead",
    "ContrastiveHead",
    "DINOHead",
    "DeiTClsHead",
    "LatentCrossCorrelationHead",
    "LatentPredictHead",
    "LinearClsHead",
    "MAEPretrainHead",
    "MoCoV3Head",
    "MultiLabelClsHead",
    "MultiLabelLinearClsHead",
    "SimMIMHead",
    "StackedLinearClsHead",
    "SwAVHead",
    "VisionTransformerClsHead",
]
