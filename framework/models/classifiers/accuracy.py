"""Accuracy of a batch, for the log of the training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def topk_accuracy(scores: Tensor, labels: Tensor, topk: Sequence[int]) -> list[Tensor]:
    """Return, for each k, the share of samples whose label is among the k highest scores, from 0 to 1.

    Args:
        scores: (batch, classes), logits or probabilities.
        labels: Class indices (batch,).
        topk: The values of k; with k above the number of classes, all samples are right.
    """
    ranked = scores.topk(min(max(topk), scores.shape[1]), dim=1).indices
    hits = ranked == labels.view(-1, 1)
    return [hits[:, :k].any(dim=1).float().mean() for k in topk]
