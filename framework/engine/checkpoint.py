"""Training checkpoints that hold plain values only, written whole or not at all."""

from __future__ import annotations

import os
import random
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch import Tensor

from framework.pretrain.checkpoint import open_checkpoint
from framework.pretrain.errors import CheckpointError

#: What a training checkpoint has at least.
PARTS = ("meta", "state_dict", "message_hub")

_SCALARS = (str, bytes, bool, int, float, complex, type(None), torch.dtype, torch.device, torch.Size)


def save_checkpoint(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Write a checkpoint that `torch.load(path, weights_only=True)` reads.

    The file appears under its name when it is complete and on the disk; until then an older file of that
    name stays as it is.

    Args:
        checkpoint: Tensors and plain values in dicts, lists and tuples.
        path: The file, in a folder that exists.

    Raises:
        TypeError: A value is neither; the message says where it stands.
    """
    path = Path(path)
    values = plain(checkpoint)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(values, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a small text file at once."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def plain(value: Any, place: str = "checkpoint") -> Any:
    """Return `value` with numpy's values, paths and subclasses of dict and list turned into plain ones.

    Args:
        value: Anything that a checkpoint may hold.
        place: Where it stands, for the error.

    Raises:
        TypeError: There is no plain value for it.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return _plain_mapping(value, place)
    if isinstance(value, (list, tuple, set, frozenset)) or type(value).__name__ == "deque":
        items = [plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    raise TypeError(f"{place} is a {type(value).__name__}; a checkpoint holds tensors and plain values only")


def _plain_mapping(value: Mapping[Any, Any], place: str) -> dict[Any, Any]:
    items = {key: plain(item, f"{place}.{key}") for key, item in value.items()}
    if not hasattr(value, "_metadata"):
        return items
    state_dict = OrderedDict(items)
    state_dict._metadata = plain(value._metadata, place)  # type: ignore[attr-defined]
    return state_dict


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a training checkpoint, on the CPU. No code of the file is run.

    Raises:
        NotFoundError: There is no such file.
        CheckpointError: It is damaged, or no training checkpoint of this project.
    """
    path = Path(path).expanduser().absolute()
    contents = open_checkpoint(path)
    missing = [part for part in PARTS if part not in contents.tree]
    if missing or contents.replaced:
        there = f"has no {', '.join(missing)}" if missing else f"holds {', '.join(contents.replaced[:3])}"
        raise CheckpointError(
            f"{path} cannot be resumed from: it was not saved by this project, as it {there}. "
            f"To start from its weights, use model.pretrain={path}"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path} cannot be resumed from: {error}") from error


def message_hub_state(hub: MessageHub) -> dict[str, Any]:
    """Return what a message hub resumes from, as plain values; what has no plain value is left out."""
    state = hub.state_dict()
    infos = {key: value for key, value in state["runtime_info"].items() if _is_plain(value)}
    scalars = {
        key: {"values": history.data[0], "counts": history.data[1], "max_length": history.max_length}
        for key, history in state["log_scalars"].items()
    }
    known = infos.keys() | scalars.keys()
    resumed = {key: value for key, value in state["resumed_keys"].items() if key in known}
    return {"log_scalars": scalars, "runtime_info": infos, "resumed_keys": resumed}


def restore_message_hub(hub: MessageHub, state: Mapping[str, Any]) -> None:
    """Put the values of `message_hub_state` back."""
    scalars = {
        key: HistoryBuffer(saved["values"].numpy(), saved["counts"].numpy(), saved["max_length"])
        for key, saved in state["log_scalars"].items()
    }
    hub.load_state_dict({**state, "log_scalars": scalars})


def _is_plain(value: Any) -> bool:
    try:
        plain(value)
    except TypeError:
        return False
    return True


def random_state() -> dict[str, Any]:
    """Return the state of every random generator of this process, as plain values."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": (version, internal, gauss),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put the states of `random_state` back. GPUs beyond those of the saving process keep theirs."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    for device, saved in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
        torch.cuda.set_rng_state(saved, device)
