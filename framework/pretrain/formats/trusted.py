"""Reading with Python's own pickle, which runs what the file says. Only where the user asked for it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from framework.pretrain.errors import CheckpointError
from framework.pretrain.formats.lazy import HeldTensor
from framework.pretrain.formats.stubs import Pairs, Stub
from framework.pretrain.formats.tree import Contents, tree_of

#: What torch raises, too, about a damaged file, for those who read with `weights_only=True`.
UnpicklingError = pickle.UnpicklingError

_FORMATS = {"zip": "torch zip", "torch legacy": "torch legacy", "pickle": "pickle"}
_WHAT_CODE_RAISES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


def read_trusted(path: Path, kind: str) -> Contents:
    """Return the contents of a file whose code may run.

    Args:
        path: The file.
        kind: As `sniff` tells it.

    Raises:
        CheckpointError: Its code failed.
    """
    try:
        if kind == "pickle":
            with open(path, "rb") as file:
                root = pickle.load(file)  # noqa: S301 - the user trusts it
        else:
            root = torch.load(path, map_location="cpu", weights_only=False)
    except _WHAT_CODE_RAISES as error:
        raise CheckpointError(
            f"the code of the trusted file failed: {type(error).__name__}: {error}"
        ) from error
    return Contents(_FORMATS[kind], tree_of(_raw(root, {})))


def _raw(value: object, seen: dict[int, object]) -> object:
    """Return a Python object in the form in which the pickle machine leaves objects."""
    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
    if isinstance(value, torch.Tensor):
        return seen.setdefault(id(value), HeldTensor(value))
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiubc":
        return seen.setdefault(id(value), HeldTensor(torch.from_numpy(value.copy())))
    if isinstance(value, (Mapping, list, tuple)):
        return seen[id(value)] if id(value) in seen else _container(value, seen)
    if isinstance(value, torch.dtype):
        return str(value)
    scalar = isinstance(value, (str, int, float, bool)) or value is None
    return value if scalar else Stub(f"{type(value).__module__}.{type(value).__qualname__}")


def _container(
    value: Mapping[object, object] | list[object] | tuple[object, ...], seen: dict[int, object]
) -> object:
    items: list[object] = Pairs() if isinstance(value, Mapping) else []
    seen[id(value)] = items
    if isinstance(value, Mapping):
        for key, item in value.items():
            items.extend((_raw(key, seen), _raw(item, seen)))
    else:
        items.extend(_raw(item, seen) for item in value)
    return items
