"""SimSiam."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from framework.models.selfsup.base import BaseSelfSupervisor, check_views
from framework.models.selfsup.collapse import embedding_std
from framework.registry import MODELS


@MODELS.register_module()
class SimSiam(BaseSelfSupervisor):
    """A network predicts from one view what it makes of the other view.

    Source: Exploring Simple Siamese Representation Learning, https://arxiv.org/abs/2011.10566, equation 4.

    The arguments are those of `BaseSelfSupervisor`; the head is a `LatentPredictHead`. See `SimSiamHook` for
    the predictor's learning rate. Files of the official code have a bias before the projector's last
    normalisation, which takes it out again: it is reported as left out, unless `with_last_bias` asks for it.
    """

    def loss(self, inputs: Any, data_samples: Any = None) -> dict[str, Tensor]:
        """Return `loss`, from -1 to 1, and `embedding_std`.

        Args:
            inputs: Two views, each (batch, channels, height, width).
            data_samples: Of no account.
        """
        first, second = [self.embed(view) for view in check_views(inputs, 2, "SimSiam")]
        loss = 0.5 * (self.head.loss(first, second) + self.head.loss(second, first))
        return {"loss": loss, "embedding_std": embedding_std(first)}
