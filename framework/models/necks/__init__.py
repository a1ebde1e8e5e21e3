"""Necks: features to features."""

from framework.models.necks.cls_batch_norm import ClsBatchNormNeck
from framework.models.necks.dino_neck import DINONeck
from framework.models.necks.generalized_mean_pooling import GeneralizedMeanPooling
from framework.models.necks.global_average_pooling import GlobalAveragePooling
from framework.models.necks.identity import Identity
from framework.models.necks.mae_decoder import MAEPretrainDecoder
from framework.models.necks.nonlinear_neck import MoCoV2Neck, NonLinearNeck
from framework.models.necks.simmim_decoder import SimMIMLinearDecoder
from framework.models.necks.swav_neck import SwAVNeck

__all__ = [
    "ClsBatchNormNeck",
    "DINONeck",
    "GeneralizedMeanPooling",
    "GlobalAveragePooling",
    "Identity",
    "MAEPretrainDecoder",
    "MoCoV2Neck",
    "NonLinearNeck",
    "SimMIMLinearDecoder",
    "SwAVNeck",
]
