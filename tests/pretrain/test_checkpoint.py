"""Every format, written by the library that owns it, gives back every bit."""

from __future__ import annotations

import gzip
import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from framework.pretrain.checkpoint import Inert, LazyTensor, open_checkpoint
from framework.pretrain.errors import CheckpointError, NotAllowedError, NotFoundError


def _special(dtype: torch.dtype) -> Tensor:
    """All kinds of bits, among them NaN and infinities."""
    raw = (
        torch.arange(256, dtype=torch.uint8)
        if dtype != torch.bool
        else torch.tensor([0, 1], dtype=torch.uint8)
    )
    return raw.view(dtype)


PLAIN = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64")
OTHER = ("bfloat16", "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "complex128")
ALL = {name: _special(getattr(torch, name)) for name in PLAIN + OTHER}
NUMPY = {name: ALL[name] for name in PLAIN}

BASE = torch.arange(24.0).view(6, 4)
VIEWS = {
    "whole": BASE,
    "transposed": BASE.t(),
    "strided": BASE[1:5:2, ::3],
    "expanded": torch.ones(1, 3).expand(5, 3),
    "scalar": torch.tensor(3.5),
    "empty": torch.empty(0, 3),
    "channels_last": torch.arange(2.0 * 3 * 4 * 5)
    .view(2, 3, 4, 5)
    .contiguous(memory_format=torch.channels_last),
    "parameter": nn.Parameter(torch.tensor([1.0, -2.0])),
    "buffer": torch.ones(3, requires_grad=True) * 2,
}


def _same_bits(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    raw_a, raw_b = (x.detach().contiguous().view(-1).view(torch.uint8) for x in (a, b))
    return torch.equal(raw_a, raw_b)


def _flat(tree, prefix: str = "") -> dict[str, LazyTensor]:
    flat = {}
    for key, node in tree.items():
        if isinstance(node, LazyTensor):
            flat[prefix + key] = node
        elif isinstance(node, dict):
            flat |= _flat(node, f"{prefix}{key}.")
    return flat


def _check(path: Path, expected: dict[str, Tensor], file_format: str) -> None:
    checkpoint = open_checkpoint(path)
    assert checkpoint.format == file_format
    tensors = _flat(checkpoint.tree)
    assert set(tensors) == set(expected)
    for name, tensor in expected.items():
        lazy = tensors[name]
        assert (lazy.shape, lazy.dtype, lazy.numel) == (tuple(tensor.shape), tensor.dtype, tensor.numel()), (
            name
        )
        assert lazy.nbytes == tensor.numel() * tensor.element_size()
        for values in (lazy.read(), lazy.map()):
            assert _same_bits(values, tensor), name


def _zip(tensors, path):
    torch.save(tensors, path)


def _legacy(tensors, path):
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


def _pickle(tensors, path):
    path.write_bytes(pickle.dumps(tensors))


@pytest.mark.parametrize("save", [_zip, _legacy, _pickle])
@pytest.mark.parametrize("tensors", [ALL, VIEWS], ids=["types", "views"])
def test_torch_files(tmp_path, save, tensors):
    save(tensors, tmp_path / "a")
    names = {_zip: "torch zip", _legacy: "torch legacy", _pickle: "pickle"}
    _check(tmp_path / "a", tensors, names[save])


def test_safetensors(tmp_path):
    tensors = {name: value for name, value in ALL.items() if name not in ("complex128",)}
    save_file(
        tensors | {"scalar": torch.tensor(2.0), "empty": torch.empty(3, 0)}, tmp_path / "a", {"format": "pt"}
    )
    _check(tmp_path / "a", tensors | {"scalar": torch.tensor(2.0), "empty": torch.empty(3, 0)}, "safetensors")


@pytest.mark.parametrize("padding", range(9))
def test_safetensors_whose_data_is_not_aligned(tmp_path, padding):
    header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}' + b" " * padding
    (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header + np.float32([1, 2]).tobytes())
    _check(tmp_path / "a", {"w": torch.tensor([1.0, 2.0])}, "safetensors")
    assert open_checkpoint(tmp_path / "a").tree["w"].map().data_ptr() % 4 == 0


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    arrays = {name: value.numpy() for name, value in NUMPY.items()}
    arrays["params/img/pos"] = np.asfortranarray(np.arange(24.0).reshape(2, 3, 4))
    arrays["big_endian"] = np.arange(5, dtype=">f4")
    arrays["scalar"] = np.float32(7)
    arrays["words"] = np.array(["a", "b"])
    with open(tmp_path / "a", "wb") as file:
        save(file, **arrays)
    expected = dict(NUMPY)
    expected["params/img/pos"] = torch.arange(24.0, dtype=torch.float64).view(2, 3, 4)
    expected["big_endian"] = torch.arange(5, dtype=torch.float32)
    expected["scalar"] = torch.tensor(7.0)
    _check(tmp_path / "a", expected, "npz")
    assert open_checkpoint(tmp_path / "a").tree["words"] == Inert("numpy array of <U1")


def test_jax_bfloat16_is_two_bytes_without_a_type(tmp_path):
    values = torch.tensor([1.5, -2.0, float("nan")], dtype=torch.bfloat16)
    np.savez(tmp_path / "a.npz", kernel=values.view(torch.int16).numpy().view("V2"))
    _check(tmp_path / "a.npz", {"kernel": values}, "npz")


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_arrays_of_every_protocol(tmp_path, protocol):
    model = {name: value.numpy() for name, value in NUMPY.items()}
    model["long"] = np.arange(5000, dtype=np.float32)
    model["fortran"] = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    model["moved"] = np.moveaxis(np.arange(24.0).reshape(2, 3, 4), 0, 1)
    model["big_endian"] = np.arange(3, dtype=">i4")
    saved = {"model": model, "__author__": "Caffe2", "matching_heuristics": True, "lr": np.float64(0.1)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(saved, protocol=protocol))
    expected = {
        f"model.{name}": torch.from_numpy(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))))
        for name, array in model.items()
    }
    _check(tmp_path / "a.pkl", expected, "pickle")
    tree = open_checkpoint(tmp_path / "a.pkl").tree
    assert (tree["__author__"], tree["matching_heuristics"], tree["lr"]) == ("Caffe2", True, 0.1)


def test_a_pickle_of_python_2(tmp_path):
    """Text is bytes there, and so are the values of arrays; numpy's module still had its old name."""
    values = np.array([1.0, -2.0], dtype="<f4").tobytes()
    state = (
        b"(I1\n(I2\ntcnumpy\ndtype\n(U\x02f4I0\nI1\ntR(I3\nU\x01<NNNI-1\nI-1\nI0\ntbI00\nU\x08"
        + values
        + b"tb"
    )
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR" + state
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02}U\x05blobs}U\x07conv1_w" + array + b"ss.")
    _check(tmp_path / "a.pkl", {"blobs.conv1_w": torch.tensor([1.0, -2.0])}, "pickle")


def _network() -> nn.Module:
    return nn.Sequential(
        OrderedDict(stem=nn.Conv2d(3, 4, 3, bias=False), norm=nn.BatchNorm2d(4), head=nn.Linear(4, 2))
    )


@pytest.mark.parametrize("save", [_zip, _legacy])
def test_a_pickled_module_is_the_dict_of_its_tensors(tmp_path, save):
    module = _network()
    module.register_buffer("scratch", torch.ones(2), persistent=False)
    save({"model": module}, tmp_path / "a")
    _check(
        tmp_path / "a",
        {f"model.{k}": v for k, v in module.state_dict().items()},
        "torch zip" if save is _zip else "torch legacy",
    )
    assert "torch.nn.modules.container.Sequential" in open_checkpoint(tmp_path / "a").replaced


@pytest.mark.parametrize("how", ["script", "trace"])
def test_torchscript_has_the_names_of_the_state_dict(tmp_path, how):
    module = _network().half().float().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = (
            torch.jit.script(module)
            if how == "script"
            else torch.jit.trace(module[:2], torch.ones(1, 3, 8, 8))
        )
        torch.jit.save(made, tmp_path / "a.pt")
        expected = torch.jit.load(tmp_path / "a.pt").state_dict()
    _check(tmp_path / "a.pt", dict(expected), "torchscript")


def test_shapes_that_only_look_contiguous(tmp_path):
    """The stride of a dimension of size 1 does not matter, whatever it is."""
    tensor = torch.arange(4.0).as_strided((1, 4, 1), (17, 1, 99))
    torch.save({"a": tensor}, tmp_path / "a")
    _check(tmp_path / "a", {"a": tensor}, "torch zip")
    lazy = open_checkpoint(tmp_path / "a").tree["a"]
    assert len(lazy.pieces(torch.empty(1, 4, 1), piece_bytes=4)) == 4


def test_big_endian_files_of_torch(tmp_path):
    """Torch writes the byte order of the machine into the archive; the bytes are exchanged accordingly."""
    values = {"f": torch.tensor([1.0, 2.5]), "c": torch.tensor([1 + 2j]), "b": torch.tensor([True, False])}
    torch.save(values, tmp_path / "little")
    with zipfile.ZipFile(tmp_path / "little") as little, zipfile.ZipFile(tmp_path / "big", "w") as big:
        for name in little.namelist():
            data = little.read(name)
            if name.endswith("byteorder"):
                data = b"big"
            elif "/data/" in name and len(data) == 8:
                data = np.frombuffer(data, "<u4").astype(">u4").tobytes()
            big.writestr(name, data)
    _check(tmp_path / "big", values, "torch zip")


def test_a_compressed_torch_file(tmp_path):
    values = {"w": torch.randn(100, 100), "z": torch.zeros(50_000)}
    torch.save(values, tmp_path / "a")
    with (
        zipfile.ZipFile(tmp_path / "a") as stored,
        zipfile.ZipFile(tmp_path / "b", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    _check(tmp_path / "b", values, "torch zip")


def test_a_bare_tensor_and_a_list_get_names(tmp_path):
    torch.save(torch.ones(2), tmp_path / "tensor")
    torch.save([torch.ones(1), {"w": torch.zeros(1)}], tmp_path / "list")
    assert list(_flat(open_checkpoint(tmp_path / "tensor").tree)) == ["tensor"]
    assert list(_flat(open_checkpoint(tmp_path / "list").tree)) == ["0", "1.w"]


def test_keys_keep_their_order_and_become_text(tmp_path):
    torch.save({"b": 1, "a": 2, 3: torch.ones(1), "3": torch.zeros(1), None: 4, (1, "x"): 5}, tmp_path / "a")
    tree = open_checkpoint(tmp_path / "a").tree
    assert list(tree)[:3] == ["b", "a", "3"]
    three = [node.read().item() for node in tree.values() if isinstance(node, LazyTensor)]
    assert three == [1.0, 0.0], "an int and a text that look alike are two keys"
    assert (tree["None"], tree["(1, x)"]) == (4, 5)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "Git LFS pointer, not the weights"),
        (b"<!DOCTYPE html><html><head><title>Sign in</title>", "web page \\('Sign in'\\)"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web page"),
        (b"Not found, sorry", "text, which begins 'Not found"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "PNG"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 50, "JPEG"),
        (b"\0" * 5000, "zero bytes"),
        (b"could not find the file.", "text, which begins"),
        (b"(see the notes).", "text, which begins"),
        (bytes([255, 3, 17, 200] * 50), "unknown kind, which begins with the bytes ff 03"),
        (gzip.compress(b"x" * 100, mtime=0), "gzip"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 20, "HDF5"),
        (b"\x93NUMPY\x01\0", "single numpy array"),
        (b'{"epoch": 3}', "text"),
        (b"\0" * 257 + b"ustar\x0000" + b"\0" * 300, "tar archive.*0.1.10"),
        (b"PK\5\6" + b"\0" * 18, "zip archive"),
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_named_for_what_it_is(tmp_path, content, words):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        open_checkpoint(tmp_path / "weights.pth")
    assert str(tmp_path / "weights.pth") in str(caught.value)
    assert "safetensors" in str(caught.value), "the accepted formats are listed"


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(NotFoundError, match="gone"):
        open_checkpoint(tmp_path / "gone.pth")
    for name in ("a\0b", "~nobody-of-that-name/a.pth"):
        with pytest.raises(NotFoundError):
            open_checkpoint(name)
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_checkpoint(tmp_path / ("n" * 1000))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a regular file"):
        open_checkpoint(tmp_path / "pipe")
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "secret").chmod(0)
    if not os.access(tmp_path / "secret", os.R_OK):
        with pytest.raises(NotAllowedError, match="secret"):
            open_checkpoint(tmp_path / "secret")
