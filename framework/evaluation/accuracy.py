"""Top-k accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from framework.registry import METRICS


@METRICS.register_module()
class Accuracy(BaseMetric):
    """Share of the samples whose label is among the `k` highest scores: between 0 and 1, not per cent.

    The results are named `accuracy/top1`, `accuracy/top5` and so on. One small integer per sample is kept,
    so that batches of any size, and samples that several processes share, are counted once each.

    Args:
        topk: The values of `k`.
        collect_device: How the processes exchange their results: 'gpu', as they exchange gradients, whatever
            the device; 'cpu', through files in the current folder, which all machines have to share.
        prefix: Replaces `accuracy` in the names.
    """

    default_prefix = "accuracy"

    def __init__(
        self, topk: int | Sequence[int] = (1,), collect_device: str = "gpu", prefix: str | None = None
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)
        if not self.topk or min(self.topk) < 1:
            raise ValueError(f"Accuracy: topk must be one or more numbers from 1, got {topk!r}")

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Note the rank of each sample's label.

        Args:
            data_batch: Not used.
            data_samples: Predictions, each a dict of `scores` of shape `(batch, classes)` and `labels` of
                shape `(batch,)`.
        """
        for sample in data_samples:
            if sample.get("labels") is None:
                raise ValueError("Accuracy needs labels, and this batch has none")
            self.results.extend(label_ranks(sample["scores"], sample["labels"]).tolist())

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        """Return `top{k}` for each `k`."""
        total = max(len(results), 1)
        return {f"top{k}": sum(rank < k for rank in results) / total for k in self.topk}


def label_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Return how many classes are placed before the label's.

    Of equal scores the lower class comes first. A score that is not a number never counts for the label.

    Args:
        scores: Shape `(batch, classes)`.
        labels: Shape `(batch,)`.

    Returns:
        Integers of shape `(batch,)`, 0 where the label has the highest score.
    """
    labels = labels.to(scores.device).long().view(-1, 1)
    own = scores.gather(1, labels)
    classes = torch.arange(scores.shape[1], device=scores.device)
    before = ~(scores <= own) | ((scores == own) & (classes < labels))
    return before.sum(1)
