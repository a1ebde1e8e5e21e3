"""Safetensors files: a JSON header, then the bytes of the tensors (https://github.com/huggingface/safetensors)."""

from __future__ import annotations

import json
import sys

from framework.pretrain.errors import DamagedCheckpointError
from framework.pretrain.formats.blob import Blob
from framework.pretrain.formats.dtypes import SAFETENSORS, swap_unit
from framework.pretrain.formats.lazy import LazyTensor, StridedTensor, contiguous_strides
from framework.pretrain.formats.stubs import Inert, whole_numbers
from framework.pretrain.formats.tree import Contents, Node

MAX_HEADER = 100_000_000


def read_safetensors(file: Blob) -> Contents:
    """Return the tensors of a safetensors file.

    Args:
        file: All of it.

    Raises:
        DamagedCheckpointError: The header is none, or what it says does not fit the file.
    """
    size = int.from_bytes(file.read(0, 8), "little")
    if size > min(MAX_HEADER, file.size - 8):
        raise DamagedCheckpointError(f"truncated: the header claims {size} bytes, the file has {file.size}")
    header = parse_json(file.read(8, size))
    header.pop("__metadata__", None)
    data = file.part(8 + size, file.size - 8 - size)
    announced = max((_offsets(*item)[1] for item in header.items()), default=0)
    if announced != data.size:
        raise DamagedCheckpointError(f"truncated: {announced} bytes of tensors announced, {data.size} there")
    tree: dict[str, Node] = {}
    position = 0
    for name, entry in sorted(header.items(), key=lambda item: _offsets(*item)):
        start, end = _offsets(name, entry)
        if start != position:
            raise DamagedCheckpointError(f"tensor {name!r} overlaps others, or there is a gap before it")
        tree[name] = _tensor(name, entry, data, (start, end))
        position = end
    return Contents("safetensors", {name: tree[name] for name in header})


def parse_json(data: bytes) -> dict[str, object]:
    """Return a JSON object whose names are unique.

    Args:
        data: Its text.

    Raises:
        DamagedCheckpointError: It is none.
    """
    try:
        value = json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpointError(f"the JSON in the file is damaged: {error}") from error
    if not isinstance(value, dict):
        raise DamagedCheckpointError(f"a JSON object is expected, not a {type(value).__name__}")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise DamagedCheckpointError("the JSON in the file has the same name twice")
    return made


def _offsets(name: str, entry: object) -> tuple[int, int]:
    match entry:
        case {"data_offsets": [int(start), int(end)]} if 0 <= start <= end:
            return start, end
    raise DamagedCheckpointError(f"tensor {name!r} has no valid offsets")


def _tensor(name: str, entry: object, data: Blob, offsets: tuple[int, int]) -> LazyTensor | Inert:
    match entry:
        case {"dtype": str(kind), "shape": list(sizes)}:
            blob = data.part(offsets[0], offsets[1] - offsets[0])
            dtype = SAFETENSORS.get(kind)
            if dtype is None:
                return Inert(f"safetensors {kind[:20]}")
            shape = whole_numbers(sizes)
            swap = swap_unit(dtype, foreign=sys.byteorder == "big")
            tensor = StridedTensor(blob, dtype, shape, (contiguous_strides(shape), 0), swap)
            if tensor.nbytes == blob.size:
                return tensor
    raise DamagedCheckpointError(f"type and shape of tensor {name!r} do not fit the bytes that it has")
