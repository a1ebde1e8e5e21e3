"""Layers that a file keeps in one tensor each kind, as scanned Flax modules do: taken apart."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from framework.pretrain.checkpoint import LazyTensor
from framework.pretrain.dialects.common import STACKED
from framework.pretrain.formats.lazy import StridedTensor

if TYPE_CHECKING:  # names and shapes are had without torch
    from torch import Tensor

    from framework.pretrain.inventory import FileTensor

#: Behind the segment stands one of Flax's modules, which it names by class and number.
_SEGMENT = re.compile(rf"(?:^|(?<=[./]))(?:{'|'.join(STACKED)})(?=[./][A-Z]\w*_\d+[./])")


def unstacked(tensors: Iterable[FileTensor]) -> Iterator[FileTensor]:
    """Yield the tensors of a file, stacked layers one by one, with their number behind the segment's name."""
    for one in tensors:
        found = _SEGMENT.search(one.key) if one.tensor.shape else None
        if found is None:
            yield one
            continue
        before, after = one.key[: found.end()], one.key[found.end() :]
        entry = one.entry.startswith(before)  # a container for each layer: its path is part of the key
        for index in range(one.tensor.shape[0]):
            name = f"{before}_{index}"
            inner = name + one.entry[found.end() :] if entry else one.entry
            yield replace(one, key=name + after, entry=inner, tensor=layer(one.tensor, index))


def layer(tensor: LazyTensor, index: int) -> LazyTensor:
    """Return one item along the first axis of a tensor, without reading it."""
    if not isinstance(tensor, StridedTensor):
        return _Layer(tensor, index)
    view = (tensor.strides[1:], tensor.offset + index * tensor.strides[0])
    return StridedTensor(tensor.blob, tensor.kind, tensor.shape[1:], view, tensor.swap)


class _Layer(LazyTensor):
    """An item of a tensor that can only be read whole."""

    def __init__(self, whole: LazyTensor, index: int) -> None:
        self.shape, self.kind = whole.shape[1:], whole.kind
        self._whole, self._index = whole, index

    @property
    def identity(self) -> Hashable:
        """That of the whole, and the index."""
        return (self._whole.identity, self._index)

    def read_into(self, out: Tensor) -> None:
        """Write the values into `out`; see `LazyTensor.read_into`."""
        self._check_shape(out)
        out.detach().copy_(self._whole.read()[self._index])
