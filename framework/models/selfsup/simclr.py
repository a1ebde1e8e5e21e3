"""SimCLR."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import get_rank
from torch import Tensor
from torch.nn import functional

from framework.models.layers.collectives import gather
from framework.models.layers.precision import as_it_is, at_least_single
from framework.models.selfsup.base import BaseSelfSupervisor, check_views
from framework.models.selfsup.collapse import embedding_std
from framework.registry import MODELS


@MODELS.register_module()
class SimCLR(BaseSelfSupervisor):
    """Two views of an image attract each other, and repel all views of other images in all processes.

    Source: A Simple Framework for Contrastive Learning of Visual Representations,
        https://arxiv.org/abs/2002.05709, equation 1 and algorithm 1.

    The arguments are those of `BaseSelfSupervisor`; the head is a `ContrastiveHead`.
    """

    def loss(self, inputs: Any, data_samples: Any = None) -> dict[str, Tensor]:
        """Return `loss` and `embedding_std`.

        Args:
            inputs: Two views, each (batch, channels, height, width); batches of the same size in all
                processes.
            data_samples: Of no account.
        """
        views = check_views(inputs, 2, "SimCLR")
        own = functional.normalize(at_least_single(self.embed(torch.cat(views))), dim=1)
        everyone = gather(own)
        anchors, half = len(own), len(own) // 2
        rows = torch.arange(anchors, device=own.device)
        first = get_rank() * anchors if len(everyone) > anchors else 0
        with as_it_is(own):
            similarities = own @ everyone.T
        partners = first + (rows + half) % anchors
        positives = similarities.gather(1, partners[:, None])
        columns = torch.arange(len(everyone), device=own.device)
        others = (columns != (first + rows)[:, None]) & (columns != partners[:, None])
        negatives = similarities[others].view(anchors, -1)
        return {"loss": self.head.loss(positives, negatives), "embedding_std": embedding_std(own)}
