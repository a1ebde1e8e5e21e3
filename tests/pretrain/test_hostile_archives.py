"""Archives and headers that lie about sizes, offsets and shapes: an error of ours, in little memory."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from framework.pretrain.checkpoint import open_checkpoint
from framework.pretrain.errors import (
    DamagedCheckpointError,
)


def _text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def _archive(tmp_path: Path, pickle_data: bytes, storage: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(tmp_path / "a", "w", method) as archive:
        archive.writestr("a/data.pkl", pickle_data)
        archive.writestr("a/data/0", storage)
    return tmp_path / "a"


def _tensor_pickle(shape, strides, offset=0, count=8, kind="FloatStorage") -> bytes:
    """`{'w': tensor}` with any view of a storage '0' of `count` elements."""

    def number(n):
        return b"\x8a\x09" + n.to_bytes(9, "little", signed=True)

    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    storage = (
        b"("
        + _text("storage")
        + f"ctorch\n{kind}\n".encode()
        + _text("0")
        + _text("cpu")
        + number(count)
        + b"tQ"
    )
    tensor = storage + number(offset) + numbers(shape) + numbers(strides) + b"\x89N"
    return b"\x80\x02}" + _text("w") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + tensor + b"tRs."


def test_honest_tensor_pickle(tmp_path):
    path = _archive(tmp_path, _tensor_pickle((2, 3), (3, 1), 1), np.arange(8, dtype="<f4").tobytes())
    assert open_checkpoint(path).tree["w"].read().tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(shape=(3, 3), strides=(3, 1)), "reaches to byte 36 of a storage of 32 bytes"),
        (dict(shape=(2, 2), strides=(100, 1)), "reaches to byte"),
        (dict(shape=(2,), strides=(1,), offset=7), "reaches to byte 36"),
        (dict(shape=(2,), strides=(1,), offset=-1), "offset -1"),
        (dict(shape=(-2,), strides=(1,)), "shape"),
        (dict(shape=(2,), strides=(-1,)), "strides"),
        (dict(shape=(2, 2), strides=(1,)), "strides"),
        (dict(shape=(1 << 62,), strides=(0,)), "claims the shape"),
        (dict(shape=(1 << 40, 1 << 40), strides=(0, 0)), "claims the shape"),
        (dict(shape=(0, 1 << 62), strides=(1, 1)), "claims the shape"),
        (dict(shape=(1,) * 70, strides=(1,) * 70), "whole numbers"),
        (dict(shape=(1 << 30,), strides=(0,)), "would fill 4,294,967,296 bytes of memory"),
        (dict(shape=(2,), strides=(1,), count=7), "7 elements of torch.float32"),
        (dict(shape=(2,), strides=(1,), count=1 << 60), "elements"),
        (dict(shape=(2,), strides=(1,), count=-8), "elements"),
        (dict(shape=(2,), strides=(1,), kind="DoubleStorage"), "8 elements of torch.float64"),
    ],
)
def test_tensors_that_lie(tmp_path, arguments, words):
    path = _archive(tmp_path, _tensor_pickle(**arguments), bytes(32))
    with pytest.raises(DamagedCheckpointError, match=words):
        open_checkpoint(path)


def test_many_views_of_one_storage_do_not_blow_up(tmp_path):
    """A thousand different views of a megabyte would be a gigabyte."""
    base = torch.zeros(1 << 18)
    torch.save([base[i : i + (1 << 18) - 1000] for i in range(1000)], tmp_path / "a")
    with pytest.raises(DamagedCheckpointError, match=r"views of 1,048,576 bytes that would fill 1,0"):
        open_checkpoint(tmp_path / "a")
    torch.save([base[i : i + 1000] for i in range(1000)], tmp_path / "b")
    tree = open_checkpoint(tmp_path / "b").tree
    assert len(tree) == 1000 and tree["999"].read().shape == (1000,)


def test_a_storage_that_is_not_there(tmp_path):
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr("a/data.pkl", _tensor_pickle((2,), (1,)))
    with pytest.raises(DamagedCheckpointError, match="lacks 'data/0'"):
        open_checkpoint(tmp_path / "a")


def _patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) >= 1
    return data.replace(old, new)


def test_a_zip_bomb_of_overlapping_members(tmp_path):
    """Every entry of the directory points to the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for i in range(20):
            archive.writestr(f"a/data/{i:02d}", b"x" * 1000)
        archive.writestr("a/data.pkl", b"\x80\x02}.")
    data = stream.getvalue()
    directory = data.index(b"PK\1\2")
    at, forged = directory, bytearray(data)
    for _ in range(20):
        forged[at + 42 : at + 46] = struct.pack("<L", 0)
        at = data.find(b"PK\1\2", at + 4)
    (tmp_path / "a").write_bytes(forged)
    with pytest.raises(DamagedCheckpointError, match="overlaps"):
        open_checkpoint(tmp_path / "a")


def test_a_deflate_bomb_is_not_unpacked(tmp_path):
    """Sixty-four megabytes of zeros in 64 kB: read it if a tensor of that size is wanted, not before."""
    path = _archive(
        tmp_path, _tensor_pickle((2,), (1,), count=1 << 24), bytes(1 << 26), method=zipfile.ZIP_DEFLATED
    )
    tracemalloc.start()
    try:
        lazy = open_checkpoint(path).tree["w"]
        assert lazy.read().tolist() == [0.0, 0.0]
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    data = path.read_bytes()
    lie = _patched(data, struct.pack("<L", 1 << 26), struct.pack("<L", (1 << 32) - 2))
    path.write_bytes(lie)
    with pytest.raises(DamagedCheckpointError, match="claim to hold 4294967294 bytes"):
        open_checkpoint(path)


def test_a_member_that_unpacks_to_something_else(tmp_path):
    values = np.random.default_rng(0).normal(size=1000)
    for size in (8000 - 8, 8000 + 8):
        np.savez_compressed(tmp_path / "a.npz", w=values)
        data = (tmp_path / "a.npz").read_bytes()
        forged = _patched(data, struct.pack("<L", 8128), struct.pack("<L", 128 + size))
        (tmp_path / "a.npz").write_bytes(forged)
        with pytest.raises(DamagedCheckpointError, match=f"of {size} bytes|has {size} bytes"):
            open_checkpoint(tmp_path / "a.npz")
    np.savez_compressed(tmp_path / "a.npz", w=values)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[4000] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(DamagedCheckpointError, match="unpack"):
        open_checkpoint(tmp_path / "a.npz").tree["w"].read()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 3), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -1), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': __import__('os').system('true'), }",
        "{'descr': '<f4', 'fortran_order': 3, 'shape': (2,), }",
        "((" * 10_000,
        "",
    ],
)
def test_arrays_that_lie(tmp_path, header):
    text = header.encode().ljust(118) + b"\n"
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr("w.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + bytes(8))
    with pytest.raises(DamagedCheckpointError):
        open_checkpoint(tmp_path / "a")


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    np.savez(
        tmp_path / "a.npz", w=np.ones(2), objects=np.array([_Attack(str(tmp_path / "ran"))], dtype=object)
    )
    tree = open_checkpoint(tmp_path / "a.npz").tree
    assert tree["objects"].qualified_name == "numpy array of Python objects"
    assert tree["w"].read().tolist() == [1.0, 1.0]
    assert not (tmp_path / "ran").exists()


class _Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def _safetensors(header: object, data: bytes = b"", size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def _entry(shape, offsets, dtype="F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "data",
    [
        _safetensors({"w": _entry([2], [0, 8])}, bytes(7)),
        _safetensors({"w": _entry([2], [0, 8])}, bytes(9)),
        _safetensors({"w": _entry([3], [0, 8])}, bytes(8)),
        _safetensors({"w": _entry([1], [0, 8])}, bytes(8)),
        _safetensors({"w": _entry([2], [0, 8], "F64")}, bytes(8)),
        _safetensors({"w": _entry([2], [8, 0])}, bytes(8)),
        _safetensors({"w": _entry([2], [-8, 0])}, bytes(8)),
        _safetensors({"w": _entry([-2], [0, 8])}, bytes(8)),
        _safetensors({"w": _entry([1 << 62, 1 << 62, 0], [0, 0])}),
        _safetensors({"w": _entry([2.0], [0, 8])}, bytes(8)),
        _safetensors({"w": _entry([True, 2], [0, 8])}, bytes(8)),
        _safetensors({"w": _entry("ab", [0, 8])}, bytes(8)),
        _safetensors({"w": _entry([2], [0])}, bytes(8)),
        _safetensors({"w": 3}),
        _safetensors({"w": _entry([2], [0, 8]), "v": _entry([2], [4, 12])}, bytes(12)),
        _safetensors({"w": _entry([2], [0, 8]), "v": _entry([2], [0, 8])}, bytes(8)),
        _safetensors({"w": _entry([2], [8, 16])}, bytes(16)),
        _safetensors(b'{"w": {}, "w": {}}'),
        _safetensors(b"{" + b'"a":[' * 100_000),
        _safetensors(b'{"a": 1' + b"0" * 10_000 + b"}"),
        _safetensors(b"{\xff\xfe}"),
        _safetensors(b"{}", size=1 << 31),
        _safetensors(b"{", size=1),
        _safetensors(b'{"w": NaN}'),
    ],
)
def test_safetensors_that_lie(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(DamagedCheckpointError):
        open_checkpoint(tmp_path / "a")


def test_a_zip_whose_local_header_disagrees(tmp_path):
    path = _archive(tmp_path, _tensor_pickle((2,), (1,)), bytes(32))
    data = path.read_bytes()
    second = data.index(b"PK\3\4", 4)
    for place, value in ((0, b"XX"), (8, b"\x08\0"), (28, b"\xff\xff"), (18, b"\x21\0")):
        forged = bytearray(data)
        forged[second + place : second + place + 2] = value
        path.write_bytes(forged)
        with pytest.raises(DamagedCheckpointError, match=r"contradicts itself about member 'a/data/0'"):
            open_checkpoint(path)


def test_a_stored_member_of_two_sizes(tmp_path):
    path = _archive(tmp_path, _tensor_pickle((2,), (1,)), bytes(32))
    data = path.read_bytes()
    entry = data.index(b"PK\1\2", data.index(b"PK\1\2") + 4)
    path.write_bytes(data[: entry + 24] + struct.pack("<L", 31) + data[entry + 28 :])
    with pytest.raises(DamagedCheckpointError, match="'a/data/0' of the zip archive is encrypted or packed"):
        open_checkpoint(path)


def test_one_storage_of_two_types(tmp_path):
    first = _tensor_pickle((2,), (1,))
    second = _tensor_pickle((2,), (1,), kind="IntStorage")
    path = _archive(tmp_path, first[:-1] + second[3:-1] + b"\x86.", bytes(32))
    with pytest.raises(DamagedCheckpointError, match=r"torch\.int32 is announced"):
        open_checkpoint(path)
