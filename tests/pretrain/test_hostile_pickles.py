"""Pickles that want to run something, or to fill the memory: an error of ours, soon, and nothing is run."""

from __future__ import annotations

import contextlib
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch

from framework.pretrain.checkpoint import open_checkpoint
from framework.pretrain.errors import (
    CheckpointError,
    DamagedCheckpointError,
    UnsafeCheckpointError,
)
from framework.pretrain.formats import unpickle as unpickle_module
from framework.pretrain.formats.torch_legacy import MAGIC_PICKLE


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


NAMES = b"".join(b"cm\nn%d\n0" % i for i in range(11_000))
PICKLES = {
    "nested lists": (b"]" * 20_000 + b"a" * 19_999, "nested more than"),
    "nested tuples": (b")" + b"\x85" * 20_000, "nested more than"),
    "nested dicts": (b"}K\x01" * 20_000 + b"N" + b"s" * 20_000, "nested more than"),
    "nested objects": (b"ca\nb\nq\x000N" + b"q\x010h\x00h\x01\x85R" * 20_000, "nested more than"),
    "text beyond the end": (b"X\xff\xff\xff\xff", "truncated: .* wants 4294967295 bytes"),
    "8-byte text": (b"\x8d" + b"\xff" * 8, "truncated"),
    "8-byte bytes": (b"\x8e" + (1 << 62).to_bytes(8, "little"), "truncated"),
    "bytearray": (b"\x96" + (1 << 40).to_bytes(8, "little"), "truncated"),
    "a long number": (b"}N\x8b\0\0\x10\0" + b"\1" * (1 << 20) + b"s", "whole number of 1048576 bytes"),
    "a negative length": (b"\x8b\xff\xff\xff\xff", "whole number of 4294967295 bytes"),
    "digits": (b"}NL" + b"9" * 1_000_000 + b"L\ns", "number of 1000000 digits"),
    "no digits": (b"Iabc\n", "number that is none"),
    "no float": (b"Fabc\n", "number that is none"),
    "no quotes": (b"Sabc\n", "text without quotes"),
    "a memo of billions": (b"]r\xff\xff\xff\xffj\0\0\0\0", "damaged near byte 13"),
    "a missing memo": (b"h\x07", "damaged near"),
    "an empty stack": (b"", "damaged near"),
    "a mark that is not there": (b"t", "damaged near"),
    "pop of nothing": (b"0", "damaged near"),
    "a tuple of what is not there": (b"N\x87", "damaged near"),
    "odd items": (b"}(K\x01u", "a key without a value"),
    "append to a dict": (b"}K\x01a", "appends to something that is no list"),
    "append to a number": (b"K\x01K\x01a", "appends to something that is no list"),
    "item of a list": (b"]K\x01K\x01s", "something that is no dict"),
    "call of a number": (b"K\x01)R", "something that is no function"),
    "call with no tuple": (b"ca\nb\nK\x01R", "something other than arguments"),
    "an empty object": (b"(o", "something that is no function"),
    "state of a number": (b"K\x01K\x01b", "state to something that has none"),
    "a global without names": (b"K\x01K\x02\x93", "something other than a name"),
    "an endless name": (_text("a" * 1000) + _text("b") + b"\x93", "something other than a name"),
    "an endless line": (b"c" + b"a" * 1_000_000, "middle of a line"),
    "protocol 77": (b"\x80\x4dN", "protocol 77"),
    "no opcode": (b"\xff", "byte 2 of the pickle is no opcode"),
    "a buffer from outside": (b"\x97", "buffers outside"),
    "bad text": (b"X\2\0\0\0\xff\xff", "damaged near"),
    "a persistent id": (b"K\x01Q", "objects outside"),
    "a number": (b"K\x01", r"a single object \(int\)"),
    "a tensor of nothing": (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "wrong arguments"),
    "a wide shape": (b"ctorch._utils\n_rebuild_wrapper_subclass\n(NN(" + b"N" * 100 + b"ttR", "few whole"),
    "a huge key": (b"}\x8a\xff" + b"\x7f" * 255 + b"Ns", "beyond 64 bits"),
    "names by the thousand": (NAMES + b"}", "more than 10,000 classes"),
}


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_beyond_measure(tmp_path, name):
    body, words = PICKLES[name]
    (tmp_path / "a").write_bytes(b"\x80\x04" + body + b".")
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=words):
            open_checkpoint(tmp_path / "a")
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


@pytest.mark.parametrize(
    "wide", [b"}(" + b"M\0\1N" * 20_000 + b"u", b"](" + b"ca\nb\n" + b"2" * 20_000 + b"e"]
)
def test_a_wide_container_named_often(tmp_path, wide):
    """Two hundred references to a container of twenty thousand entries are four million entries."""
    (tmp_path / "a").write_bytes(b"\x80\x02" + wide + b"q\x000](" + b"h\x00" * 200 + b"e.")
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
