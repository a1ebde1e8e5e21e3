"""From our names and shapes of a network to the arguments of the class that builds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]


def guess_arguments(family: str, shapes: Shapes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what can be told of a network, and the config of the backbone that it fills.

    Args:
        family: Name of its table.
        shapes: Our name -> shape.

    Returns:
        Figures (depth, width, ...), and `type` with arguments; both empty where nothing can be told.
    """
    del family, shapes
    return {}, {}
