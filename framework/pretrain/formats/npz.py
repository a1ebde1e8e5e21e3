"""Numpy's `.npz`: a zip archive of arrays, compressed or not."""

from __future__ import annotations

import re
from collections.abc import Mapping

from framework.pretrain.errors import DamagedCheckpointError
from framework.pretrain.formats.arrays import array_tensor
from framework.pretrain.formats.blob import Blob
from framework.pretrain.formats.dtypes import numpy_dtype
from framework.pretrain.formats.lazy import LazyTensor
from framework.pretrain.formats.stubs import Inert
from framework.pretrain.formats.tree import Contents, Node

_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
_MAX_HEADER = 1 << 16
_OTHER = {"|O": "Python objects"}
_DESCR = re.compile(r"'descr':\s*'([^']{1,16})'")
_ORDER = re.compile(r"'fortran_order':\s*(True|False)")
_SHAPE = re.compile(r"'shape':\s*\(((?:\s*\d{1,18}L?\s*,?)*)\)")


def read_npz(records: Mapping[str, Blob]) -> Contents:
    """Return the arrays of an npz file.

    Args:
        records: The members of the zip archive.

    Raises:
        DamagedCheckpointError: An array is not what the archive or its header says.
    """
    tree: dict[str, Node] = {}
    for name, record in records.items():
        if name.endswith(".npy"):
            tree[name.removesuffix(".npy")] = read_npy(name, record)
    return Contents("npz", tree)


def read_npy(name: str, record: Blob) -> LazyTensor | Inert:
    """Return one array, or an inert object if torch has no such type (Python objects, which are pickled).

    Args:
        name: For errors.
        record: The bytes of an npy file.

    Raises:
        DamagedCheckpointError: It is not what its header says.
    """
    start, header = _header(name, record)
    descr, order, shape = _DESCR.search(header), _ORDER.search(header), _SHAPE.search(header)
    if order is None or shape is None:
        raise DamagedCheckpointError(f"array {name!r} has a damaged header")
    kind = numpy_dtype(descr[1]) if descr else None
    if kind is None:
        return Inert(f"numpy array of {_OTHER.get(descr[1], descr[1]) if descr else 'records'}")
    sizes = tuple(int(size) for size in re.findall(r"\d+", shape[1]))
    return array_tensor(record.part(start, record.size - start), kind, sizes, fortran=order[1] == "True")


def _header(name: str, record: Blob) -> tuple[int, str]:
    """Return where the data begins, and the text before it."""
    head = record.read(0, min(record.size, 12))
    length_bytes = _LENGTH_BYTES.get(head[6], 0) if len(head) == 12 and head[:6] == _MAGIC else 0
    length = int.from_bytes(head[8 : 8 + length_bytes], "little")
    start = 8 + length_bytes
    if not length_bytes or length > min(_MAX_HEADER, record.size - start):
        raise DamagedCheckpointError(f"array {name!r} has no header of numpy's")
    return start + length, record.read(start, length).decode("latin-1")
