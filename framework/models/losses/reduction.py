"""From one loss per element to what is optimised."""

from __future__ import annotations

from torch import Tensor

from framework.errors import ConfigError

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(reduction: str) -> str:
    """Return `reduction` if it is one of `REDUCTIONS`.

    Raises:
        ConfigError: It is not.
    """
    if reduction not in REDUCTIONS:
        raise ConfigError(f"there is no reduction {reduction!r}: accepted are {', '.join(REDUCTIONS)}")
    return reduction


def reduce_loss(loss: Tensor, reduction: str, avg_factor: float | None = None) -> Tensor:
    """Reduce a loss.

    Args:
        loss: Any shape.
        reduction: `none` (unchanged), `mean` or `sum`.
        avg_factor: What `mean` divides the sum by. Default: the number of elements.
    """
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    return loss.mean() if avg_factor is None else loss.sum() / avg_factor
