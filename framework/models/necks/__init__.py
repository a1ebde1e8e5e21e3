"""Necks: features to features."""

from framework.models.necks.global_average_pooling import GlobalAveragePooling
from framework.models.necks.identity import Identity

__all__ = ["GlobalAveragePooling", "Identity"]
