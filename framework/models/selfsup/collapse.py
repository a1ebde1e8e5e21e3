"""Numbers that tell whether a method has collapsed: whether everything is mapped to the same."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor
from torch.nn import functional

from framework.models.layers.precision import at_least_single


@torch.no_grad()
def embedding_std(embeddings: Tensor) -> Tensor:
    """Return how far normalised embeddings are spread: about 1 over the whole sphere, 0 in one point.

    It is the standard deviation of each channel, averaged and multiplied by the root of their number.

    Source: Exploring Simple Siamese Representation Learning, https://arxiv.org/abs/2011.10566, section 4.1,
        which shows the deviation without that factor.

    Args:
        embeddings: (batch, channels).
    """
    normalised = functional.normalize(at_least_single(embeddings), dim=-1)
    return normalised.std(dim=0, correction=0).mean() * embeddings.shape[-1] ** 0.5


@torch.no_grad()
def prototype_entropy(assignments: Tensor) -> Tensor:
    """Return how evenly a batch uses the prototypes: 1 if all alike, 0 if only one.

    It is the entropy of the mean assignment, divided by that of the even one.

    Args:
        assignments: Probabilities (batch, prototypes).
    """
    mean = at_least_single(assignments).mean(dim=0)
    return torch.special.entr(mean / mean.sum()).sum() / log(len(mean))
