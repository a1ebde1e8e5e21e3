"""Losses: logits and labels to what is optimised."""

from framework.models.losses.cross_entropy import CrossEntropyLoss
from framework.models.losses.focal import AsymmetricLoss, FocalLoss
from framework.models.losses.label_smooth import LabelSmoothLoss
from framework.models.losses.reconstruction import PixelReconstructionLoss
from framework.models.losses.seesaw import SeesawLoss

__all__ = [
    "AsymmetricLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "LabelSmoothLoss",
    "PixelReconstructionLoss",
    "SeesawLoss",
]
