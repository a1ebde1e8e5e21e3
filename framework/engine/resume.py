"""Where a run starts from."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, broadcast_object_list

from framework.engine import state as states
from framework.engine.checkpoint import read_checkpoint
from framework.engine.console import package_log_to
from framework.engine.saving import schedulers_of
from framework.engine.shard_checkpoint import check_shards, load_shards, load_whole, set_aside
from framework.engine.sharded import is_sharded, state_file
from framework.pretrain.errors import CheckpointError, PretrainError

_CHECKPOINT = re.compile(r"(epoch|iter)_(\d+)\.(pth|safetensors|dcp)")


@dataclass(frozen=True)
class Start:
    """A checkpoint that a run goes on from.

    Attributes:
        path: The file or folder.
        state: What it holds.
        refused: Newer files that are no whole checkpoints, and why.
    """

    path: Path
    state: dict[str, Any]
    refused: tuple[str, ...] = ()


def last_checkpoint(work_dir: str | os.PathLike[str]) -> Path | None:
    """Return the checkpoint that `last_checkpoint` in a work dir names, or None."""
    pointer = Path(work_dir, "last_checkpoint")
    if not pointer.is_file():
        return None
    path = Path(work_dir, pointer.read_text(encoding="utf-8").strip())
    return set_aside(path) if set_aside(path).is_dir() and not path.exists() else path


def find_start(work_dir: str | os.PathLike[str], path: str | os.PathLike[str] | None) -> Start | None:
    """Read the checkpoint that a run resumes from. Every process must call this.

    The first process says which files there are; one is taken that is whole for all of them.

    Args:
        work_dir: Where to look for the newest whole one.
        path: Take this one and no other; of the work dir of another run, its newest whole one.

    Returns:
        The checkpoint, or None if the work dir has none.

    Raises:
        PretrainError: The file of that path, or every file of the work dir, is no whole checkpoint.
    """
    only = path is not None and not checkpoints_of(Path(path))
    folder = Path(work_dir if path is None else path)
    common: list[Any] = [only, [folder] if only else checkpoints_of(folder)]
    broadcast_object_list(common)
    only, candidates = common
    refused: list[str] = []
    for candidate in candidates:
        state, error = _read_together(candidate)
        if error is None:
            return Start(candidate, state, tuple(refused))
        if only:
            raise error
        refused.append(str(error))
    if refused:
        raise CheckpointError(
            f"No checkpoint in {folder.absolute()} is whole: {'; '.join(refused)}. "
            f"To begin again, leave --resume out"
        )
    return None


def _read_together(path: Path) -> tuple[dict[str, Any], PretrainError | None]:
    """Read a checkpoint in every process; return the error of this process, or else of the first with one."""
    state: dict[str, Any] = {}
    error: PretrainError | None = None
    try:
        state = read_checkpoint(state_file(path))
        check_shards(path, state)
    except PretrainError as own:
        error = own
    reasons = all_gather_object(None if error is None else str(error))
    failed = next((rank for rank, reason in enumerate(reasons) if reason is not None), None)
    if failed is not None and error is None:
        error = CheckpointError(f"{reasons[failed]} (process {failed}; all must see the same files)")
    return state, error


def checkpoints_of(work_dir: Path) -> list[Path]:
    """List the checkpoints of a work dir: the one that `last_checkpoint` names, then the newest first."""
    named = last_checkpoint(work_dir)
    files = work_dir.iterdir() if work_dir.is_dir() else ()
    found = {file: match for file in files if (match := _CHECKPOINT.fullmatch(file.name))}
    if len({match[1] for match in found.values()}) > 1:  # numbers of epochs and of iterations: go by the time
        others = sorted(found, key=lambda file: file.stat().st_mtime_ns, reverse=True)
    else:
        others = sorted(found, key=lambda file: int(found[file][2]), reverse=True)
    return [*([] if named is None else [named]), *(file for file in others if file != named)]


def load_or_resume(runner: Any) -> None:
    """Resume, from `load_from` or else the work dir's last checkpoint; or load its weights."""
    if runner._has_loaded:
        return
    runner._has_loaded = True
    if runner.start is not None:
        for reason in runner.start.refused:
            runner.logger.warning(f"{reason}. Going on with the one before, {runner.start.path.name}")
        runner.resume(str(runner.start.path))
        return
    if runner._resume:
        runner.logger.info(f"Nothing to resume in {runner.work_dir}: the training starts from the beginning")
        return
    older = last_checkpoint(runner.work_dir) if runner.is_training else None
    if older is not None:
        runner.logger.warning(
            f"This run begins anew, and its work dir has {older.name} of an older one. Until this one has "
            f"saved a checkpoint, --resume goes on with that"
        )
    if runner._load_from is not None:
        load_weights(runner, runner._load_from)


def load_weights(runner: Any, pretrain: Any) -> None:
    """Load weights into the model.

    Args:
        runner: The run.
        pretrain: Whatever a `pretrain` field may hold.
    """
    from framework.pretrain import load_pretrained

    with package_log_to(runner.logger):
        if is_sharded(runner.model):
            load_whole(runner.model, runner.cfg.model, pretrain, "load_from")
        else:
            load_pretrained(runner.bare_model, pretrain, where="load_from")
    runner.call_hook("after_load_checkpoint", checkpoint={"state_dict": runner.bare_model.state_dict()})


def restore(runner: Any, filename: str, *, optimizer: bool, schedulers: bool) -> None:
    """Go on where the run that wrote `filename` stood.

    Args:
        runner: The run that goes on.
        filename: A training checkpoint.
        optimizer: Whether the optimiser's state is restored, too.
        schedulers: Whether the schedulers' state is restored, too.

    Raises:
        PretrainError: The file is missing, damaged, no training checkpoint, or one of another model.
    """
    start = runner.start if runner.start and str(runner.start.path) == filename else None
    state = (start or find_start(runner.work_dir, filename)).state  # type: ignore[union-attr]
    runner.start = None  # its memory is free when this is done
    runner._resume = runner._has_loaded = True
    runner.call_hook("after_load_checkpoint", checkpoint=state)
    if not Path(filename).is_dir():
        _restore_weights(runner, filename, state["state_dict"])
    states.restore_message_hub(runner.message_hub, state["message_hub"])
    _restore_optimizer(runner, Path(filename), state if optimizer else {**state, "optimizer": None})
    if schedulers and runner.param_schedulers:
        _restore_schedulers(runner, filename, state.get("param_schedulers", ()))
    _restore_position(runner, state["meta"])
    complete = _restore_process(runner, state)
    runner.resumed_from = filename
    runner.logger.info(
        f"Resumed from {filename}: epoch {runner.epoch}, iteration {runner.iter}"
        + ("" if complete else "; it says nothing of the random generators, so they start anew")
    )


def _restore_schedulers(runner: Any, filename: str, saved: Sequence[dict[str, Any]]) -> None:
    schedulers = schedulers_of(runner)
    if len(schedulers) != len(saved):
        runner.logger.warning(
            f"{filename} has {len(saved)} schedulers, the config has {len(schedulers)}: they go together in "
            "their order, and what is left over starts anew. Resume with the config of the run"
        )
    for scheduler, state in zip(schedulers, saved, strict=False):
        scheduler.load_state_dict(state)


def _restore_weights(runner: Any, filename: str, weights: Mapping[str, Any]) -> None:
    if is_sharded(runner.model):
        raise CheckpointError(
            f"{filename} was saved by a run without FullyShard, and this run has it. "
            f"To start from its weights, use load_from={filename} and resume=False"
        )
    try:
        runner.bare_model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"{filename} cannot be resumed from, as it is of another model: {' '.join(str(error).split())}. "
            f"To start from its weights, use load_from={filename} and resume=False"
        ) from error


def _restore_optimizer(runner: Any, path: Path, state: Mapping[str, Any]) -> None:
    saved = state.get("optimizer")
    if saved:
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    if path.is_dir():
        own = runner.optim_wrapper.optimizer if saved else None
        saved = load_shards(path, state, runner.bare_model, own)
    try:
        if saved:
            runner.optim_wrapper.load_state_dict(saved)
    except (ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} cannot be resumed from, as it is of another optimiser: {error}. "
            f"To start from its weights, use load_from={path} and resume=False"
        ) from error


def _restore_position(runner: Any, meta: Mapping[str, Any]) -> None:
    """Put the loop where it was; with another total batch, where as many samples of the epoch are done."""
    loop = runner.train_loop
    loop._epoch, loop._iter = meta["epoch"], meta["iter"]
    batch, before = meta.get("batch", 0), meta.get("total_batch", 0)
    now = (runner.train_dataloader.batch_size or 0) * runner.world_size
    loop.batch = batch * before // now if before and now else batch


def _restore_process(runner: Any, state: Mapping[str, Any]) -> bool:
    """Put back what differs between processes; tell whether there was all of it."""
    processes = state.get("processes", ())
    if runner.rank >= len(processes):
        return False
    own = processes[runner.rank]
    runner.train_loop.pass_random = own["pass_random"]
    states.restore_gradients(runner.bare_model, own["gradients"])
    runner.bare_model.load_state_dict(own["buffers"], strict=False)
    states.restore_random_state(own["random"])
    return True
