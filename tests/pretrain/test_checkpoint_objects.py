"""Training checkpoints are full of objects; they load all the same, and none of the objects is made."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import enum
import functools
import io
import pathlib
import pickle
import types

import numpy as np
import pytest
import torch
from torch import nn

from framework.pretrain.checkpoint import Inert, LazyTensor, open_checkpoint
from framework.pretrain.errors import UnsafeCheckpointError

W = torch.arange(6.0).view(2, 3)


class Node(dict):
    """As yacs' CfgNode: a dict with attributes of its own."""

    def __init__(self, values=()):
        super().__init__(values)
        self.__dict__["frozen"] = True

    def __getattr__(self, name):
        raise AssertionError("a method of the file's class was called")


class Listing(list):
    pass


class Mode(enum.Enum):
    TRAIN = "train"


@dataclasses.dataclass
class State:
    step: int
    params: object


class Slots:
    __slots__ = ("a", "b")

    def __init__(self):
        self.a, self.b = 1, [2]


class WithSetState:
    def __setstate__(self, state):
        raise AssertionError("a method of the file's class was called")

    def __getstate__(self):
        return {"x": 1}

    def __new__(cls, *args):
        if args != ("made",):
            raise AssertionError("an object of the file's class was made")
        return super().__new__(cls)


class WithKeywords:
    def __new__(cls, *, size):
        return super().__new__(cls)

    def __getnewargs_ex__(self):
        return (), {"size": 3}


class Subclass(torch.Tensor):
    pass


OBJECTS = {
    "namespace": argparse.Namespace(lr=0.1, layers=[1, 2]),
    "simple": types.SimpleNamespace(a=1),
    "path": pathlib.PurePosixPath("/data/imagenet"),
    "date": datetime.datetime(2024, 1, 2),
    "delta": datetime.timedelta(1),
    "enum": Mode.TRAIN,
    "dataclass": State(3, None),
    "slots": Slots(),
    "setstate": WithSetState("made"),
    "keywords": WithKeywords(size=3),
    "partial": functools.partial(sorted, reverse=True),
    "complex": 1 + 2j,
    "slice": slice(1, 2),
    "dtype": torch.float16,
    "device": torch.device("cuda:1"),
    "size": torch.Size([1, 2]),
    "bytes": b"abc",
    "bytearray": bytearray(b"abc" * 1000),
    "set": {1},
    "frozenset": frozenset({2}),
    "deque": collections.deque([1, 2], 5),
    "range": range(3),
    "class": Node,
    "function": functools.reduce,
    "generator": np.random.default_rng(0).bit_generator.state,
    "objects": np.array([{"a": 1}], dtype=object),
    "words": np.array(["a", "bc"]),
    "time": np.datetime64("2020-01-01"),
    "layout": torch.strided,
    "sparse": torch.eye(2).to_sparse(),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_beside_the_weights_does_no_harm(tmp_path, name, protocol):
    torch.save({"state_dict": {"w": W}, "extra": OBJECTS[name]}, tmp_path / "a", pickle_protocol=protocol)
    checkpoint = open_checkpoint(tmp_path / "a")
    assert torch.equal(checkpoint.tree["state_dict"]["w"].read(), W)
    assert "extra" in checkpoint.tree
    assert repr(checkpoint.tree["extra"])


@pytest.mark.parametrize("protocol", range(6))
def test_in_plain_pickles_too(tmp_path, protocol):
    objects = {name: value for name, value in OBJECTS.items() if name not in ("slots", "keywords", "sparse")}
    if protocol < 2:
        del objects["function"]
    (tmp_path / "a").write_bytes(pickle.dumps({"w": W.numpy(), "objects": objects}, protocol=protocol))
    checkpoint = open_checkpoint(tmp_path / "a")
    assert torch.equal(checkpoint.tree["w"].read(), W)
    assert set(checkpoint.tree["objects"]) == set(objects)


def test_replaced_names_are_told(tmp_path):
    torch.save({"w": W, "args": OBJECTS["namespace"], "path": OBJECTS["path"]}, tmp_path / "a")
    checkpoint = open_checkpoint(tmp_path / "a")
    assert checkpoint.replaced == ("argparse.Namespace", "pathlib.PurePosixPath")
    assert checkpoint.tree["args"] == Inert("argparse.Namespace", {"lr": 0.1, "layers": [1, 2]})
    torch.save({"w": W, "n": collections.OrderedDict(a=1), "c": collections.Counter("aab")}, tmp_path / "b")
    checkpoint = open_checkpoint(tmp_path / "b")
    assert checkpoint.replaced == ()
    assert checkpoint.tree["c"] == {"a": 2, "b": 1}


def test_plain_values_are_kept(tmp_path):
    values = {
        "int": 2**70, "negative": -3, "float": 1e300, "text": "häß\N{SNOWMAN}", "yes": True, "none": None,
        "list": [1, "a", None], "tuple": (1, 2), "numpy": np.float32(0.5), "numpy_int": np.int64(-9),
        "numpy_bool": np.bool_(True), "byte": 200, "short": 60_000, "int32": -70_000, "half": np.float16(2),
    }  # fmt: skip
    for protocol in (2, 5):
        torch.save(values, tmp_path / "a", pickle_protocol=protocol)
        assert open_checkpoint(tmp_path / "a").tree == values | {"tuple": [1, 2]}
    (tmp_path / "b").write_bytes(pickle.dumps(values, protocol=0))
    assert open_checkpoint(tmp_path / "b").tree == values | {"tuple": [1, 2]}


@pytest.mark.parametrize(
    "container",
    [
        Node({"w": W}),
        collections.OrderedDict(w=W),
        collections.defaultdict(list, w=W),
        State(1, {"w": W}),
        argparse.Namespace(model={"w": W}),
        Listing([W]),
        [{"w": W}],
        types.SimpleNamespace(w=nn.Parameter(W)),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_whatever_holds_tensors_is_a_dict(tmp_path, container, protocol):
    torch.save({"holder": container}, tmp_path / "a", pickle_protocol=protocol)
    node = open_checkpoint(tmp_path / "a").tree["holder"]
    while not isinstance(node, LazyTensor):
        assert isinstance(node, dict)
        node = list(node.values())[-1]
    assert torch.equal(node.read(), W)


def test_subclasses_of_tensors(tmp_path):
    parameter = nn.Parameter(W)
    parameter.note = "an attribute, which makes torch save it in another way"
    torch.save({"a": W.as_subclass(Subclass), "b": parameter}, tmp_path / "a")
    tree = open_checkpoint(tmp_path / "a").tree
    assert torch.equal(tree["a"].read(), W) and type(tree["a"].read()) is torch.Tensor
    assert torch.equal(tree["b"].read(), W)


def test_tensors_without_plain_storage_are_inert(tmp_path):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.quantize_per_tensor(W, 0.1, 0, torch.qint8)
        torch.save({"w": W, "q": quantised, "m": torch.ones(2, device="meta")}, tmp_path / "a")
    tree = open_checkpoint(tmp_path / "a").tree
    assert torch.equal(tree["w"].read(), W)
    assert isinstance(tree["m"], Inert)
    assert not isinstance(tree["q"], LazyTensor)


def test_a_list_that_contains_itself(tmp_path):
    loop: dict = {"w": W}
    loop["self"] = loop
    torch.save(loop, tmp_path / "a")
    tree = open_checkpoint(tmp_path / "a").tree
    assert torch.equal(tree["w"].read(), W)
    assert isinstance(tree["self"], Inert)


def test_mmengine_checkpoints(tmp_path):
    logging = pytest.importorskip("mmengine.logging")
    config = pytest.importorskip("mmengine.config")
    saved = {
        "state_dict": {"backbone.w": W},
        "message_hub": {"log_scalars": {"loss": logging.HistoryBuffer([1.0, 2.0], [1, 1])}},
        "cfg": config.ConfigDict(model=config.ConfigDict(type="ResNet")),
        "meta": {"cfg": "text", "experiment_name": "x", "epoch": 3},
    }
    torch.save(saved, tmp_path / "a")
    checkpoint = open_checkpoint(tmp_path / "a")
    assert torch.equal(checkpoint.tree["state_dict"]["backbone.w"].read(), W)
    assert isinstance(checkpoint.tree["message_hub"]["log_scalars"]["loss"], Inert)
    assert "mmengine.logging.history_buffer.HistoryBuffer" in checkpoint.replaced
    assert checkpoint.tree["meta"]["epoch"] == 3


def test_distributed_tensors_count_only_if_they_are_whole(tmp_path):
    rebuild = {
        "whole": _Wrapped((2, 3), W),
        "shard": _Wrapped((4, 3), W),
    }
    torch.save(rebuild, tmp_path / "a")
    tree = open_checkpoint(tmp_path / "a").tree
    assert torch.equal(tree["whole"].read(), W)
    assert isinstance(tree["shard"], Inert)


class _Wrapped:
    """Pickles as torch pickles a DTensor: a shape, and the part of this process in the state."""

    def __init__(self, shape, local):
        self.shape, self.local = shape, local

    def __reduce__(self):
        inner = (Subclass, torch.float32, self.shape, (3, 1), 0, "strided", "cpu", False)
        state = (None, {"_spec": None, "_local_tensor": self.local})
        return torch._tensor._rebuild_from_type_v2, (
            torch._utils._rebuild_wrapper_subclass,
            Subclass,
            inner,
            state,
        )


class _Code:
    def __reduce__(self):
        return torch.load, ("/nowhere",)


def test_trust_runs_the_code_and_wraps_what_it_made(tmp_path):
    """`builtins.eval` is refused; trusted, it is called."""

    class Evaluated:
        def __reduce__(self):
            return eval, ("__import__('torch').full((2,), 7.0)",)

    saved = {"w": Evaluated(), "module": {"v": W}, "list": [W.numpy()], "n": 3}
    torch.save(saved, tmp_path / "a")
    (tmp_path / "b").write_bytes(pickle.dumps({"w": Evaluated()}))
    with pytest.raises(UnsafeCheckpointError, match=r"builtins\.eval.*trust_pickle=True"):
        open_checkpoint(tmp_path / "a")
    tree = open_checkpoint(tmp_path / "a", trust_pickle=True).tree
    assert tree["w"].read().tolist() == [7.0, 7.0]
    assert torch.equal(tree["module"]["v"].read(), W)
    assert torch.equal(tree["list"]["0"].read(), W)
    assert tree["n"] == 3
    assert open_checkpoint(tmp_path / "b", trust_pickle=True).tree["w"].read().tolist() == [7.0, 7.0]


def test_trusted_code_that_fails_is_an_error_of_ours(tmp_path):
    torch.save({"w": _Code()}, tmp_path / "a")
    from framework.pretrain.errors import CheckpointError

    with pytest.raises(CheckpointError, match=r"FileNotFoundError.*nowhere"):
        open_checkpoint(tmp_path / "a", trust_pickle=True)


def test_long_texts_stay_texts(tmp_path):
    long = "x" * 100_000
    stream = io.BytesIO()
    torch.save({"w": W, "log": long, "blob": b"y" * 100_000}, stream, pickle_protocol=4)
    (tmp_path / "a").write_bytes(stream.getvalue())
    tree = open_checkpoint(tmp_path / "a").tree
    assert tree["log"] == long
    assert isinstance(tree["blob"], Inert)
