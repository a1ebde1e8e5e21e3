"""The loss of SwAV: prototypes, assignments by Sinkhorn-Knopp, and their prediction from other views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from framework.errors import ConfigError
from framework.models.layers.collectives import gather
from framework.models.layers.precision import as_it_is, at_least_single
from framework.registry import LOSSES


@LOSSES.register_module()
class SwAVLoss(BaseModule):
    """Predicts from each view the assignment of another view to `prototypes`, which are spread evenly.

    Source: Unsupervised Learning of Visual Features by Contrasting Cluster Assignments,
        https://arxiv.org/abs/2006.09882, equations 2 to 5.

    Args:
        feat_dim: Channels of the embeddings.
        sinkhorn_iterations: Iterations of Sinkhorn-Knopp.
        epsilon: How soft assignments are.
        temperature: What similarities are divided by in the prediction.
        crops_for_assign: The views that are assigned.
        num_crops: How many views there are of each size.
        num_prototypes: Number of prototypes.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Attributes:
        queue: Earlier embeddings of all processes (assigned views, length, feat_dim), newest first, zero
            where there is none; or None. They take part in the assignment once the queue is full. See
            `start_queue`.
        assignments: The last assignments (batch, num_prototypes), for the log.

    Raises:
        ConfigError: A view that is to be assigned does not exist.
    """

    queue: Tensor | None

    def __init__(
        self,
        feat_dim: int,
        sinkhorn_iterations: int = 3,
        epsilon: float = 0.05,
        temperature: float = 0.1,
        crops_for_assign: Sequence[int] = (0, 1),
        num_crops: Sequence[int] = (2,),
        num_prototypes: int = 3000,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.views = sum(num_crops)
        if not all(0 <= crop < self.views for crop in crops_for_assign):
            raise ConfigError(
                f"crops_for_assign={tuple(crops_for_assign)}: num_crops makes the views 0 to {self.views - 1}"
            )
        self.sinkhorn_iterations, self.epsilon, self.temperature = sinkhorn_iterations, epsilon, temperature
        self.crops_for_assign = tuple(crops_for_assign)
        self.prototypes = nn.Linear(feat_dim, num_prototypes, bias=False)
        self.register_buffer("queue", None)
        self.queue_in_use = True
        self.assignments: Tensor | None = None

    def start_queue(self, length: int) -> None:
        """Make an empty queue.

        Args:
            length: Embeddings of all processes for each assigned view, a multiple of their batches.
        """
        weight = self.prototypes.weight
        self.queue = weight.new_zeros(len(self.crops_for_assign), length, weight.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            x: Embeddings of length 1 (views * batch, feat_dim), the views one after the other; batches of
                the same size in all processes.
        """
        with torch.no_grad():
            self.prototypes.weight.copy_(functional.normalize(self.prototypes.weight, dim=1))
        embeddings = at_least_single(x).view(self.views, -1, x.shape[-1])
        scores = self._scores(embeddings)
        predictions = (scores / self.temperature).log_softmax(dim=-1)
        losses = []
        for number, crop in enumerate(self.crops_for_assign):
            targets = self._assign(number, embeddings[crop].detach(), scores[crop].detach())
            others = [view for view in range(self.views) if view != crop]
            losses.append(-(targets * predictions[others]).sum(dim=-1).mean())
        return torch.stack(losses).mean()

    def _scores(self, embeddings: Tensor) -> Tensor:
        with as_it_is(embeddings):
            return self.prototypes(embeddings.to(self.prototypes.weight))

    @torch.no_grad()
    def _assign(self, number: int, embeddings: Tensor, scores: Tensor) -> Tensor:
        """Return assignments (batch, num_prototypes) of one view, helped by the queue; fill the queue."""
        batch = len(scores)
        if self.queue is not None and self.queue_in_use:
            if self.queue[number, -1].any():
                earlier = self.queue[number].chunk(get_world_size())[get_rank()].to(embeddings)
                scores = torch.cat([self._scores(earlier), scores])
            if self.training:
                newest = gather(embeddings).to(self.queue)
                self.queue[number] = torch.cat([newest, self.queue[number]])[: self.queue.shape[1]]
        assignments = sinkhorn(scores, self.sinkhorn_iterations, self.epsilon)[-batch:]
        self.assignments = assignments
        return assignments


@torch.no_grad()
def sinkhorn(scores: Tensor, iterations: int = 3, epsilon: float = 0.05) -> Tensor:
    """Return soft assignments that use all prototypes evenly over the samples of all processes.

    Source: the same paper, equation 3 and appendix A; Sinkhorn Distances, https://arxiv.org/abs/1306.0895.

    Args:
        scores: Similarities of samples and prototypes (samples, prototypes), in every process of one shape.
        iterations: Number of times that prototypes, then samples are normalised.
        epsilon: How soft the assignments are.

    Returns:
        Probabilities (samples, prototypes).
    """
    masses = scores / epsilon  # their logarithms, as they may be out of range
    for _ in range(iterations):
        masses = masses - _log_sum_over_samples(masses)
        masses = masses.log_softmax(dim=1)
    return masses.exp()


def _log_sum_over_samples(masses: Tensor) -> Tensor:
    """Return log(sum(exp(masses))) over the samples of all processes, (prototypes,)."""
    highest = masses.max(dim=0).values
    all_reduce(highest, "max")
    total = (masses - highest).exp().sum(dim=0)
    all_reduce(total)
    return highest + total.log()
