"""Damaged and hostile files: an error of ours, soon, in little memory, and nothing is run."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import struct
import tracemalloc
import warnings
import zipfile
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
    UnsafeCheckpointError,
)
from framework.pretrain.formats import unpickle as unpickle_module
from framework.pretrain.formats.torch_legacy import MAGIC_PICKLE

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


# Attacks. Each pickle calls a function, through every opcode that can make one call another.


def _text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def _opcodes(module: str, name: str, argument: str) -> dict[str, bytes]:
    plain = f"c{module}\n{name}\n".encode()
    stacked = _text(module) + _text(name) + b"\x93"
    value = _text(argument)
    with_state = b"c__main__\nAnything\n)\x81}" + _text("__setstate__") + plain + b"sb" + b"(" + value + b"tb"
    return {
        "REDUCE": plain + value + b"\x85R",
        "STACK_GLOBAL": stacked + value + b"\x85R",
        "NEWOBJ": plain + value + b"\x85\x81",
        "NEWOBJ_EX": plain + value + b"\x85}\x92",
        "INST": b"(" + value + f"i{module}\n{name}\n".encode(),
        "OBJ": b"(" + plain + value + b"o",
        "BUILD": with_state,
        "BUILD of the function": plain + b"}" + _text("a") + value + b"sb",
        "a method in a dict": b"}" + _text("__reduce__") + plain + b"s",
        "in a tensor's arguments": b"ctorch._utils\n_rebuild_tensor_v2\n("
        + plain
        + value
        + b"\x85RK\x00))\x89Nt"
        + b"R",
        "a tensor subclass": b"ctorch._tensor\n_rebuild_from_type_v2\n(" + plain + plain + value + b"\x85NtR",
        "defaultdict": b"ccollections\ndefaultdict\n" + plain + b"\x85R" + _text("missing") + value + b"s",
        "getattr": b"cbuiltins\ngetattr\n" + stacked + _text("__call__") + b"\x86R" + value + b"\x85R",
        "reconstructor": b"ccopy_reg\n_reconstructor\n(" + plain + plain + value + b"tR",
        "partial": b"cfunctools\npartial\n" + plain + value + b"\x86R)R",
        "map": b"cbuiltins\nmap\n" + plain + value + b"\x85\x86R",
        "numpy": b"cnumpy.core.multiarray\n_reconstruct\n(" + plain + b"K\x00\x85U\x01btR(" + value + b"tb",
        "persistent id": plain + value + b"\x85RQ",
    }


REFUSED = {
    "os.system": ("os", "system", "touch {}"),
    "posix": ("posix", "system", "touch {}"),
    "eval": ("builtins", "eval", "open({!r}, 'w')"),
    "Python 2's eval": ("__builtin__", "eval", "open({!r}, 'w')"),
    "subprocess": ("subprocess", "getoutput", "touch {}"),
    "mkdir": ("os", "mkdir", "{}"),
    "hub": ("torch.hub", "load", "{}"),
}


@pytest.mark.parametrize("victim", REFUSED)
def test_nothing_is_run_through_any_opcode(tmp_path, victim):
    module, name, argument = REFUSED[victim]
    marker = tmp_path / "ran"
    for opcode, body in _opcodes(module, name, argument.format(str(marker))).items():
        attack = b"\x80\x04" + body + b"."
        for path in _carriers(tmp_path, attack):
            with pytest.raises(UnsafeCheckpointError, match=rf"{module.strip('_').split('.')[0]}") as caught:
                open_checkpoint(path)
            assert "Nothing was run" in str(caught.value), opcode
            assert not marker.exists(), opcode


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("pathlib", "Path.touch"),
        ("someones.project", "Config"),
        ("builtins", "getattr"),
        ("operator", "attrgetter"),
    ],
)
def test_other_names_are_not_called_either(tmp_path, module, name):
    marker = tmp_path / "ran"
    for opcode, body in _opcodes(module, name, str(marker)).items():
        for path in _carriers(tmp_path, b"\x80\x04" + body + b"."):
            with contextlib.suppress(CheckpointError):
                open_checkpoint(path)
        inside = b"\x80\x04}" + _text("weights") + body + b"s."
        for path in _carriers(tmp_path, inside):
            try:
                tree = open_checkpoint(path).tree
            except DamagedCheckpointError:
                assert opcode in ("persistent id", "in a tensor's arguments", "a tensor subclass", "numpy",
                                  "BUILD of the function"), opcode  # fmt: skip
            else:
                assert "weights" in tree
        assert not marker.exists(), opcode


def _carriers(tmp_path: Path, attack: bytes) -> list[Path]:
    """Put a pickle into each format that has one."""
    system = MAGIC_PICKLE + b"\x80\x02M\xe9\x03." + b"\x80\x02}."
    files = {"pickle": attack, "legacy": system + attack + b"\x80\x02]."}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("archive/data.pkl", attack)
    return [tmp_path / name for name in (*files, "zip")]


def test_names_are_all_listed(tmp_path):
    body = b"\x80\x02(cos\nsystem\ncsubprocess\nPopen\ncnumpy\nndarray\ncos.path\njoin\nt."
    (tmp_path / "a").write_bytes(body)
    with pytest.raises(UnsafeCheckpointError, match=r"os\.path\.join, os\.system, subprocess\.Popen\."):
        open_checkpoint(tmp_path / "a")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"), ("nt", "system"), ("subprocess", "Popen"), ("sys", "exit"), ("runpy", "run_path"),
        ("socket", "socket"), ("importlib", "import_module"), ("importlib.util", "x"), ("ctypes", "CDLL"),
        ("shutil", "rmtree"), ("pty", "spawn"), ("code", "interact"), ("types", "FunctionType"),
        ("types", "CodeType"), ("marshal", "loads"), ("webbrowser", "open"), ("pickle", "loads"),
        ("torch", "load"), ("torch.hub", "load"), ("builtins", "exec"), ("builtins", "__import__"),
        ("builtins", "open"),
        ("__builtin__", "compile"), ("json", "codecs.builtins.eval"), ("logging", "os.system"),
        ("torch.serialization", "os.system"),
    ],
)  # fmt: skip
def test_names_that_are_refused(tmp_path, module, name):
    torch.save({"w": torch.ones(2)}, tmp_path / "a")
    (tmp_path / "a").write_bytes(b"\x80\x04" + _text(module) + _text(name) + b"\x93.")
    with pytest.raises(UnsafeCheckpointError, match="names functions that run code"):
        open_checkpoint(tmp_path / "a")


@pytest.mark.parametrize("code", [b"\x82\x05", b"\x83\x05\x00", b"\x84\x05\x00\x00\x00"], ids=["1", "2", "4"])
def test_extension_codes_are_refused(tmp_path, code):
    import copyreg

    copyreg.add_extension("builtins", "print", 5)
    try:
        (tmp_path / "a").write_bytes(b"\x80\x02" + code + b")R.")
        with pytest.raises(UnsafeCheckpointError, match="registry"):
            open_checkpoint(tmp_path / "a")
    finally:
        copyreg.remove_extension("builtins", "print", 5)


# Bombs.


PICKLES = {
    "nested lists": b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".",
    "nested tuples": b"\x80\x02)" + b"\x85" * 20_000 + b".",
    "nested dicts": b"\x80\x02" + b"}K\x01" * 20_000 + b"N" + b"s" * 20_000 + b".",
    "nested objects": b"\x80\x02" + b"ca\nb\n" + b")\x81cx\ny\n\x86" * 50_000 + b"R.",
    "text beyond the end": b"\x80\x02X\xff\xff\xff\xff.",
    "8-byte text": b"\x80\x04\x8d" + b"\xff" * 8 + b".",
    "8-byte bytes": b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b".",
    "bytearray": b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".",
    "a long number": b"\x80\x02\x8b" + (1 << 20).to_bytes(4, "little") + b"\x01" * (1 << 20) + b".",
    "a negative length": b"\x80\x02\x8b\xff\xff\xff\xff.",
    "digits": b"(L" + b"9" * 1_000_000 + b"L\n.",
    "no digits": b"(Iabc\n.",
    "a memo of billions": b"\x80\x02]r\xff\xff\xff\xffj\x00\x00\x00\x00.",
    "a missing memo": b"\x80\x02h\x07.",
    "an empty stack": b"\x80\x02.",
    "a mark that is not there": b"\x80\x02t.",
    "pop of nothing": b"\x80\x020.",
    "odd items": b"\x80\x02}(K\x01u.",
    "append to a dict": b"\x80\x02}K\x01a.",
    "append to a number": b"\x80\x02K\x01K\x01a.",
    "item of a list": b"\x80\x02]K\x01K\x01s.",
    "call of a number": b"\x80\x02K\x01)R.",
    "call with no tuple": b"\x80\x02ca\nb\nK\x01R.",
    "state of a number": b"\x80\x02K\x01K\x01b.",
    "a global without names": b"\x80\x04K\x01K\x02\x93.",
    "an endless name": b"\x80\x04" + _text("a" * 1000) + _text("b") + b"\x93.",
    "an endless line": b"\x80\x02c" + b"a" * 1_000_000,
    "protocol 77": b"\x80\x05\x80\x4dN.",
    "no opcode": b"\x80\x02\xff.",
    "a buffer from outside": b"\x80\x05\x97.",
    "bad text": b"\x80\x02X\x02\x00\x00\x00\xff\xff.",
    "a number": b"\x80\x02K\x01.",
    "an empty object": b"\x80\x02(o.",
    "a tensor of nothing": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
    "a wide shape": b"\x80\x02ctorch._utils\n_rebuild_wrapper_subclass\n(NN(" + b"K\x01" * 1000 + b"ttR.",
    "subclasses": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\nq\x00" + b"(h\x00h\x00))t" * 2000,
    "a huge key": b"\x80\x02}\x8a\xff" + b"\x7f" * 255 + b"Ns.",
    "names by the thousand": b"\x80\x02" + b"".join(b"cm\nn%d\n0" % i for i in range(11_000)) + b"N.",
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_beyond_measure(tmp_path, name):
    path = tmp_path / "a"
    path.write_bytes(PICKLES[name])
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="a'"):
            _read_all(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("innermost", [b"K\x01", b"]"])
def test_billion_laughs(tmp_path, innermost):
    """Sixty lists, each of which holds the one before twice."""
    doubled = [b"](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(60)]
    laughs = b"\x80\x02" + innermost + b"q\x00" + b"".join(doubled) + b"."
    (tmp_path / "a").write_bytes(laughs)
    with pytest.raises(DamagedCheckpointError, match="unfold into more than"):
        open_checkpoint(tmp_path / "a")


@pytest.mark.parametrize("key", [b")" + b"\x85" * 20_000, b")" + b"2\x86" * 1000, b"ca\nb\n", b"]"])
def test_keys_are_not_hashed(tmp_path, key):
    """A nested tuple would overflow the stack, and one that doubles at each level take for ever."""
    (tmp_path / "a").write_bytes(b"\x80\x02}" + key + b"K\x01s.")
    assert list(open_checkpoint(tmp_path / "a").tree.values()) == [1]


def test_keys_chosen_to_collide(tmp_path):
    """Python's hash of a whole number is its remainder by 2**61 - 1: a dict of these would take minutes."""
    keys = b"".join(b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") + b"N" for i in range(30_000))
    (tmp_path / "a").write_bytes(b"\x80\x02}(" + keys + b"u.")
    with pytest.raises(DamagedCheckpointError, match="beyond 64 bits"):
        open_checkpoint(tmp_path / "a")


def test_the_number_of_steps_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(unpickle_module, "MAX_STEPS", 1000)
    (tmp_path / "a").write_bytes(b"\x80\x02" + b"N0" * 600 + b"N.")
    with pytest.raises(DamagedCheckpointError, match="more than 1,000 steps"):
        open_checkpoint(tmp_path / "a")


def test_a_long_text_named_often_is_not_copied(tmp_path):
    """Each of these calls makes a copy in Python's own pickle: a gigabyte from a megabyte."""
    text = _text("x" * 1_000_000)
    encode = b"h\x00h\x01" + _text("latin1") + b"\x86R"
    body = b"c_codecs\nencode\nq\x000" + text + b"q\x010](" + encode * 1000 + b"e."
    (tmp_path / "a").write_bytes(b"\x80\x02" + body)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=r"a single object \(list\)"):
            open_checkpoint(tmp_path / "a")
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


# Archives that lie.


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
    assert _read_all(tmp_path / "b") == 1000


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


def test_an_old_file_whose_storages_lie(tmp_path):
    data = FILES["torch legacy"]()
    count = struct.pack("<q", 40)
    at = data.rindex(count + struct.pack("<f", 5.0))
    for value in (41, 1 << 62, -1):
        (tmp_path / "a").write_bytes(data[:at] + struct.pack("<q", value) + data[at + 8 :])
        with pytest.raises(DamagedCheckpointError, match="another length"):
            open_checkpoint(tmp_path / "a")
