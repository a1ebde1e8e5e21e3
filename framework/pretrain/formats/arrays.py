"""Numpy's arrays, scalars and types in a pickle."""

from __future__ import annotations

import sys

from framework.pretrain.errors import DamagedCheckpointError
from framework.pretrain.formats.blob import Blob
from framework.pretrain.formats.dtypes import ML_DTYPES, ElementType, numpy_dtype, swap_unit
from framework.pretrain.formats.lazy import StridedTensor, contiguous_strides
from framework.pretrain.formats.stubs import Array, Global, NumpyType, Stub, as_blob, whole_numbers

FOREIGN = ">" if sys.byteorder == "little" else "<"
"""Numpy's sign for the byte order that this machine does not have."""


def array_tensor(
    blob: Blob, kind: tuple[ElementType, str], shape: tuple[int, ...], *, fortran: bool
) -> StridedTensor:
    """Return the tensor of an array's bytes.

    Args:
        blob: The bytes of the elements.
        kind: Type, and numpy's sign for the byte order.
        shape: Of the array.
        fortran: Whether the first dimension runs fastest.

    Raises:
        DamagedCheckpointError: Bytes and shape do not go together.
    """
    dtype, order = kind
    strides = contiguous_strides(shape[::-1])[::-1] if fortran else contiguous_strides(shape)
    tensor = StridedTensor(blob, dtype, shape, (strides, 0), swap_unit(dtype, foreign=order == FOREIGN))
    if tensor.nbytes != blob.size:
        raise DamagedCheckpointError(f"an array of {tensor.nbytes} bytes has {blob.size} bytes of data")
    return tensor


def make_type(args: tuple[object, ...]) -> object:
    """`numpy.dtype('f4', False, True)`."""
    match args:
        case (str(descr), *_) if len(descr) <= 16:
            return NumpyType(descr)
        case (Global() as cls, *_):
            return NumpyType(cls.name.rpartition(".")[2])
    return Stub("numpy.dtype", args)


def build_type(kind: NumpyType, state: object) -> None:
    """Take the byte order out of a dtype's state, `(version, '<', ...)`."""
    match state:
        case (int(), "<" | ">" | "|" | "=" as order, *_):
            kind.order = order


def build_array(array: Array, state: object) -> None:
    """Take shape, type, order and bytes out of an array's state; one of objects stays without a tensor."""
    match state:
        case (int(), shape, NumpyType() as kind, fortran, data):
            torch_kind, blob = _torch_kind(kind), as_blob(data)
            if torch_kind is not None and blob is not None:
                array.tensor = array_tensor(blob, torch_kind, whole_numbers(shape), fortran=bool(fortran))
        case (int(), _, Stub(), _, _):
            pass
        case _:
            raise DamagedCheckpointError("a numpy array is described by the wrong state")


def make_from_buffer(args: tuple[object, ...]) -> object:
    """`numpy._core.numeric._frombuffer(data, dtype, shape, order, axes)`, protocol 5."""
    match args:
        case (data, NumpyType() as kind, shape, "C" | "F" | "K" as order, *axes):
            torch_kind, blob = _torch_kind(kind), as_blob(data)
            if torch_kind is not None and blob is not None:
                tensor = array_tensor(blob, torch_kind, whole_numbers(shape), fortran=order == "F")
                return Array(_transposed(tensor, whole_numbers(axes[0])) if order == "K" and axes else tensor)
    return Array()


def _transposed(tensor: StridedTensor, axes: tuple[int, ...]) -> StridedTensor:
    if sorted(axes) != list(range(len(tensor.shape))):
        raise DamagedCheckpointError(f"an array of {len(tensor.shape)} dimensions has the axes {axes}")
    shape, strides = tuple(tensor.shape[i] for i in axes), tuple(tensor.strides[i] for i in axes)
    return StridedTensor(tensor.blob, tensor.kind, shape, (strides, tensor.offset), tensor.swap)


def make_scalar(args: tuple[object, ...]) -> object:
    """`numpy._core.multiarray.scalar(dtype, data)`: a Python number where there is one."""
    match args:
        case (NumpyType() as kind, data):
            torch_kind, blob = _torch_kind(kind), as_blob(data)
            if torch_kind is not None and blob is not None and blob.size <= 8:
                order = ">" if torch_kind[1] == ">" else "<"
                return _python_number(blob, kind.descr, order)
    return Stub("numpy.scalar", args)


def make_jax_array(args: tuple[object, ...]) -> object:
    """`jax._src.array._reconstruct_array(function, args, state, ...)`: the numpy array within."""
    array = Array()
    if len(args) >= 3:
        build_array(array, args[2])
    return array


def _python_number(blob: Blob, descr: str, order: str) -> object:
    import numpy as np

    try:
        return np.frombuffer(blob.read(0, blob.size), dtype=f"{order}{descr}")[0].item()
    except (ValueError, IndexError, TypeError):
        return Stub("numpy.scalar", descr)


def _torch_kind(kind: NumpyType) -> tuple[ElementType, str] | None:
    if kind.descr in ML_DTYPES:
        return ML_DTYPES[kind.descr], "|"
    known = numpy_dtype(kind.descr)
    return (known[0], kind.order) if known else None


NUMPY_CONSTRUCTORS = {
    "numpy.dtype": make_type,
    "jax._src.array._reconstruct_array": make_jax_array,
    "jax._src.device_array.reconstruct_device_array": make_jax_array,
    **{
        f"numpy.{core}.multiarray.{name}": make
        for core in ("core", "_core")
        for name, make in {"_reconstruct": lambda args: Array(), "scalar": make_scalar}.items()
    },
    **{f"numpy.{core}.numeric._frombuffer": make_from_buffer for core in ("core", "_core")},
}
