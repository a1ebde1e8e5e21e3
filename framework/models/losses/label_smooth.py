"""Cross entropy with smoothed labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from framework.errors import ConfigError
from framework.models.losses.cross_entropy import CrossEntropyLoss, check_label, one_hot_like
from framework.registry import LOSSES

MODES = ("original", "classy_vision", "multi_label")


@LOSSES.register_module()
class LabelSmoothLoss(nn.Module):
    """Cross entropy with labels that leave some probability to the other classes.

    Source: Rethinking the Inception Architecture for Computer Vision, https://arxiv.org/abs/1512.00567,
    section 7. With smoothing s, C classes and a label of probability y, the target is

    - `original`: (1 - s) y + s / C;
    - `classy_vision`: (y + s / C) / (1 + s);
    - `multi_label`: 1 - s for each class that is present (y > 0), s for the others.

    Args:
        label_smooth_val: The smoothing s, 0 <= s < 1.
        num_classes: The number of classes C. Default: that of the logits.
        use_sigmoid: Binary cross entropy for each class. Default: only in mode `multi_label`.
        mode: `original`, `classy_vision` or `multi_label`.
        reduction: `none`, `mean` or `sum`.
        loss_weight: Factor of the loss.

    Raises:
        ConfigError: An argument's value is not among the accepted ones.
    """

    def __init__(
        self,
        label_smooth_val: float,
        num_classes: int | None = None,
        use_sigmoid: bool | None = None,
        mode: str = "original",
        reduction: str = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 <= label_smooth_val < 1:
            raise ConfigError(
                f"label_smooth_val={label_smooth_val!r}: accepted is a number from 0 to below 1"
            )
        if mode not in MODES:
            raise ConfigError(f"LabelSmoothLoss has no mode {mode!r}: accepted are {', '.join(MODES)}")
        self.label_smooth_val = label_smooth_val
        self.num_classes = num_classes
        self.mode = mode
        self.use_sigmoid = mode == "multi_label" if use_sigmoid is None else use_sigmoid
        self.cross_entropy = CrossEntropyLoss(self.use_sigmoid, reduction=reduction, loss_weight=loss_weight)

    def forward(self, cls_score: Tensor, label: Tensor, avg_factor: float | None = None) -> Tensor:
        """Compute the loss.

        Args:
            cls_score: Logits (batch, classes).
            label: Class indices (batch,) or probabilities (batch, classes).
            avg_factor: What a mean divides by. Default: the number of elements.

        Returns:
            A scalar; with reduction `none` one loss per element.

        Raises:
            ValueError: Logits and labels do not fit, or the logits are not of `num_classes` classes.
        """
        check_label(cls_score, label)
        classes = cls_score.shape[1]
        if self.num_classes not in (None, classes):
            raise ValueError(
                f"LabelSmoothLoss is for {self.num_classes} classes, the logits are of {classes}"
            )
        return self.cross_entropy(cls_score, self.smooth(one_hot_like(cls_score, label)), avg_factor)

    def smooth(self, target: Tensor) -> Tensor:
        """Return the smoothed form of probabilities (batch, classes)."""
        s = self.label_smooth_val
        if self.mode == "multi_label":
            return torch.where(target > 0, 1 - s, s).to(target.dtype)
        if self.mode == "classy_vision":
            return (target + s / target.shape[1]) / (1 + s)
        return (1 - s) * target + s / target.shape[1]
