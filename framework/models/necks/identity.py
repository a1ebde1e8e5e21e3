"""A neck that does nothing."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from framework.registry import NECKS

Features = TypeVar("Features")


@NECKS.register_module()
class Identity(nn.Module):
    """Passes features on as they are."""

    def forward(self, features: Features) -> Features:
        """Return `features`."""
        return features
