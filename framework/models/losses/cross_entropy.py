"""Cross entropy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.errors import ConfigError
from framework.models.losses.reduction import check_reduction, reduce_loss
from framework.registry import LOSSES


@LOSSES.register_module()
class CrossEntropyLoss(nn.Module):
    """Cross entropy of logits and labels, which may be class indices or one probability per class.

    Args:
        use_sigmoid: Whether each class is a decision of its own (binary cross entropy) instead of one among
            all.
        use_soft: Whether labels are probabilities. They are recognised without it, too.
        reduction: `none`, `mean` or `sum`.
        loss_weight: Factor of the loss.
        class_weight: One factor per class. A mean divides by the number of samples, not by the sum of their
            weights.
        pos_weight: With `use_sigmoid`, one factor per class for the positive decisions.

    Raises:
        ConfigError: `use_sigmoid` and `use_soft` together, or no such reduction.
    """

    def __init__(
        self,
        use_sigmoid: bool = False,
        use_soft: bool = False,
        reduction: str = "mean",
        loss_weight: float = 1.0,
        class_weight: Sequence[float] | None = None,
        pos_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if use_sigmoid and use_soft:
            raise ConfigError("CrossEntropyLoss: use_sigmoid and use_soft exclude each other")
        self.use_sigmoid = use_sigmoid
        self.use_soft = use_soft
        self.reduction = check_reduction(reduction)
        self.loss_weight = loss_weight
        self.class_weight = class_weight
        self.pos_weight = pos_weight

    def forward(self, cls_score: Tensor, label: Tensor, avg_factor: float | None = None) -> Tensor:
        """Compute the loss.

        Args:
            cls_score: Logits (batch, classes).
            label: Class indices (batch,) or probabilities (batch, classes).
            avg_factor: What a mean divides by. Default: the number of elements, which with `use_sigmoid` is
                batch * classes, else batch.

        Returns:
            A scalar; with reduction `none` (batch,), with `use_sigmoid` (batch, classes).

        Raises:
            ValueError: Logits and labels do not fit.
        """
        check_label(cls_score, label)
        class_weight = _like(cls_score, self.class_weight)
        if self.use_sigmoid:
            target = one_hot_like(cls_score, label)
            pos_weight = _like(cls_score, self.pos_weight)
            loss = functional.binary_cross_entropy_with_logits(
                cls_score, target, weight=class_weight, pos_weight=pos_weight, reduction="none"
            )
        else:
            target = label.long() if label.ndim == 1 else label.to(cls_score.dtype)
            loss = functional.cross_entropy(cls_score, target, weight=class_weight, reduction="none")
        return self.loss_weight * reduce_loss(loss, self.reduction, avg_factor)


def check_label(cls_score: Tensor, label: Tensor) -> None:
    """Check that labels fit logits.

    Raises:
        ValueError: They do not.
    """
    expected = (tuple(cls_score.shape[:1]), tuple(cls_score.shape))
    if tuple(label.shape) not in expected:
        raise ValueError(
            f"logits of shape {expected[1]} take labels of shape {expected[0]} (class indices) or "
            f"{expected[1]} (probabilities), got {tuple(label.shape)}: is num_classes the same everywhere?"
        )


def one_hot_like(cls_score: Tensor, label: Tensor) -> Tensor:
    """Return labels as probabilities of the shape and dtype of `cls_score` (batch, classes)."""
    if label.ndim == cls_score.ndim:
        return label.to(cls_score.dtype)
    return torch.zeros_like(cls_score).scatter_(1, label.long().unsqueeze(1), 1.0)


def _like(cls_score: Tensor, values: Sequence[float] | None) -> Tensor | None:
    return None if values is None else cls_score.new_tensor(values)
