"""The values of all tensors of a file in a few numbers, read one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256

from framework.inspection.histogram import has_numbers, summarise
from framework.pretrain.checkpoint import LazyTensor
from framework.pretrain.formats.lazy import HeldTensor
from framework.pretrain.inventory import Inventory


@dataclass(frozen=True)
class TensorStats:
    """What the values of a tensor are like.

    Attributes:
        mean: Mean of the finite values; None where there is none, or none that torch can calculate with.
        std: Their standard deviation.
        low: The smallest of them.
        high: The largest of them.
        zero_share: Share of zeros among all values, in [0, 1].
        nan: How many are NaN.
        infinite: How many are infinite.
        equals: Key of an earlier tensor of the same type, shape and values, or None. Where all values of a
            tensor are one and the same, as a fresh bias's are, that is not looked for.
    """

    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    zero_share: float
    nan: int
    infinite: int
    equals: str | None


def stats_of(file: Inventory, pattern: str = "*") -> Iterator[tuple[str, TensorStats]]:
    """Yield key and statistics of every tensor; memory is needed for one tensor at a time.

    Args:
        file: The tensors.
        pattern: Of the keys to look at, a glob.

    Raises:
        CheckpointError: The file is not what it was, or damaged.
    """
    seen: dict[tuple[object, ...], str] = {}
    for one in file.tensors.values():
        if fnmatchcase(one.key, pattern):
            yield one.key, _stats(one.key, one.tensor, seen)


def _stats(key: str, tensor: LazyTensor, seen: dict[tuple[object, ...], str]) -> TensorStats:
    import torch

    values = tensor.read()
    digest = sha256(values.reshape(-1).view(torch.uint8).numpy().data).digest() if values.numel() else b""
    summary = summarise(HeldTensor(values))
    varies = summary.low != summary.high or summary.finite < summary.elements
    first = seen.setdefault((tensor.kind, tensor.shape, digest), key) if varies else key
    return TensorStats(
        mean=summary.mean if summary.finite else None,
        std=summary.std if summary.finite else None,
        low=summary.low if summary.finite else None,
        high=summary.high if summary.finite else None,
        zero_share=summary.zeros / max(summary.elements, 1),
        nan=summary.nan,
        infinite=summary.elements - summary.finite - summary.nan if has_numbers(values.dtype) else 0,
        equals=first if first != key else None,
    )
