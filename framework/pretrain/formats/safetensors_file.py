"""Safetensors files: a JSON header, then the bytes of the tensors (https://github.com/huggingface/safetensors)."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

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
    said = header.pop("__metadata__", None)
    metadata = {str(k): v for k, v in said.items() if isinstance(v, str)} if isinstance(said, dict) else {}
    data = file.part(8 + size, file.size - 8 - size)
    places = {name: _offsets(name, entry) for name, entry in header.items()}
    announced = max((end for _, end in places.values()), default=0)
    if announced != data.size:
        raise DamagedCheckpointError(f"truncated: {announced} bytes of tensors announced, {data.size} there")
    _check_apart(places)
    tree: dict[str, Node] = {
        name: _tensor(name, entry, data.part(places[name][0], places[name][1] - places[name][0]))
        for name, entry in header.items()
    }
    return Contents("safetensors", tree, metadata=metadata)


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
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if isinstance(offsets, list) and len(offsets) == 2 and all(type(offset) is int for offset in offsets):
        start, end = offsets
        if 0 <= start <= end:
            return start, end
    raise DamagedCheckpointError(f"tensor {name[:80]!r} has no valid offsets")


def _check_apart(places: Mapping[str, tuple[int, int]]) -> None:
    """Raise unless the tensors follow each other without gaps."""
    position = 0
    for name, (start, end) in sorted(places.items(), key=lambda item: item[1]):
        if start != position:
            raise DamagedCheckpointError(f"tensor {name[:80]!r} overlaps others, or there is a gap before it")
        position = end


def _tensor(name: str, entry: object, blob: Blob) -> LazyTensor | Inert:
    kind, sizes = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
    if not isinstance(kind, str):
        raise DamagedCheckpointError(f"tensor {name[:80]!r} has no type")
    dtype = SAFETENSORS.get(kind)
    if dtype is None:
        return Inert(f"safetensors {kind[:20]}")
    shape = whole_numbers(sizes)
    swap = swap_unit(dtype, foreign=sys.byteorder == "big")
    tensor = StridedTensor(blob, dtype, shape, (contiguous_strides(shape), 0), swap)
    if tensor.nbytes != blob.size:
        raise DamagedCheckpointError(
            f"tensor {name[:80]!r} has {blob.size} bytes for the shape {list(shape)}"
        )
    return tensor
