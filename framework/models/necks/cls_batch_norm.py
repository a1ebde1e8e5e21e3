"""Batch normalisation before a linear classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from framework.registry import NECKS


@NECKS.register_module()
class ClsBatchNormNeck(BaseModule):
    """Batch normalisation of features, `bn`, for linear probing.

    Source: Masked Autoencoders Are Scalable Vision Learners, https://arxiv.org/abs/2111.06377, appendix A.1.

    Args:
        num_features: Channels of the features.
        affine: Whether there is a weight and a bias.
        eps: Added to the variance.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
    """

    def __init__(
        self,
        num_features: int,
        affine: bool = False,
        eps: float = 1e-6,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.bn = nn.BatchNorm1d(num_features, affine=affine, eps=eps)

    def forward(self, features: Tensor | Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
        """Normalise each feature (batch, num_features); a tuple where several came in."""
        if isinstance(features, Tensor):
            return self.bn(features)
        return tuple(self.bn(feature) for feature in features)
