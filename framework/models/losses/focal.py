"""Losses that look away from easy decisions."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from framework.models.losses.cross_entropy import check_label, one_hot_like
from framework.models.losses.reduction import check_reduction, reduce_loss
from framework.registry import LOSSES


@LOSSES.register_module()
class FocalLoss(nn.Module):
    """Binary cross entropy of each class, times the error of its probability to a power.

    Source: Focal Loss for Dense Object Detection, https://arxiv.org/abs/1708.02002, equation 5.

    Args:
        gamma: The power.
        alpha: Weight of the classes that are present; that of the others is 1 - alpha.
        reduction: `none`, `mean` or `sum`.
        loss_weight: Factor of the loss.

    Raises:
        ConfigError: No such reduction.
    """

    def __init__(
        self, gamma: float = 2.0, alpha: float = 0.25, reduction: str = "mean", loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.gamma, self.alpha, self.loss_weight = gamma, alpha, loss_weight
        self.reduction = check_reduction(reduction)

    def forward(self, cls_score: Tensor, label: Tensor, avg_factor: float | None = None) -> Tensor:
        """Compute the loss.

        Args:
            cls_score: Logits (batch, classes).
            label: Class indices (batch,) or probabilities (batch, classes).
            avg_factor: What a mean divides by. Default: the number of elements, batch * classes.

        Returns:
            A scalar; with reduction `none` (batch, classes).

        Raises:
            ValueError: Logits and labels do not fit.
        """
        check_label(cls_score, label)
        target = one_hot_like(cls_score, label)
        score = cls_score.sigmoid()
        error = (1 - score) * target + score * (1 - target)
        weight = self.alpha * target + (1 - self.alpha) * (1 - target)
        loss = functional.binary_cross_entropy_with_logits(cls_score, target, reduction="none")
        loss = loss * weight * error.pow(self.gamma)
        return self.loss_weight * reduce_loss(loss, self.reduction, avg_factor)


@LOSSES.register_module()
class AsymmetricLoss(nn.Module):
    """Binary cross entropy of each class, focused by different powers on present and absent classes.

    Source: Asymmetric Loss For Multi-Label Classification, https://arxiv.org/abs/2009.14119, equation 7.

    Args:
        gamma_pos: The power for classes that are present.
        gamma_neg: The power for classes that are absent.
        clip: Probabilities of absent classes are lowered by this margin, those below it count as 0.
        reduction: `none`, `mean` or `sum`.
        loss_weight: Factor of the loss.
        use_sigmoid: Whether each class is a decision of its own, or else one among all (softmax).
        eps: Least argument of the logarithm.

    Raises:
        ConfigError: No such reduction.
    """

    def __init__(
        self,
        gamma_pos: float = 0.0,
        gamma_neg: float = 4.0,
        clip: float | None = 0.05,
        reduction: str = "mean",
        loss_weight: float = 1.0,
        use_sigmoid: bool = True,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        self.gamma_pos, self.gamma_neg, self.clip = gamma_pos, gamma_neg, clip or 0.0
        self.reduction = check_reduction(reduction)
        self.loss_weight, self.use_sigmoid, self.eps = loss_weight, use_sigmoid, eps

    def forward(self, cls_score: Tensor, label: Tensor, avg_factor: float | None = None) -> Tensor:
        """Compute the loss.

        Args:
            cls_score: Logits (batch, classes).
            label: Class indices (batch,) or probabilities (batch, classes).
            avg_factor: What a mean divides by. Default: the number of elements, batch * classes.

        Returns:
            A scalar; with reduction `none` (batch, classes).

        Raises:
            ValueError: Logits and labels do not fit.
        """
        check_label(cls_score, label)
        target = one_hot_like(cls_score, label)
        score = cls_score.sigmoid() if self.use_sigmoid else cls_score.softmax(dim=-1)
        absent = (1 - score + self.clip).clamp(max=1)
        right = score * target + absent * (1 - target)
        power = self.gamma_pos * target + self.gamma_neg * (1 - target)
        loss = -right.clamp(min=self.eps).log() * (1 - right).pow(power)
        return self.loss_weight * reduce_loss(loss, self.reduction, avg_factor)
