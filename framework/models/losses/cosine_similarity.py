"""The loss of BYOL and SimSiam."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from framework.models.layers.precision import at_least_single
from framework.registry import LOSSES


@LOSSES.register_module()
class CosineSimilarityLoss(nn.Module):
    """`shift_factor - scale_factor * cosine` of predictions and targets, averaged.

    Source: SimSiam, https://arxiv.org/abs/2011.10566, equation 1.

    Args:
        shift_factor: Added.
        scale_factor: Factor of the cosine.
    """

    def __init__(self, shift_factor: float = 0.0, scale_factor: float = 1.0) -> None:
        super().__init__()
        self.shift_factor, self.scale_factor = shift_factor, scale_factor

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar.

        Args:
            pred: Predictions (..., channels).
            target: Targets of the same shape.
            mask: (...): 1 for what counts, 0 for what does not. Default: everything counts.
        """
        pred, target = at_least_single(pred), at_least_single(target)
        cosine = (functional.normalize(pred, dim=-1) * functional.normalize(target, dim=-1)).sum(dim=-1)
        loss = self.shift_factor - self.scale_factor * cosine
        return loss.mean() if mask is None else (loss * mask).sum() / mask.sum()
