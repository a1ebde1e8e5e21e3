"""What a run consists of besides its weights, as tensors and plain values, and back."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from mmengine.dist import all_gather_object, is_distributed
from mmengine.logging import HistoryBuffer, MessageHub
from torch import Tensor, nn

_SCALARS = (str, bytes, bool, int, float, complex, type(None), torch.dtype, torch.device, torch.Size)


def plain(value: Any, place: str = "checkpoint") -> Any:
    """Return `value` with numpy's values, paths and subclasses of dict and list turned into plain ones.

    Args:
        value: Anything that a checkpoint may hold.
        place: Where it stands, for the error.

    Raises:
        TypeError: There is no plain value for it.
    """
    return _plain(value, place, None)


def snapshot(value: Any) -> Any:
    """Return `plain(value)` with tensors of its own, which later steps of the training do not change.

    What is one tensor under several names stays one.
    """
    return _plain(value, "checkpoint", {})


def _plain(value: Any, place: str, copies: dict[Any, Tensor] | None) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu() if copies is None else _copied(value, copies)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return _plain_mapping(value, place, copies)
    if isinstance(value, (list, tuple, set, frozenset)) or type(value).__name__ == "deque":
        items = [_plain(item, f"{place}[{index}]", copies) for index, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    raise TypeError(f"{place} is a {type(value).__name__}; a checkpoint holds tensors and plain values only")


def _copied(tensor: Tensor, copies: dict[Any, Tensor]) -> Tensor:
    if tensor.numel() == 0 or tensor.layout is not torch.strided:
        return tensor.detach().to("cpu", copy=True)
    key = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
    if key not in copies:
        copies[key] = tensor.detach().to("cpu", copy=True)
    return copies[key]


def _plain_mapping(value: Mapping[Any, Any], place: str, copies: dict[Any, Tensor] | None) -> dict[Any, Any]:
    items = {key: _plain(item, f"{place}.{key}", copies) for key, item in value.items()}
    if not hasattr(value, "_metadata"):
        return items
    state_dict = OrderedDict(items)
    state_dict._metadata = plain(value._metadata, place)  # type: ignore[attr-defined]
    return state_dict


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


def is_adding_up(optim_wrapper: Any) -> bool:
    """Tell whether there are gradients that a step to come needs."""
    wrappers = optim_wrapper.values() if hasattr(optim_wrapper, "values") else [optim_wrapper]
    return any(one._inner_count % one._accumulative_counts for one in wrappers if one is not None)


def gradients(model: nn.Module, optim_wrapper: Any) -> dict[str, Tensor]:
    """Return the gradients that are being added up for a step to come; none between two steps."""
    if not is_adding_up(optim_wrapper):
        return {}
    return {name: p.grad.detach().cpu() for name, p in model.named_parameters() if p.grad is not None}


def restore_gradients(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Put gradients that were being added up back."""
    parameters = dict(model.named_parameters())
    for name, gradient in saved.items():
        parameters[name].grad = gradient.to(parameters[name].device)


def own_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that the processes of a run do not have in common, such as running statistics.

    Every process of a distributed run must call this.
    """
    if not is_distributed():
        return {}
    saved = model.state_dict()
    buffers = {name: value.detach().cpu() for name, value in model.named_buffers() if name in saved}
    digests = {name: crc32(_bytes(value)) for name, value in buffers.items()}
    everywhere = all_gather_object(digests)
    return {n: value for n, value in buffers.items() if any(one[n] != digests[n] for one in everywhere)}


def digest(tensors: Iterable[Tensor]) -> int:
    """Return a checksum over the values of tensors on the CPU, in their order."""
    value = 0
    for tensor in tensors:
        value = crc32(_bytes(tensor), value)
    return value


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
