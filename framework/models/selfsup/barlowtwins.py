"""Barlow Twins."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from framework.models.selfsup.base import BaseSelfSupervisor, check_views
from framework.models.selfsup.collapse import embedding_std
from framework.registry import MODELS


@MODELS.register_module()
class BarlowTwins(BaseSelfSupervisor):
    """Each channel of one view correlates with the same channel of the other view, and with no other one.

    Source: Barlow Twins, https://arxiv.org/abs/2103.03230, equation 1.

    The arguments are those of `BaseSelfSupervisor`; the head is a `LatentCrossCorrelationHead`.
    """

    def loss(self, inputs: Any, data_samples: Any = None) -> dict[str, Tensor]:
        """Return `loss` and `embedding_std`.

        Args:
            inputs: Two views, each (batch, channels, height, width); batches of the same size in all
                processes.
            data_samples: Of no account.
        """
        first, second = [self.embed(view) for view in check_views(inputs, 2, "BarlowTwins")]
        return {"loss": self.head.loss(first, second), "embedding_std": embedding_std(first)}
