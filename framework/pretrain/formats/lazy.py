"""A tensor that is still in its file: its shape now, its values on request."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING

from framework.pretrain.errors import DamagedCheckpointError, MismatchError
from framework.pretrain.formats.blob import Blob
from framework.pretrain.formats.dtypes import TORCH, ElementType

if TYPE_CHECKING:  # torch is imported where values are read: names and shapes do without
    import torch
    from torch import Tensor

_MAX_DIMENSIONS = 64
_MAX_ELEMENTS = 2**60


class LazyTensor(ABC):
    """Shape and type of a tensor in a file, and the ways to have its values.

    All methods may be called from several threads at once; none leaves the file open.
    """

    shape: tuple[int, ...]
    kind: ElementType

    @property
    def dtype(self) -> torch.dtype:
        """Type of the elements."""
        return self.kind.torch

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes that the values take in memory."""
        return self.numel * self.kind.itemsize

    @property
    @abstractmethod
    def identity(self) -> Hashable:
        """Equal for two tensors if, and only if, they are the same view of the same storage of the file."""

    @abstractmethod
    def read_into(self, out: Tensor) -> None:
        """Write the values into `out`, converted to its type.

        Args:
            out: A tensor of the same shape. If it is contiguous, on the CPU and of the file's type, the
                bytes go straight into its memory.

        Raises:
            MismatchError: `out` has another shape.
            CheckpointError: The file is not what it was, or damaged.
        """

    def read(self) -> Tensor:
        """Return the values as a contiguous tensor that owns its memory."""
        import torch

        out = torch.empty(self.shape, dtype=self.dtype)
        self.read_into(out)
        return out

    def pieces(self, out: Tensor, piece_bytes: int) -> list[Callable[[], None]]:
        """Split `read_into(out)` into independent calls, for several threads.

        Args:
            out: As for `read_into`.
            piece_bytes: About how many bytes of the file each call should read.

        Returns:
            Calls without arguments, in any order; a single one where the tensor cannot be split.
        """
        del piece_bytes
        return [partial(self.read_into, out)]

    def map(self) -> Tensor:
        """Return the values as a private (copy-on-write) map of the file, or `read()` if that cannot be."""
        return self.read()

    def __repr__(self) -> str:
        """Name type and shape."""
        return f"{type(self).__name__}({self.kind}, {list(self.shape)})"

    def _check_shape(self, out: Tensor) -> None:
        if tuple(out.shape) != self.shape:
            raise MismatchError(f"a tensor of shape {list(self.shape)} does not fit into {list(out.shape)}")


class StridedTensor(LazyTensor):
    """A strided view of bytes, as torch and numpy store tensors."""

    __slots__ = ("_contiguous", "blob", "kind", "offset", "shape", "strides", "swap")

    def __init__(
        self,
        blob: Blob,
        kind: ElementType,
        shape: tuple[int, ...],
        view: tuple[tuple[int, ...], int],
        swap: int = 0,
    ) -> None:
        """Describe the view, and check that it lies within the bytes.

        Args:
            blob: The storage.
            kind: Type of its elements.
            shape: Of the tensor.
            view: Strides and offset, in elements.
            swap: Size in bytes of the units whose byte order must be reversed; 0 if it is this machine's.

        Raises:
            DamagedCheckpointError: The view reaches outside the bytes, or is no view at all.
        """
        self.blob = blob
        self.kind = kind
        self.shape = shape
        self.strides, self.offset = view
        self.swap = swap
        _check_view(self)
        self._contiguous = self.strides == contiguous_strides(shape) or self._is_contiguous()

    @property
    def identity(self) -> Hashable:
        """Storage, type and view."""
        return (self.blob.key, self.kind, self.offset, self.shape, self.strides)

    def read_into(self, out: Tensor) -> None:
        """Write the values into `out`, converted to its type; see `LazyTensor.read_into`."""
        self._check_shape(out)
        if self.numel == 0:
            return
        if self._contiguous and _is_plain(out):
            self._read_flat(out.detach().view(-1), 0)
        else:
            import torch

            with torch.no_grad():
                out.copy_(self._strided(self._read_span()))

    def pieces(self, out: Tensor, piece_bytes: int) -> list[Callable[[], None]]:
        """Split `read_into(out)` into independent calls; see `LazyTensor.pieces`."""
        self._check_shape(out)
        if not (self._contiguous and self.blob.splits and _is_plain(out)) or self.nbytes <= piece_bytes:
            return [partial(self.read_into, out)]
        flat = out.detach().view(-1)
        step = max(1, piece_bytes // self.kind.itemsize)
        return [partial(self._read_flat, flat[i : i + step], i) for i in range(0, self.numel, step)]

    def map(self) -> Tensor:
        """Return a private map of the file if it has plain, aligned bytes; see `LazyTensor.map`."""
        place = self.blob.place
        if place is None or self.swap or self.numel == 0:
            return self.read()
        file, start = place[0], place[1] + self.offset * self.kind.itemsize
        if start % self.kind.itemsize:
            return self.read()
        import torch

        flat = torch.frombuffer(file.mapping(), dtype=self.dtype, count=self._span(), offset=start)
        return self._strided(flat)

    def _read_flat(self, flat: Tensor, start: int) -> None:
        """Read as many elements as `flat` has, from the `start`-th on, of a contiguous tensor."""
        import torch

        target = flat if flat.dtype == self.dtype else torch.empty(flat.shape, dtype=self.dtype)
        view = _bytes_of(target)
        self.blob.read_into(view, (self.offset + start) * self.kind.itemsize)
        if self.swap > 1:
            import numpy as np

            np.frombuffer(view, dtype=f"u{self.swap}").byteswap(inplace=True)
        if target is not flat:
            flat.copy_(target)

    def _read_span(self) -> Tensor:
        import torch

        flat = torch.empty(self._span(), dtype=self.dtype)
        self._read_flat(flat, 0)
        return flat

    def _strided(self, flat: Tensor) -> Tensor:
        return flat.view(self.shape) if self._contiguous else flat.as_strided(self.shape, self.strides)

    def _span(self) -> int:
        """Number of elements from the first to the last one that the view touches."""
        return 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))

    def _is_contiguous(self) -> bool:
        """Whether the elements lie in order; the stride of a dimension of size 1 does not matter."""
        expected = contiguous_strides(self.shape)
        return all(n == 1 or s == e for n, s, e in zip(self.shape, self.strides, expected, strict=True))


class HeldTensor(LazyTensor):
    """A tensor that is in memory already."""

    def __init__(self, tensor: Tensor) -> None:
        """Hold `tensor`."""
        self._tensor = tensor.detach()
        self.shape = tuple(tensor.shape)
        self.kind = TORCH.get(str(tensor.dtype)) or ElementType(str(tensor.dtype)[6:], tensor.itemsize)

    @property
    def identity(self) -> Hashable:
        """Memory and view."""
        tensor = self._tensor
        return (tensor.data_ptr() or id(tensor), tensor.dtype, self.shape, tensor.stride())

    def read_into(self, out: Tensor) -> None:
        """Copy; see `LazyTensor.read_into`."""
        import torch

        self._check_shape(out)
        with torch.no_grad():
            out.copy_(self._tensor)


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides, in elements, of a contiguous tensor of that shape, as torch gives them."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * max(shape[i + 1], 1)
    return tuple(strides)


def _check_view(tensor: StridedTensor) -> None:
    """Raise unless the view is one, and lies within its storage."""
    shape, strides, offset = tensor.shape, tensor.strides, tensor.offset
    if len(shape) != len(strides) or len(shape) > _MAX_DIMENSIONS or min(*shape, *strides, offset, 0) < 0:
        raise DamagedCheckpointError(
            f"no tensor has shape {shape[:8]}, strides {strides[:8]}, offset {offset}"
        )
    if math.prod(n or 1 for n in shape) > _MAX_ELEMENTS or max(strides, default=0) > _MAX_ELEMENTS:
        raise DamagedCheckpointError(f"a tensor claims the shape {list(shape)}")
    end = (offset + (tensor._span() if 0 not in shape else 0)) * tensor.kind.itemsize
    if end > tensor.blob.size:
        raise DamagedCheckpointError(
            f"a tensor of shape {list(shape)} and type {tensor.kind} reaches to byte {end} of a storage of "
            f"{tensor.blob.size} bytes"
        )


def _is_plain(out: Tensor) -> bool:
    """Whether the bytes of `out` are its elements in order, in this machine's memory."""
    return out.device.type == "cpu" and out.is_contiguous() and not out.is_conj() and not out.is_neg()


def _bytes_of(flat: Tensor) -> memoryview:
    """Return the memory of a one-dimensional contiguous tensor of any type."""
    import torch

    return flat.view(torch.uint8).numpy().data
