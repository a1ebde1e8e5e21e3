"""The order of the training data: known for every epoch, and entered in the middle without reading.

What a worker draws for an item depends on the seed of the run, the epoch and the item's place in it, however
many workers there are, how long they have lived, and where the epoch was entered.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Draw(NamedTuple):
    """An item of a dataset, and the seed of what is drawn for it."""

    index: Any
    seed: int


class DataOrder:
    """A sampler, or a batch sampler, that can be entered in the middle.

    Everything else that is asked of it comes from the sampler.

    Args:
        sampler: Yields indices, or lists of them.
        seed: Seed of the first pass.
        for_workers: Whether the indices are to carry seeds.
    """

    def __init__(self, sampler: Any, seed: int, *, for_workers: bool) -> None:
        self.inner = sampler
        self._seed = seed
        self._for_workers = for_workers
        self._begun: Iterator[Any] | None = None
        self._position = 0

    def begin(self, seed: int) -> None:
        """Say with which seed the next pass begins."""
        self._seed, self._begun, self._position = seed, None, 0

    def skip(self, count: int) -> None:
        """Let the next pass begin after `count` of what the sampler yields."""
        self._begun = iter(self.inner)
        for _ in range(count):
            skipped = next(self._begun, None)
            self._position += len(skipped) if isinstance(skipped, (list, tuple)) else 1

    def __iter__(self) -> Iterator[Any]:
        begun = iter(self.inner) if self._begun is None else self._begun
        position, self._begun, self._position = self._position, None, 0
        for item in begun:
            if not self._for_workers:
                yield item
            elif isinstance(item, (list, tuple)):
                yield [Draw(one, self._seed + position + place) for place, one in enumerate(item)]
                position += len(item)
            else:
                yield Draw(item, self._seed + position)
                position += 1

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


class SeededDataset(Dataset[Any]):
    """A dataset as workers see it, which seeds the generators before each item that carries a seed.

    Everything else that is asked of it comes from the dataset.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, index: Any) -> Any:
        """Return one item."""
        if not isinstance(index, Draw):
            return self.dataset[index]
        seed_generators(index.seed)
        return self.dataset[index.index]

    @property
    def __getitems__(self) -> Any:
        """The dataset's own way to return many items at once, if it has one."""
        return self._many if getattr(self.dataset, "__getitems__", None) else None

    def _many(self, indices: list[Any]) -> Any:
        if indices and isinstance(indices[0], Draw):
            seed_generators(indices[0].seed)
        return self.dataset.__getitems__([i.index if isinstance(i, Draw) else i for i in indices])

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "dataset":
            raise AttributeError(name)
        return getattr(self.dataset, name)


def seed_generators(seed: int) -> None:
    """Seed Python's, numpy's and torch's generator of this process; near seeds give unrelated numbers."""
    mixed = _mixed(seed)
    random.seed(mixed)
    np.random.seed(mixed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(mixed >> 1)


def _mixed(seed: int) -> int:
    """Return 64 bits that differ in about half of them for seeds that differ in one (splitmix64)."""
    value = (seed + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)


def epoch_seed(seed: int, epoch: int, rank: int) -> int:
    """Return a seed of 63 bits for one epoch of one process."""
    return int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def begin_epoch(loader: DataLoader[Any], epoch: int, seed: int, rank: int) -> None:
    """Make the next pass over `loader` depend on `epoch`, `seed` and `rank` alone."""
    samplers: list[Any] = [loader.sampler, getattr(loader.batch_sampler, "sampler", None)]
    for sampler in samplers:
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
    own = epoch_seed(seed, epoch, rank)
    order = _order_of(loader)
    if order is not None:
        order.begin(own)
    if loader.generator is not None:
        loader.generator.manual_seed(own)


def skip_batches(loader: DataLoader[Any], count: int) -> Iterator[Any]:
    """Return the next pass over `loader` after its first `count` batches.

    The data of these is not read, unless the loader was not built by `build_dataloader`.
    """
    order = _order_of(loader)
    if order is None:
        batches = iter(loader)
        for _ in range(count):
            next(batches, None)
        return batches
    order.skip(count if order is loader.batch_sampler else count * (loader.batch_size or 1))
    return iter(loader)


def _order_of(loader: DataLoader[Any]) -> DataOrder | None:
    return next((one for one in (loader.batch_sampler, loader.sampler) if isinstance(one, DataOrder)), None)
