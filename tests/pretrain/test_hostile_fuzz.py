"""Whatever bytes are thrown at the readers, they give a checkpoint or an error of ours."""

from __future__ import annotations

import contextlib
import io
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from framework.pretrain.checkpoint import Inert, LazyTensor, open_checkpoint
from framework.pretrain.errors import PretrainError

W = {"w": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.int64)}
FEW = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def _written(write) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(stream)
    return stream.getvalue()


SEEDS = [
    _written(lambda f: torch.save({"model": W, "epoch": 1}, f)),
    _written(lambda f: torch.save(W, f, _use_new_zipfile_serialization=False)),
    _written(lambda f: torch.save(torch.nn.Linear(2, 1), f)),
    save(W),
    _written(lambda f: np.savez(f, **{k: v.numpy() for k, v in W.items()})),
    _written(lambda f: np.savez_compressed(f, **{k: v.numpy() for k, v in W.items()})),
    *(pickle.dumps({k: v.numpy() for k, v in W.items()}, protocol=protocol) for protocol in range(6)),
    pickle.dumps(W),
]


def _survives(folder: Path, data: bytes) -> None:
    path = folder / "a"
    path.write_bytes(data)
    with contextlib.suppress(PretrainError):
        _walk(open_checkpoint(path).tree)


def _walk(node) -> None:
    if isinstance(node, dict):
        for key, child in node.items():
            assert isinstance(key, str)
            _walk(child)
    elif isinstance(node, LazyTensor):
        if node.nbytes < 1 << 16:
            assert node.read().shape == node.map().shape == node.shape
    else:
        assert node is None or isinstance(node, (bool, int, float, str, list, Inert))


@FEW
@given(seed=st.sampled_from(SEEDS), data=st.data())
def test_mutated_files(tmp_path_factory, seed, data):
    mutated = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        patch = data.draw(
            st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 8, b"\0" * 8]))
        )
        if data.draw(st.booleans()):
            mutated[place : place + len(patch)] = patch
        elif data.draw(st.booleans()):
            mutated[place:place] = patch
        else:
            del mutated[place : place + len(patch)]
        if not mutated:
            break
    _survives(tmp_path_factory.getbasetemp(), bytes(mutated))


_GLOBALS = (
    "torch FloatStorage", "torch float32", "torch Size", "torch.storage _load_from_bytes", "builtins set",
    "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "x y", "_codecs encode",
    "torch._utils _rebuild_wrapper_subclass", "torch._tensor _rebuild_from_type_v2",
    "collections OrderedDict", "copyreg _reconstructor",
    "numpy dtype", "numpy.core.multiarray _reconstruct", "numpy.core.multiarray scalar",
    "numpy._core.numeric _frombuffer",
)  # fmt: skip
_LITERALS = [
    b"K\x01",
    b"K\x00",
    b"X\x01\0\0\0a",
    b"U\x02f4",
    b"C\x04abcd",
    b"J\xff\xff\xff\xff",
    b"h\0",
    b"q\0",
]
_COMMON = [bytes([code]) for code in b"()]}t\x85\x86\x87RbsuaeoQN2\x81\x92\x93\x94"]
_FRAGMENTS = st.one_of(
    st.sampled_from([bytes([code]) for code in range(256)]),
    st.sampled_from([f"c{name}\n".replace(" ", "\n").encode() for name in _GLOBALS]),
    st.sampled_from(_LITERALS),
    st.sampled_from(_COMMON),
    st.binary(min_size=1, max_size=4),
)


@FEW
@given(st.lists(_FRAGMENTS, max_size=40))
def test_pickles_out_of_fragments(tmp_path_factory, fragments):
    folder = tmp_path_factory.getbasetemp()
    body = b"".join(fragments)
    _survives(folder, b"\x80\x04" + body + b".")
    _survives(folder, b"\x80\x04}X\x01\x00\x00\x00k" + body + b"s.")


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
_VALUES = st.recursive(
    _SCALARS | st.binary(max_size=3000),
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner) | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


@FEW
@given(_VALUES, st.integers(0, 5))
def test_plain_values_come_back(tmp_path_factory, value, protocol):
    path = tmp_path_factory.getbasetemp() / "a"
    path.write_bytes(pickle.dumps({"value": value}, protocol=protocol))
    assert _plain(open_checkpoint(path).tree["value"], value)


def _plain(node, value) -> bool:
    if isinstance(value, dict):
        return list(node) == list(value) and all(_plain(node[key], value[key]) for key in value)
    if isinstance(value, (list, tuple)):
        return len(node) == len(value) and all(_plain(a, b) for a, b in zip(node, value, strict=True))
    if isinstance(value, bytes):
        return isinstance(node, (Inert, str))
    return type(node) is type(value) and node == value


@pytest.mark.parametrize(
    "garbage", [b"\x80", b"\x80\x02", b"PK\3\4", b"P", b"{", b"\x02\0\0\0\0\0\0\0{}", b"(.", b"."]
)
def test_a_few_bytes(tmp_path, garbage):
    _survives(tmp_path, garbage)
