"""Necks: features to features."""

from framework.models.necks.cls_batch_norm import ClsBatchNormNeck
from framework.models.necks.generalized_mean_pooling import GeneralizedMeanPooling
from framework.models.necks.global_average_pooling import GlobalAveragePooling
from framework.models.necks.identity import Identity
from framework.models.necks.mae_decoder import MAEPretrainDecoder

__all__ = [
    "ClsBatchNormNeck",
    "GeneralizedMeanPooling",
    "GlobalAveragePooling",
    "Identity",
    "MAEPretrainDecoder",
]
