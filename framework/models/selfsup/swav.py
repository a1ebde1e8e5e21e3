"""SwAV."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from framework.models.selfsup.base import BaseSelfSupervisor, check_views
from framework.models.selfsup.collapse import embedding_std, prototype_entropy
from framework.registry import MODELS


@MODELS.register_module()
class SwAV(BaseSelfSupervisor):
    """Each view predicts to which prototypes the other views of its image are assigned.

    Source: Unsupervised Learning of Visual Features by Contrasting Cluster Assignments,
        https://arxiv.org/abs/2006.09882.

    The arguments are those of `BaseSelfSupervisor`; the neck is a `SwAVNeck`, the head a `SwAVHead`. See
    `SwAVHook` for the queue and for prototypes that rest at the beginning.
    """

    def loss(self, inputs: Any, data_samples: Any = None) -> dict[str, Tensor]:
        """Return `loss`, `embedding_std` and `prototype_entropy`.

        Args:
            inputs: Views, each (batch, channels, height, width), as many as the loss's `num_crops` say;
                those of one size one after the other. Batches have the same size in all processes.
            data_samples: Of no account.
        """
        views = check_views(inputs, self.head.loss_module.views, "SwAV")
        sizes = [list(group) for _, group in groupby(views, key=lambda view: view.shape[-2:])]
        embeddings = self.neck([self.backbone(torch.cat(group)) for group in sizes])
        loss = self.head.loss(embeddings)
        return {
            "loss": loss,
            "embedding_std": embedding_std(embeddings[: len(views[0])]),
            "prototype_entropy": prototype_entropy(self.head.loss_module.assignments),
        }
