"""A tensor that is stored in blocks, each of them a file of `torch.save` within a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from functools import cached_property
from typing import TYPE_CHECKING

from framework.pretrain.errors import DamagedCheckpointError
from framework.pretrain.formats.blob import Blob
from framework.pretrain.formats.dtypes import ElementType
from framework.pretrain.formats.file import naming
from framework.pretrain.formats.lazy import LazyTensor
from framework.pretrain.formats.torch_zip import read_torch_zip
from framework.pretrain.formats.zip_directory import read_zip

if TYPE_CHECKING:
    from torch import Tensor

_MAX_CELLS = 1_000_000


class Chunk:
    """A block of a tensor: where it belongs, and the torch file within a file that holds it."""

    def __init__(self, offsets: tuple[int, ...], shape: tuple[int, ...], blob: Blob) -> None:
        """Name the block.

        Args:
            offsets: Its first index in each dimension.
            shape: Its size in each dimension.
            blob: Bytes written by `torch.save`.
        """
        self.offsets = offsets
        self.shape = shape
        self.blob = blob

    @property
    def region(self) -> tuple[slice, ...]:
        """The block as an index."""
        return tuple(slice(start, start + size) for start, size in zip(self.offsets, self.shape, strict=True))

    @cached_property
    def tensor(self) -> LazyTensor:
        """The values.

        Raises:
            DamagedCheckpointError: There is something else in that place.
        """
        with naming(self.blob.path):
            return self._read()

    def _read(self) -> LazyTensor:
        tensor = read_torch_zip(read_zip(self.blob)).tree.get("tensor")
        if not isinstance(tensor, LazyTensor) or tensor.shape != self.shape:
            raise DamagedCheckpointError(
                f"a chunk is not the tensor of shape {list(self.shape)} that is announced"
            )
        return tensor


class ChunkedTensor(LazyTensor):
    """A tensor in blocks, such as several processes write it."""

    def __init__(self, key: Hashable, kind: ElementType, shape: tuple[int, ...], chunks: list[Chunk]) -> None:
        """Put it together.

        Args:
            key: File and name, its identity.
            kind: Type of the elements.
            shape: Of the whole.
            chunks: Blocks which together are the whole.

        Raises:
            DamagedCheckpointError: They are not.
        """
        self.kind = kind
        self.shape = shape
        self.chunks = [chunk for chunk in chunks if 0 not in chunk.shape]
        self._key = key
        _check_tiling(self)

    @property
    def identity(self) -> Hashable:
        """File and name."""
        return self._key

    def read_into(self, out: Tensor) -> None:
        """Read each block into its place; see `LazyTensor.read_into`."""
        self._check_shape(out)
        for chunk in self.chunks:
            self._values(chunk).read_into(out.detach()[chunk.region])

    def pieces(self, out: Tensor, piece_bytes: int) -> list[Callable[[], None]]:
        """Split each block; see `LazyTensor.pieces`."""
        self._check_shape(out)
        return [
            piece
            for chunk in self.chunks
            for piece in self._values(chunk).pieces(out.detach()[chunk.region], piece_bytes)
        ]

    def map(self) -> Tensor:
        """Map the file if there is only one block; see `LazyTensor.map`."""
        return self._values(self.chunks[0]).map() if len(self.chunks) == 1 else self.read()

    def _values(self, chunk: Chunk) -> LazyTensor:
        if chunk.tensor.kind != self.kind:
            raise DamagedCheckpointError(f"a chunk is of type {chunk.tensor.kind}, announced as {self.kind}")
        return chunk.tensor


def _check_tiling(tensor: ChunkedTensor) -> None:
    """Raise unless the blocks lie within the tensor, do not overlap, and leave nothing out."""
    shape = tensor.shape
    if min(shape, default=0) < 0 or math.prod(size or 1 for size in shape) >= 1 << 60:
        raise DamagedCheckpointError(f"a tensor claims the shape {list(shape)}")
    for chunk in tensor.chunks:
        inside = len(chunk.offsets) == len(chunk.shape) == len(shape) and all(
            start >= 0 and size > 0 and start + size <= total
            for start, size, total in zip(chunk.offsets, chunk.shape, shape, strict=True)
        )
        if not inside:
            raise DamagedCheckpointError(
                f"a chunk at {chunk.offsets} lies outside of its tensor of shape {list(shape)}"
            )
    if 0 not in shape and not _tiles(tensor):
        raise DamagedCheckpointError(
            f"the chunks of a tensor of shape {list(shape)} overlap, or do not fill it"
        )


def _tiles(tensor: ChunkedTensor) -> bool:
    """Whether the blocks fill the tensor exactly, counted on the grid that their edges draw."""
    edges = [
        sorted({edge for chunk in tensor.chunks for edge in (chunk.region[i].start, chunk.region[i].stop)})
        for i in range(len(tensor.shape))
    ]
    if any(edge[:1] != [0] or edge[-1] != size for edge, size in zip(edges, tensor.shape, strict=True)):
        return False
    cells = [len(edge) - 1 for edge in edges]
    if not tensor.chunks or math.prod(cells) > _MAX_CELLS:
        return False
    places = [{edge: i for i, edge in enumerate(line)} for line in edges]
    import numpy as np

    filled = np.zeros(cells, dtype=bool)
    for chunk in tensor.chunks:
        block = tuple(slice(at[r.start], at[r.stop]) for at, r in zip(places, chunk.region, strict=True))
        if filled[block].any():
            return False
        filled[block] = True
    return bool(filled.all())
