"""The loss of Barlow Twins."""

from __future__ import annotations

from torch import Tensor, nn

from framework.registry import LOSSES


@LOSSES.register_module()
class CrossCorrelationLoss(nn.Module):
    """How far a matrix of correlations is from the identity.

    Source: Barlow Twins, https://arxiv.org/abs/2103.03230, equation 1.

    Args:
        lambd: Weight of what is off the diagonal.
    """

    def __init__(self, lambd: float = 0.0051) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, cross_correlation_matrix: Tensor) -> Tensor:
        """Return the loss, a scalar, of correlations (channels, channels)."""
        diagonal = cross_correlation_matrix.diagonal()
        on_diagonal = (1 - diagonal).square().sum()
        off_diagonal = cross_correlation_matrix.square().sum() - diagonal.square().sum()
        return on_diagonal + self.lambd * off_diagonal
