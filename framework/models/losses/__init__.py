"""Losses: logits and labels to what is optimised."""

from framework.models.losses.cosine_similarity import CosineSimilarityLoss
from framework.models.losses.cross_correlation import CrossCorrelationLoss
from framework.models.losses.cross_entropy import CrossEntropyLoss
from framework.models.losses.focal import AsymmetricLoss, FocalLoss
from framework.models.losses.label_smooth import LabelSmoothLoss
from framework.models.losses.reconstruction import PixelReconstructionLoss
from framework.models.losses.seesaw import SeesawLoss
from framework.models.losses.swav import SwAVLoss

__all__ = [
    "AsymmetricLoss",
    "CosineSimilarityLoss",
    "CrossCorrelationLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "LabelSmoothLoss",
    "PixelReconstructionLoss",
    "SeesawLoss",
    "SwAVLoss",
]
