"""Training checkpoints that mmengine's own Runner has written, as plain values.

Its files hold objects: histories of losses, configs, numpy's numbers. They are read without making one, and
what they say is taken over where it has a plain value.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from framework.pretrain.checkpoint import Inert, LazyTensor

_HISTORY = "mmengine.logging.history_buffer.HistoryBuffer"

#: Runtime information that is a path there, and the name of a file in the work dir here.
_PATHS = ("last_ckpt", "best_ckpt")


class _Unknown:
    """What has no plain value."""


def is_of_mmengine(tree: Mapping[str, Any]) -> bool:
    """Tell whether the tree of a training checkpoint is one of mmengine's."""
    meta = tree["meta"]
    return isinstance(meta, Mapping) and "mmengine_version" in meta and "framework_version" not in meta


def plain_state(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint of mmengine as one of this project; there are no states of random generators."""
    state = {key: _plain(value) for key, value in tree.items() if key != "message_hub"}
    state["state_dict"] = OrderedDict(state["state_dict"])
    for name in ("optimizer", "param_schedulers"):
        if name in state:
            state[name] = _numbered(state[name])
    state["message_hub"] = _message_hub(tree["message_hub"])
    return {key: value for key, value in state.items() if value is not _Unknown}


def _numbered(value: Any) -> Any:
    """Make keys numbers again, which the reader gives as text: parameters are numbered in an optimiser."""
    if isinstance(value, dict):
        numbers = bool(value) and all(isinstance(key, str) and key.isdigit() for key in value)
        return {int(key) if numbers else key: _numbered(item) for key, item in value.items()}
    return [_numbered(item) for item in value] if isinstance(value, list) else value


def _message_hub(hub: Mapping[str, Any]) -> dict[str, Any]:
    infos = {key: _plain(value) for key, value in hub.get("runtime_info", {}).items()}
    infos = {key: value for key, value in infos.items() if value is not _Unknown}
    infos |= {key: PurePath(infos[key]).name for key in _PATHS if infos.get(key)}
    scalars = {key: _history(value) for key, value in hub.get("log_scalars", {}).items()}
    scalars = {key: value for key, value in scalars.items() if value is not None}
    known = infos.keys() | scalars.keys()
    resumed = {key: value for key, value in hub.get("resumed_keys", {}).items() if key in known}
    return {"log_scalars": scalars, "runtime_info": infos, "resumed_keys": resumed}


def _history(value: Any) -> dict[str, Any] | None:
    if not (isinstance(value, Inert) and value.qualified_name == _HISTORY and isinstance(value.state, dict)):
        return None
    values, counts = (_plain(value.state.get(name)) for name in ("_log_history", "_count_history"))
    return {"values": values, "counts": counts, "max_length": value.state.get("max_length", 1_000_000)}


def _plain(value: Any) -> Any:
    """Return the tensors of a tree and its plain values; an object gives the dict that it is, or nothing."""
    if isinstance(value, LazyTensor):
        return value.read()
    if isinstance(value, Inert):
        return _plain_object(value)
    if isinstance(value, Mapping):
        items = {key: _plain(item) for key, item in value.items()}
        return {key: item for key, item in items.items() if item is not _Unknown}
    if isinstance(value, (list, tuple)):
        return type(value)(item for item in map(_plain, value) if item is not _Unknown)
    return value


def _plain_object(value: Inert) -> Any:
    contents = value.state
    if value.qualified_name.endswith(".ConfigDict") and isinstance(contents, (list, tuple)) and contents:
        contents = contents[0]
    return (
        _plain(contents)
        if isinstance(contents, Mapping) and "ConfigDict" in value.qualified_name
        else _Unknown
    )
