"""The values of a tensor in a few numbers and a histogram, without holding them all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.pretrain.checkpoint import LazyTensor

#: Bars of a histogram.
BINS = 48

#: Elements that are looked at together.
CHUNK = 1 << 18


@dataclass(frozen=True)
class Summary:
    """What the values of a tensor are like.

    Attributes:
        elements: How many there are; a complex number counts as two.
        finite: How many of them are numbers, neither NaN nor infinite.
        nan: How many are NaN.
        zeros: How many are exactly zero.
        low: The smallest finite value; 0 where there is none.
        high: The largest finite value; 0 where there is none.
        mean: Mean of the finite values.
        std: Their standard deviation, of the population.
        bars: How many finite values lie in each of `BINS` intervals of equal width from `low` to `high`, the
            last one closed; a single bar where all values are equal, none where there is none.
    """

    elements: int
    finite: int
    nan: int
    zeros: int
    low: float
    high: float
    mean: float
    std: float
    bars: tuple[int, ...]


def summarise(tensor: LazyTensor) -> Summary:
    """Look at all values of a tensor once for the range, and once more for the histogram.

    Needed memory is that of a few chunks where the file can be mapped, and of the tensor otherwise.
    Of types that torch stores but cannot calculate with (packed 4 bits), only the elements are counted.

    Raises:
        CheckpointError: The file is not what it was, or damaged.
    """
    values = _flat(tensor.map())
    if not has_numbers(values.dtype):
        return Summary(values.numel(), 0, 0, 0, 0.0, 0.0, 0.0, 0.0, ())
    elements = finite = nan = zeros = 0
    low, high, mean, spread = math.inf, -math.inf, 0.0, 0.0
    for chunk in _chunks(values):
        good, bad = _finite(chunk)
        elements, nan = elements + chunk.numel(), nan + bad
        if good.numel() == 0:
            continue
        smallest, largest = (float(v) for v in good.aminmax())
        low, high = min(low, smallest), max(high, largest)
        zeros += good.numel() - int(good.count_nonzero())
        here = float(good.mean())
        delta, total = here - mean, finite + good.numel()
        spread += float((good - here).square_().sum())
        spread += delta * delta * finite * good.numel() / total
        mean += delta * good.numel() / total
        finite = total
    if finite == 0:
        return Summary(elements, 0, nan, 0, 0.0, 0.0, 0.0, 0.0, ())
    std = math.sqrt(spread / finite)
    return Summary(elements, finite, nan, zeros, low, high, mean, std, _bars(values, low, high))


def has_numbers(dtype: torch.dtype) -> bool:
    """Tell whether torch can calculate with the values of a type."""
    try:
        torch.empty(1, dtype=dtype).to(torch.complex128)
    except NotImplementedError:
        return False
    return True


def _bars(values: Tensor, low: float, high: float) -> tuple[int, ...]:
    if low == high:
        return (sum(_finite(chunk)[0].numel() for chunk in _chunks(values)),)
    counts = torch.zeros(BINS, dtype=torch.float64)
    for chunk in _chunks(values):
        counts += torch.histc(_finite(chunk)[0], BINS, low, high)
    return tuple(counts.long().tolist())


def _flat(values: Tensor) -> Tensor:
    """Return the values in one dimension; complex ones as pairs."""
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    return values.reshape(-1)


def _chunks(values: Tensor) -> Iterator[Tensor]:
    """Yield the values piece by piece, in double precision: squares of the largest floats stay finite."""
    for start in range(0, values.numel(), CHUNK):
        yield values[start : start + CHUNK].double()


def _finite(chunk: Tensor) -> tuple[Tensor, int]:
    """Return the finite values, and how many of the others are NaN."""
    if chunk.numel() == 0 or all(math.isfinite(float(v)) for v in chunk.aminmax()):
        return chunk, 0
    return chunk[chunk.isfinite()], int(chunk.isnan().sum())
