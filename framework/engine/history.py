"""Numbers of a training, kept without waiting for the device that computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch import Tensor


class DeferredHistory(HistoryBuffer):
    """A history whose newest values are read when someone asks for them.

    A value may be a tensor: reading it waits for the device, so it is done for many at once, and an
    iteration in which nothing is logged waits for nothing. Appending costs the same however long the
    history is, while mmengine's buffer copies itself for every value.

    Args:
        values: The history so far.
        counts: How many samples each value stands for.
        max_length: Older values than this many are dropped.
    """

    def __init__(self, values: Any = (), counts: Any = (), max_length: int = 1_000_000) -> None:
        self._pending: list[Any] = []
        self._pending_counts: list[int] = []
        super().__init__(values, counts, max_length)

    def update(self, log_val: float | Tensor, count: int = 1) -> None:
        """Append a value: a number, or a tensor of one number."""
        self._pending.append(log_val.detach() if isinstance(log_val, Tensor) else log_val)
        self._pending_counts.append(count)

    @property
    def _log_history(self) -> np.ndarray:
        self._read()
        return self._values

    @_log_history.setter
    def _log_history(self, values: np.ndarray) -> None:
        self._values = values

    @property
    def _count_history(self) -> np.ndarray:
        self._read()
        return self._counts

    @_count_history.setter
    def _count_history(self, counts: np.ndarray) -> None:
        self._counts = counts

    def _read(self) -> None:
        if not self._pending:
            return
        values, counts = self._pending, self._pending_counts
        self._pending, self._pending_counts = [], []
        self._values = np.append(self._values, _numbers(values))[-self.max_length :]
        self._counts = np.append(self._counts, counts)[-self.max_length :]


def record(hub: MessageHub, name: str, value: float | Tensor) -> None:
    """Append a value to a scalar of the message hub; a tensor is read later."""
    history = hub.log_scalars.get(name)
    if history is None:
        hub.update_scalar(name, value)
    elif isinstance(history, DeferredHistory):
        history.update(value)
    else:
        values, counts = history.data
        hub.log_scalars[name] = DeferredHistory(values, counts, history.max_length)
        hub.log_scalars[name].update(value)


def _numbers(values: list[Any]) -> list[float]:
    """Turn tensors into numbers, with one transfer for all of them."""
    places = [place for place, value in enumerate(values) if isinstance(value, Tensor)]
    if places:
        read = torch.stack([values[place].reshape(()).double() for place in places]).tolist()
        for place, number in zip(places, read, strict=True):
            values[place] = number
    return values
