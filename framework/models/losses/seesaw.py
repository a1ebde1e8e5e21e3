"""Seesaw loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.errors import ConfigError
from framework.models.losses.reduction import check_reduction, reduce_loss
from framework.registry import LOSSES


@LOSSES.register_module()
class SeesawLoss(nn.Module):
    """Cross entropy for classes of very different frequency.

    Frequent classes push rare ones down less (mitigation), except where the rare one is taken for right
    (compensation). The frequencies are counted in the batches that come by in training.

    Source: Seesaw Loss for Long-Tailed Instance Segmentation, https://arxiv.org/abs/2008.10032, section 3.

    Args:
        use_sigmoid: False; there is only one kind.
        p: Strength of the mitigation.
        q: Strength of the compensation.
        num_classes: Number of classes.
        eps: Least probability that the compensation divides by.
        reduction: `none`, `mean` or `sum`.
        loss_weight: Factor of the loss.

    Raises:
        ConfigError: `use_sigmoid`, or no such reduction.
    """

    cum_samples: Tensor

    def __init__(
        self,
        use_sigmoid: bool = False,
        p: float = 0.8,
        q: float = 2.0,
        num_classes: int = 1000,
        eps: float = 1e-2,
        reduction: str = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if use_sigmoid:
            raise ConfigError("SeesawLoss is a softmax loss: accepted is use_sigmoid=False")
        self.p, self.q, self.eps, self.num_classes = p, q, eps, num_classes
        self.reduction, self.loss_weight = check_reduction(reduction), loss_weight
        self.register_buffer("cum_samples", torch.zeros(num_classes))

    def forward(self, cls_score: Tensor, label: Tensor, avg_factor: float | None = None) -> Tensor:
        """Compute the loss, and count the labels.

        Args:
            cls_score: Logits (batch, num_classes).
            label: Class indices (batch,).
            avg_factor: What a mean divides by. Default: the number of samples.

        Returns:
            A scalar; with reduction `none` (batch,).

        Raises:
            ValueError: Logits and labels do not fit, or are not of `num_classes` classes.
        """
        if label.shape != cls_score.shape[:1] or cls_score.shape[1:] != (self.num_classes,):
            raise ValueError(
                f"SeesawLoss takes logits (batch, {self.num_classes}) and class indices (batch,), got "
                f"{tuple(cls_score.shape)} and {tuple(label.shape)}; mixed labels have no frequency"
            )
        label = label.long()
        self.cum_samples += torch.bincount(label, minlength=self.num_classes)
        factors = self._mitigation(label) * self._compensation(cls_score.detach(), label)
        others = 1 - functional.one_hot(label, self.num_classes)
        loss = functional.cross_entropy(cls_score + factors.log() * others, label, reduction="none")
        return self.loss_weight * reduce_loss(loss, self.reduction, avg_factor)

    def _mitigation(self, label: Tensor) -> Tensor:
        counts = self.cum_samples.clamp(min=1)
        return (counts / counts[label].unsqueeze(1)).clamp(max=1).pow(self.p)

    def _compensation(self, cls_score: Tensor, label: Tensor) -> Tensor:
        scores = cls_score.softmax(dim=1)
        own = scores.gather(1, label.unsqueeze(1)).clamp(min=self.eps)
        return (scores / own).clamp(min=1).pow(self.q)
