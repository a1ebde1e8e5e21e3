"""Files that are damaged: an error of ours, whatever is missing or flipped."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save

from framework.pretrain.checkpoint import LazyTensor, open_checkpoint
from framework.pretrain.errors import (
    CheckpointError,
    DamagedCheckpointError,
    PretrainError,
)

TENSORS = {f"layer.{i}.weight": torch.arange(40.0).view(5, 8) + i for i in range(6)}
ARRAYS = {name: value.numpy() for name, value in TENSORS.items()}


def _written(write) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def _script() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _written(lambda f: torch.jit.save(torch.jit.script(torch.nn.Linear(3, 4)), f))


FILES = {
    "torch zip": lambda: _written(lambda f: torch.save({"state_dict": TENSORS, "epoch": 3}, f)),
    "torch legacy": lambda: _written(lambda f: torch.save(TENSORS, f, _use_new_zipfile_serialization=False)),
    "safetensors": lambda: save(TENSORS),
    "npz": lambda: _written(lambda f: np.savez(f, **ARRAYS)),
    "npz packed": lambda: _written(lambda f: np.savez_compressed(f, **ARRAYS)),
    "pickle": lambda: pickle.dumps({"model": ARRAYS}, protocol=2),
    "pickle of tensors": lambda: pickle.dumps(dict(list(TENSORS.items())[:2])),
    "torchscript": _script,
}


def _read_all(path: Path) -> int:
    """Open the file and read what is in it; return the number of tensors."""
    nodes: list[object] = [open_checkpoint(path).tree]
    count = 0
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            nodes.extend(node.values())
        elif isinstance(node, LazyTensor) and node.nbytes < 1 << 20:
            node.read()
            node.map()
            count += 1
    return count


@pytest.mark.parametrize("kind", FILES)
def test_truncated_at_every_hundredth(tmp_path, kind):
    data = FILES[kind]()
    path = tmp_path / "a"
    path.write_bytes(data)
    assert _read_all(path) > 0
    for hundredth in range(100):
        path.write_bytes(data[: len(data) * hundredth // 100])
        with pytest.raises(CheckpointError, match=str(path)):
            _read_all(path)


@pytest.mark.parametrize("kind", FILES)
def test_every_bit_of_the_headers_flipped(tmp_path, kind):
    """A flipped bit is an error, or it changes nothing but values and names."""
    data = FILES[kind]()
    path = tmp_path / "a"
    places = {*range(min(len(data), 60)), *range(len(data) - min(len(data), 120), len(data))}
    errors = 0
    for place in sorted(places):
        flipped = bytearray(data)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        try:
            _read_all(path)
        except PretrainError:
            errors += 1
    assert errors > 10


def test_a_truncated_distributed_checkpoint(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(dict(list(TENSORS.items())[:2]), checkpoint_id=tmp_path / "a", no_dist=True)
    for name in (".metadata", "__0_0.distcp"):
        whole = (tmp_path / "a" / name).read_bytes()
        for hundredth in range(0, 100, 3):
            (tmp_path / "a" / name).write_bytes(whole[: len(whole) * hundredth // 100])
            with pytest.raises(PretrainError):
                _read_all(tmp_path / "a")
        (tmp_path / "a" / name).write_bytes(whole)
    assert _read_all(tmp_path / "a") == 2


def test_an_old_file_whose_storages_lie(tmp_path):
    data = FILES["torch legacy"]()
    count = struct.pack("<q", 40)
    at = data.rindex(count + struct.pack("<f", 5.0))
    for value in (41, 1 << 62, -1):
        (tmp_path / "a").write_bytes(data[:at] + struct.pack("<q", value) + data[at + 8 :])
        with pytest.raises(DamagedCheckpointError, match="another length"):
            open_checkpoint(tmp_path / "a")


@pytest.mark.parametrize(
    "keys", [[], ["0"], ["0", "0"], ["0", "2"], ["0", "1", "2"], ["1", 0], {"0": 1}, "01"]
)
def test_an_old_file_that_lists_other_storages(tmp_path, keys):
    torch.save([torch.ones(1), torch.ones(1)], tmp_path / "a", _use_new_zipfile_serialization=False)
    data = (tmp_path / "a").read_bytes()
    at = data.rindex(b"\x80\x02]q")
    stored = pickle.loads(data[at:])
    names = dict(zip("01", stored, strict=True))
    changed = [names.get(key, key) for key in keys] if isinstance(keys, list) else keys
    rest = data[at + len(pickle.dumps(stored, 2)) :]
    (tmp_path / "a").write_bytes(data[:at] + pickle.dumps(changed, 2) + rest)
    with pytest.raises(DamagedCheckpointError, match="other storages than its tensors need"):
        open_checkpoint(tmp_path / "a")


def _module(name: str) -> torch.nn.Module:
    inner, outer = torch.nn.Module(), torch.nn.Module()
    inner.register_buffer("w", torch.ones(1))
    outer.add_module(name, inner)
    return outer


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"a" * 1_000_000: {f"w{i}": torch.ones(1) for i in range(200)}},  # 200 MB of joined names
        lambda: _module("a" * 1_000_000),
        lambda: {".".join("1" * 5_000): torch.ones(1)},  # a name has as many endings as dots
        lambda: {"a" * 1_500: {"b" * 1_500: torch.ones(1)}},
    ],
    ids=["a dict", "a module", "segments", "joined"],
)
def test_names_beyond_measure(tmp_path, make):
    torch.save(make(), tmp_path / "long.pth")
    with pytest.raises(DamagedCheckpointError, match=r"long\.pth.*a name in the file has [\d,]+ characters"):
        open_checkpoint(tmp_path / "long.pth")


def test_long_names_of_what_is_no_tensor(tmp_path):
    torch.save({"prompts": {"a photo of " * 1_000: 1}, "model": TENSORS}, tmp_path / "prompts.pth")
    assert "model" in open_checkpoint(tmp_path / "prompts.pth").tree
