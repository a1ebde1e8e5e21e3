"""Classification by the nearest neighbours: how well features tell classes apart, without training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from framework.errors import ConfigError

#: Test features that are compared with all training features at a time.
CHUNK = 1024


def knn_accuracy(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    k: int = 20,
    temperature: float = 0.07,
    topk: Sequence[int] = (1, 5),
) -> dict[str, float]:
    """Return the accuracy of a weighted vote of the `k` most similar training features.

    The similarity is the cosine, and a neighbour's vote counts `exp(similarity / temperature)`. Of classes
    with equal votes the lower comes first, and a class without votes is no answer.

    Source: Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination"
        (https://arxiv.org/abs/1805.01978), section 3.4; Caron et al., "Emerging Properties in Self-Supervised
        Vision Transformers" (https://arxiv.org/abs/2104.14294), section 4.1, for `k` and `temperature`.

    Args:
        train: Features (images, channels) and class indices (images,) that vote.
        test: Features and class indices that are classified.
        k: Number of neighbours; all, if there are fewer.
        temperature: Small values let the nearest decide.
        topk: For which places the accuracy is returned.

    Returns:
        `top{n}` for each n of `topk`: the share of the test features whose class is among the n with the most
        votes, between 0 and 1.

    Raises:
        ConfigError: A setting is out of range, or features and labels do not belong together.
    """
    _check(train, test, k, temperature)
    bank, labels = functional.normalize(train[0].float(), dim=1), train[1].long()
    classes = int(max(labels.max(), test[1].max())) + 1
    ranks = [
        _ranks(_votes(chunk, bank, labels, classes, min(k, len(bank)), temperature), truth.long())
        for chunk, truth in zip(test[0].float().split(CHUNK), test[1].split(CHUNK), strict=True)
    ]
    rank = torch.cat(ranks)
    return {f"top{n}": (rank < n).double().mean().item() for n in topk}


def _votes(
    features: Tensor, bank: Tensor, labels: Tensor, classes: int, k: int, temperature: float
) -> Tensor:
    """Return the votes for each class: (features, classes)."""
    similarity, nearest = (functional.normalize(features, dim=1) @ bank.T).topk(k, dim=1)
    # the same factor for all classes of a row keeps small temperatures finite
    weights = ((similarity - similarity[:, :1]) / temperature).exp()
    votes = weights.new_zeros(len(features), classes)
    return votes.scatter_add_(1, labels[nearest], weights)


def _ranks(votes: Tensor, labels: Tensor) -> Tensor:
    """Return how many classes are placed before the label's; a class without votes comes after all others."""
    order = votes.argsort(dim=1, descending=True, stable=True)
    ranks = (order == labels[:, None]).int().argmax(dim=1)
    return ranks.where(votes.gather(1, labels[:, None])[:, 0] > 0, votes.shape[1])


def _check(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], k: int, temperature: float) -> None:
    if k < 1 or temperature <= 0:
        raise ConfigError(f"knn: expected k >= 1 and temperature > 0, got k={k}, temperature={temperature}")
    for name, (features, labels) in (("train", train), ("test", test)):
        if features.ndim != 2 or labels.shape != features.shape[:1] or not len(labels):
            raise ConfigError(
                f"knn: {name} has features of shape {tuple(features.shape)} and labels of shape "
                f"{tuple(labels.shape)}; expected (images, channels) and (images,)"
            )
    if train[0].shape[1] != test[0].shape[1]:
        raise ConfigError(
            f"knn: features for training have {train[0].shape[1]} channels, for testing {test[0].shape[1]}"
        )
