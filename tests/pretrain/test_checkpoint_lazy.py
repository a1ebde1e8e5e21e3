"""A tensor in a file: straight into given memory, in pieces, from several threads."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from framework.pretrain.checkpoint import open_checkpoint
from framework.pretrain.errors import DamagedCheckpointError, MismatchError

VALUES = torch.arange(12_000, dtype=torch.float32).view(30, 400) / 7


@pytest.fixture(params=["zip", "legacy", "safetensors", "npz", "npz packed"])
def lazy(request, tmp_path):
    path = tmp_path / "a"
    save = {
        "zip": lambda: torch.save({"w": VALUES}, path),
        "legacy": lambda: torch.save({"w": VALUES}, path, _use_new_zipfile_serialization=False),
        "safetensors": lambda: save_file({"w": VALUES}, path),
        "npz": lambda: np.savez(open_for_numpy(path), w=VALUES.numpy()),
        "npz packed": lambda: np.savez_compressed(open_for_numpy(path), w=VALUES.numpy()),
    }
    save[request.param]()
    return open_checkpoint(path).tree["w"]


def open_for_numpy(path):
    """Numpy adds a suffix to a name that has none, but not to a path object with one."""
    target = path.with_suffix(".npz")
    target.touch()
    path.symlink_to(target)
    return target


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "slice", "parameter"])
def test_read_into_any_memory(lazy, dtype, layout):
    out = {
        "contiguous": lambda: torch.zeros(30, 400, dtype=dtype),
        "transposed": lambda: torch.zeros(400, 30, dtype=dtype).t(),
        "slice": lambda: torch.zeros(60, 800, dtype=dtype)[::2, 400:],
        "parameter": lambda: nn.Parameter(torch.zeros(30, 400, dtype=dtype)),
    }[layout]()
    lazy.read_into(out)
    assert torch.equal(out.detach(), VALUES.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_pieces_fill_the_whole_from_many_threads(lazy, dtype):
    out = torch.full((30, 400), float("nan"), dtype=dtype)
    pieces = lazy.pieces(out, piece_bytes=1000)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda piece: piece(), pieces))
    assert torch.equal(out, VALUES.to(dtype))
    assert len(pieces) in (1, 48)
    assert len(lazy.pieces(torch.zeros(400, 30).t(), 1000)) == 1, "what is not contiguous is not split"


def test_a_wrong_shape_is_an_error(lazy):
    with pytest.raises(MismatchError, match=r"\[30, 400\]"):
        lazy.read_into(torch.zeros(400, 30))
    with pytest.raises(MismatchError):
        lazy.pieces(torch.zeros(12_000), 1000)


def test_what_was_read_is_our_own(lazy, tmp_path):
    first, second, mapped = lazy.read(), lazy.read(), lazy.map()
    first.zero_()
    mapped[0] = -1
    assert torch.equal(second, VALUES)
    assert torch.equal(lazy.read(), VALUES), "neither memory nor a private map writes to the file"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors where Linux lists them")
def test_no_descriptor_stays_open(lazy):
    before = len(os.listdir("/proc/self/fd"))
    kept = [lazy.read(), lazy.map()]
    assert len(os.listdir("/proc/self/fd")) - before <= 1, "a map holds one at most"
    assert kept


def test_values_that_were_read_do_not_depend_on_the_file(tmp_path):
    """Run in a process of its own, which a live map of a truncated file would kill."""
    for name in ("truncated", "overwritten", "deleted"):
        torch.save({"w": VALUES}, tmp_path / name)
    code = """
import os, torch
from framework.pretrain.checkpoint import open_checkpoint
def load(name):
    lazy = open_checkpoint(name).tree["w"]
    out = torch.empty(30, 400)
    lazy.read_into(out)
    return lazy.read(), out
loaded = [*load("truncated"), *load("overwritten"), *load("deleted")]
os.truncate("truncated", 0)
with open("overwritten", "r+b") as file:
    file.write(bytes(60_000))
os.remove("deleted")
assert all(torch.equal(values, torch.arange(12_000.0).view(30, 400) / 7) for values in loaded)
print("alive")
"""
    run = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "alive", done.stderr


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "npz", "npz packed", "pickle"])
def test_opening_reads_no_values(tmp_path, kind):
    values = np.random.default_rng(0).normal(size=(4, 1 << 18))
    tensors = {"w": torch.from_numpy(values)}
    with open(tmp_path / "a", "wb") as file:
        {
            "zip": lambda: torch.save(tensors, file),
            "legacy": lambda: torch.save(tensors, file, _use_new_zipfile_serialization=False),
            "safetensors": lambda: file.write(save(tensors)),
            "npz": lambda: np.savez(file, w=values),
            "npz packed": lambda: np.savez_compressed(file, w=values),
            "pickle": lambda: pickle.dump({"w": values}, file),
        }[kind]()
    tracemalloc.start()
    try:
        lazy = open_checkpoint(tmp_path / "a").tree["w"]
        assert tracemalloc.get_traced_memory()[1] < values.nbytes / 4
    finally:
        tracemalloc.stop()
    assert torch.equal(lazy.read(), tensors["w"])


def test_a_file_that_changes_under_the_reader_is_noticed(tmp_path):
    torch.save({"w": VALUES}, tmp_path / "a")
    lazy = open_checkpoint(tmp_path / "a").tree["w"]
    with open(tmp_path / "a", "ab") as file:
        file.write(b"more")
    with pytest.raises(DamagedCheckpointError, match="changed while it was being read"):
        lazy.read()


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_identity_tells_shared_tensors(tmp_path, new):
    base = torch.randn(6, 4)
    saved = {
        "a": base,
        "tied": base,
        "view": base[1:],
        "t": base.t(),
        "equal": base.clone(),
        "again": base[1:],
    }
    torch.save(saved, tmp_path / "a", _use_new_zipfile_serialization=new)
    identity = {name: lazy.identity for name, lazy in open_checkpoint(tmp_path / "a").tree.items()}
    assert identity["a"] == identity["tied"]
    assert identity["view"] == identity["again"]
    assert len(set(identity.values())) == 4


def test_views_of_storages_in_old_files(tmp_path):
    """Torch before 0.4 saved slices of storages as views with an offset of their own."""
    import io
    import pickle

    from framework.pretrain.formats.torch_legacy import MAGIC

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, tuple) and value[:1] == ("view",):
                return ("storage", torch.FloatStorage, "root", "cpu", 10, value[1])
            return None

    stream = io.BytesIO()
    for header in (MAGIC, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}):
        pickle.dump(header, stream, protocol=2)
    rebuilt = _Rebuilt(("view", ("v", 4, 5))), _Rebuilt(("view", None))
    Pickler(stream, protocol=2).dump({"part": rebuilt[0], "whole": rebuilt[1]})
    pickle.dump(["root"], stream, protocol=2)
    stream.write((10).to_bytes(8, "little") + np.arange(10, dtype="<f4").tobytes())
    (tmp_path / "a").write_bytes(stream.getvalue())
    tree = open_checkpoint(tmp_path / "a").tree
    assert tree["part"].read().tolist() == [5.0, 6.0]
    assert tree["whole"].read().tolist() == [1.0, 2.0]


class _Rebuilt:
    """Pickles as torch pickled tensors before 0.4: two elements from the second on."""

    def __init__(self, storage):
        self.storage = storage

    def __reduce__(self):
        return torch._utils._rebuild_tensor, (self.storage, 1, (2,), (1,))
