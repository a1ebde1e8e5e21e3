"""Checkpoints of sharded models: a folder of torch.distributed.checkpoint, and one file with the rest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from mmengine.dist import all_gather_object, barrier, get_rank, get_world_size, is_main_process
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor, Shard

from framework.config import without_pretrain
from framework.engine.checkpoint import explained, save_checkpoint, sync_to_disk
from framework.engine.sharded import REST, spread_values
from framework.engine.state import is_adding_up
from framework.errors import ConfigError
from framework.pretrain import load_pretrained
from framework.pretrain.checkpoint import LazyTensor, open_checkpoint
from framework.pretrain.errors import CheckpointError, DamagedCheckpointError
from framework.pretrain.formats.dcp import METADATA
from framework.registry import MODELS

Nested = Mapping[str, Mapping[str, Any]]


def save_shards(state: Mapping[str, Any], model: nn.Module, wrapper: Any, folder: Path) -> None:
    """Write a checkpoint, each process its part. Every process must call this.

    The folder appears under its name when it is complete; until then an older one of that name stays.

    Args:
        state: What a training checkpoint holds; of `state_dict` and `optimizer` not the tensors.
        model: The sharded model.
        wrapper: The wrapper of its optimiser, which is saved if `state` has an `optimizer`; gradients that
            it is adding up are saved in any case.
        folder: The folder to write.

    Raises:
        SaveError: It cannot be written, e.g. as the disk is full.
    """
    rest = {**state, "state_dict": {}}
    tensors: dict[str, Any] = {"state_dict": model.state_dict()}
    if is_adding_up(wrapper):
        tensors["gradients"] = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    if "optimizer" in state:
        whole: Any = get_optimizer_state_dict(model, wrapper.optimizer)
        tensors["optimizer"] = _only(whole["state"], tensors=True)
        others = {name: value for name, value in state["optimizer"].items() if name not in whole}
        plain = {"param_groups": whole["param_groups"], "values": _only(whole["state"], tensors=False)}
        rest["optimizer"] = {**others, **plain}
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        if is_main_process():
            shutil.rmtree(temporary, ignore_errors=True)
        barrier()
        with explained(folder):
            _write(tensors, temporary)
            rest["shards"] = _checksums(temporary)
        if is_main_process():
            save_checkpoint(rest, temporary / REST)
            _put_in_place(temporary, folder)
    finally:
        if is_main_process():
            shutil.rmtree(temporary, ignore_errors=True)
    barrier()


def _write(tensors: Mapping[str, Any], folder: Path) -> None:
    """Write the part of this process; raise the error of the one that failed first, not a list of all."""
    try:
        dcp.save(dict(tensors), checkpoint_id=folder)
        return
    except dcp.CheckpointException as failures:
        first = next(iter(failures.failures.values()))[0]
    raise first  # out here, where the list is not its context


def _checksums(folder: Path) -> dict[str, list[int]]:
    """Return size and checksum of every file, of which each process reads those that it wrote."""
    main = is_main_process()
    names = [file.name for file in folder.iterdir() if file.name.startswith(f"__{get_rank()}_")]
    own = {name: _checksum(folder / name) for name in [*names, *([METADATA] if main else [])]}
    return {name: sums for part in all_gather_object(own) for name, sums in part.items()}


def _checksum(path: Path) -> list[int]:
    size = value = 0
    with path.open("rb") as file:
        while part := file.read(2**24):
            size, value = size + len(part), crc32(part, value)
    return [size, value]


def check_shards(path: Path, state: Mapping[str, Any]) -> None:
    """Compare the files of a folder with what was written; each process looks at its share of them.

    Args:
        path: A checkpoint; one that is a file is not looked at.
        state: What its file `run.pth` holds.

    Raises:
        DamagedCheckpointError: A file differs, or is missing.
    """
    listed = sorted(state.get("shards", {}).items()) if path.is_dir() else []
    for name, expected in listed[get_rank() :: get_world_size()]:
        file = path / Path(name).name
        if not file.is_file():
            raise DamagedCheckpointError(f"{path} is damaged: {file.name} is not in it")
        if _checksum(file) != list(expected):
            raise DamagedCheckpointError(f"{path} is damaged: {file.name} is not what was saved")


def set_aside(folder: Path) -> Path:
    """Return the name that an older folder has while a new one takes its place."""
    return folder.with_name(f".{folder.name}.old")


def _put_in_place(temporary: Path, folder: Path) -> None:
    old = set_aside(folder)
    shutil.rmtree(old, ignore_errors=True)
    sync_to_disk(temporary)
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    sync_to_disk(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_unfinished(folder: Path) -> None:
    """Remove folders that a run which was killed was writing, and those that have been replaced since."""
    for path in folder.glob(".*.dcp.tmp"):
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".*.dcp.old"):
        if path.with_name(path.name[1:].removesuffix(".old")).is_dir():
            shutil.rmtree(path, ignore_errors=True)


def load_shards(folder: Path, state: Mapping[str, Any], model: nn.Module, optimizer: Any) -> dict[str, Any]:
    """Fill model and optimiser from a folder of `save_shards`, whatever the number of processes was or is.

    Args:
        folder: The folder.
        state: What its file `run.pth` holds.
        model: The model, sharded or not.
        optimizer: Its optimiser, or None.

    Returns:
        The state of the optimiser, and what `state` has of its wrapper's: what the wrapper loads.

    Raises:
        CheckpointError: The folder does not fit the model or the optimiser.
    """
    tree: Any = open_checkpoint(folder).tree
    _fill(model.state_dict(), tree.get("state_dict", {}), f"{folder}: state_dict")
    loaded: dict[str, Any] = {}
    if optimizer is not None and "optimizer" in state:
        saved = dict(state["optimizer"])
        _load_optimizer(model, optimizer, tree.get("optimizer", {}), saved, f"{folder}: optimizer")
        loaded = {**saved, **optimizer.state_dict()}
    _load_gradients(model, tree.get("gradients", {}), folder)  # last: torch looks for them in the optimiser
    return loaded


def _load_optimizer(
    model: nn.Module, optimizer: Any, tensors: Mapping[str, Any], rest: dict[str, Any], where: str
) -> None:
    """Fill an optimiser; what is its own is taken out of `rest`. A parameter without a step has no state."""
    values = rest.pop("values")
    whole: Any = get_optimizer_state_dict(model, optimizer)
    states: dict[str, dict[str, Any]] = whole["state"]
    there = {**tensors, **values}
    _check_names(states, dict.fromkeys(states) | there, where)
    for name, entries in _only(states, tensors=True).items():
        if name in there:
            _fill(entries, tensors.get(name, {}), f"{where}.{name}")
    whole["state"] = {name: {**own, **values.get(name, {})} for name, own in states.items()}
    set_optimizer_state_dict(model, optimizer, {**whole, "param_groups": rest.pop("param_groups")})
    for name, parameter in model.named_parameters():
        if name not in there:
            optimizer.state.pop(parameter, None)


def _load_gradients(model: nn.Module, saved: Mapping[str, Any], folder: Path) -> None:
    """Put gradients that were being added up back."""
    parameters = {name: p for name, p in model.named_parameters() if name in saved}
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    _fill({name: p.grad for name, p in parameters.items()}, saved, f"{folder}: gradients")


def load_whole(model: nn.Module, cfg: Mapping[str, Any], pretrain: Any, where: str) -> None:
    """Load weights into a sharded model: the first process reads them. Every process must call this.

    Args:
        model: The sharded model.
        cfg: The config that it was built from.
        pretrain: Whatever a `pretrain` field may hold.
        where: The place of that field in the config.

    Raises:
        PretrainError: In the first process: see `load_pretrained`.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    values: Any = get_model_state_dict(model, options=options)
    if is_main_process():
        whole = MODELS.build(without_pretrain(cfg))
        whole.load_state_dict(values)
        model.pretrain_report = load_pretrained(whole, pretrain, where=where)  # type: ignore[assignment]
        values = whole.state_dict()
    spread_values(model, values)


def export_weights(source: str | os.PathLike[str], out: str | os.PathLike[str]) -> int:
    """Write the weights of a training checkpoint, a folder or a file, as one file.

    Args:
        source: The checkpoint.
        out: The file to write: `.pth` or `.safetensors`.

    Returns:
        The number of tensors.

    Raises:
        ConfigError: Another ending.
        PretrainError: The checkpoint cannot be read, or has no `state_dict`.
    """
    target = Path(out)
    if target.suffix not in (".pth", ".safetensors"):
        raise ConfigError(f"{target}: the ending says the format, and is one of .pth, .safetensors")
    entries: Any = open_checkpoint(source).tree.get("state_dict")
    if not isinstance(entries, Mapping):
        raise CheckpointError(f"{source} is no training checkpoint: it has no state_dict")
    tensors = {name: entry.read() for name, entry in entries.items() if isinstance(entry, LazyTensor)}
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if target.suffix == ".safetensors":
            save_file(tensors, temporary, metadata={"format": "pt"})
        else:
            torch.save(tensors, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return len(tensors)


def _only(state: Nested, *, tensors: bool) -> dict[str, dict[str, Any]]:
    return {
        name: {key: value for key, value in entries.items() if isinstance(value, Tensor) is tensors}
        for name, entries in state.items()
    }


def _fill(targets: Mapping[str, Any], sources: Mapping[str, Any], where: str) -> None:
    _check_names(targets, sources, where)
    with torch.no_grad():
        for name, target in targets.items():
            source = sources[name]
            if not isinstance(source, LazyTensor) or tuple(target.shape) != tuple(source.shape):
                found = getattr(source, "shape", type(source).__name__)
                raise CheckpointError(f"{where}.{name} is {found}, the run has {tuple(target.shape)}")
            _put(target, source.read())


def _put(target: Tensor, values: Tensor) -> None:
    """Write the part of `values` that this process holds."""
    if isinstance(target, DTensor):
        mesh, placement = target.device_mesh, target.placements[0]
        if isinstance(placement, Shard):
            parts = values.chunk(mesh.size(), placement.dim)
            rank = mesh.get_local_rank()
            values = parts[rank] if rank < len(parts) else values.narrow(placement.dim, 0, 0)
        target = target.to_local()
    target.copy_(values)


def _check_names(targets: Mapping[str, Any], sources: Mapping[str, Any], where: str) -> None:
    missing, foreign = sorted(targets.keys() - sources.keys()), sorted(sources.keys() - targets.keys())
    if missing or foreign:
        raise CheckpointError(
            f"{where} is of another run: it lacks {', '.join(missing[:3]) or 'nothing'}, "
            f"and has {', '.join(foreign[:3]) or 'nothing'} besides"
        )
