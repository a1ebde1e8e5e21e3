"""Where a run starts from, and what it leaves for the next one to go on with."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, is_main_process

import framework
from framework.engine import checkpoint as checkpoints
from framework.engine.console import package_log_to
from framework.engine.shard_checkpoint import load_shards, load_whole, save_shards
from framework.engine.sharded import is_sharded, state_file
from framework.pretrain.errors import CheckpointError


def last_checkpoint(work_dir: str | os.PathLike[str]) -> Path | None:
    """Return the checkpoint that `last_checkpoint` in a work dir names, or None."""
    pointer = Path(work_dir, "last_checkpoint")
    return Path(work_dir, pointer.read_text(encoding="utf-8").strip()) if pointer.is_file() else None


def load_or_resume(runner: Any) -> None:
    """Resume, from `load_from` or else the work dir's last checkpoint; or load its weights."""
    if runner._has_loaded:
        return
    runner._has_loaded = True
    if not runner._resume:
        if runner._load_from is not None:
            load_weights(runner, runner._load_from)
        return
    path = runner._load_from or last_checkpoint(runner.work_dir)
    if path is None:
        runner.logger.info(f"Nothing to resume in {runner.work_dir}: the training starts from the beginning")
    else:
        runner.resume(str(path))


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
        PretrainError: The file is missing, damaged, or no training checkpoint of this project.
    """
    state = checkpoints.read_checkpoint(state_file(filename))
    runner.call_hook("after_load_checkpoint", checkpoint=state)
    folder = Path(filename) if Path(filename).is_dir() else None
    if folder is None:
        _check_not_sharded(runner, filename)
        runner.bare_model.load_state_dict(state["state_dict"])
    runner.train_loop._epoch = state["meta"]["epoch"]
    runner.train_loop._iter = state["meta"]["iter"]
    checkpoints.restore_message_hub(runner.message_hub, state["message_hub"])
    if optimizer and "optimizer" in state:
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    if folder is not None:
        own = runner.optim_wrapper.optimizer if optimizer and "optimizer" in state else None
        state["optimizer"] = load_shards(folder, state, runner.bare_model, own)
    if optimizer and state.get("optimizer"):
        runner.optim_wrapper.load_state_dict(state["optimizer"])
    if schedulers and runner.param_schedulers:
        for scheduler, saved in zip(_schedulers(runner), state.get("param_schedulers", ()), strict=False):
            scheduler.load_state_dict(saved)
    states = state.get("random", ())
    if runner.rank < len(states):
        checkpoints.restore_random_state(states[runner.rank])
    runner._has_loaded = True
    runner.logger.info(f"Resumed from {filename}: epoch {runner.epoch}, iteration {runner.iter}")


def save(
    runner: Any, path: Path, *, optimizer: bool, schedulers: bool, meta: Mapping[str, Any] | None = None
) -> None:
    """Write a checkpoint. Every process must call this.

    Args:
        runner: The run.
        path: The file.
        optimizer: Whether the optimiser's state is part of it.
        schedulers: Whether the schedulers' state is part of it.
        meta: `epoch` and `iter`: how many are done.
    """
    random_states = all_gather_object(checkpoints.random_state())
    sharded = is_sharded(runner.model)
    if not (sharded or is_main_process()):
        return
    state: dict[str, Any] = {
        "meta": _meta(runner) | dict(meta or {"epoch": runner.epoch, "iter": runner.iter}),
        "state_dict": {} if sharded else runner.bare_model.state_dict(),
        "message_hub": checkpoints.message_hub_state(runner.message_hub),
        "random": random_states,
    }
    if optimizer:
        state["optimizer"] = runner.optim_wrapper.state_dict()
    if schedulers and runner.param_schedulers:
        state["param_schedulers"] = [scheduler.state_dict() for scheduler in _schedulers(runner)]
    runner.call_hook("before_save_checkpoint", checkpoint=state)
    if sharded:
        save_shards(state, runner.model, runner.optim_wrapper.optimizer if optimizer else None, path)
    else:
        checkpoints.save_checkpoint(state, path)


def _check_not_sharded(runner: Any, filename: str) -> None:
    if is_sharded(runner.model):
        raise CheckpointError(
            f"{filename} was saved by a run without FullyShard, and this run has it. "
            f"To start from its weights, use load_from={filename} and resume=False"
        )


def _schedulers(runner: Any) -> Sequence[Any]:
    runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    if isinstance(runner.param_schedulers, Mapping):
        return [scheduler for group in runner.param_schedulers.values() for scheduler in group]
    return runner.param_schedulers


def _meta(runner: Any) -> dict[str, Any]:
    return {
        "cfg": runner.cfg.pretty_text,
        "seed": runner.seed,
        "experiment_name": runner.experiment_name,
        "time": time.strftime("%Y%m%d_%H%M%S"),
        "framework_version": framework.__version__,
        "dataset_meta": getattr(runner.train_dataloader.dataset, "metainfo", {}),
    }
