"""Losses: logits and labels to what is optimised."""

from framework.models.losses.cross_entropy import CrossEntropyLoss
from framework.models.losses.label_smooth import LabelSmoothLoss

__all__ = ["CrossEntropyLoss", "LabelSmoothLoss"]
