"""What a run leaves for the next one to go on with."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, is_main_process

import framework
from framework.engine import state as states
from framework.engine.checkpoint import write_checkpoint
from framework.engine.shard_checkpoint import save_shards
from framework.engine.sharded import is_sharded
from framework.errors import SaveError


def save(
    runner: Any, path: Path, *, optimizer: bool, schedulers: bool, meta: Mapping[str, Any] | None = None
) -> None:
    """Write a checkpoint, and wait until it is on the disk. Every process must call this.

    Args:
        runner: The run.
        path: The file; of a sharded model a folder.
        optimizer: Whether the optimiser's state is part of it.
        schedulers: Whether the schedulers' state is part of it.
        meta: `epoch` and `iter`: how many are done.
    """
    runner.writer.wait()
    state = collect(runner, optimizer=optimizer, schedulers=schedulers, meta=meta)
    if is_sharded(runner.model):
        save_shards(state, runner.model, runner.optim_wrapper, path)
    elif is_main_process():
        write_checkpoint(states.snapshot(state), path)


def collect(
    runner: Any, *, optimizer: bool, schedulers: bool, meta: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what a checkpoint holds. Every process must call this; the others than the first get nothing.

    The tensors are those of the training, which goes on to change them: see `snapshot`.
    Of a sharded model every process gets all but the tensors.
    """
    processes = all_gather_object(_process_state(runner))
    sharded = is_sharded(runner.model)
    if not (sharded or is_main_process()):
        return {}
    state: dict[str, Any] = {
        "meta": _meta(runner) | dict(meta or {"epoch": runner.epoch, "iter": runner.iter}),
        "state_dict": {} if sharded else runner.bare_model.state_dict(),
        "message_hub": states.message_hub_state(runner.message_hub),
        "processes": processes,
    }
    if optimizer:
        state["optimizer"] = runner.optim_wrapper.state_dict()
    if schedulers and runner.param_schedulers:
        state["param_schedulers"] = [scheduler.state_dict() for scheduler in schedulers_of(runner)]
    runner.call_hook("before_save_checkpoint", checkpoint=state)
    return state


def _process_state(runner: Any) -> dict[str, Any]:
    """Return what differs between the processes of a run."""
    loop = runner.train_loop
    model = runner.bare_model
    sharded = is_sharded(runner.model)
    return {
        "random": getattr(runner._val_loop, "random_before", None) or states.random_state(),
        "pass_random": loop.pass_random if getattr(loop, "batch", 0) else None,
        "gradients": {} if sharded else states.gradients(model, runner.optim_wrapper),
        "buffers": states.own_buffers(model),
    }


def schedulers_of(runner: Any) -> Sequence[Any]:
    """Return the schedulers of a run, which are built if they are not."""
    runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    if isinstance(runner.param_schedulers, Mapping):
        return [scheduler for group in runner.param_schedulers.values() for scheduler in group]
    return runner.param_schedulers


def _meta(runner: Any) -> dict[str, Any]:
    return {
        "cfg": runner.config_text,
        "seed": runner.seed,
        "experiment_name": runner.experiment_name,
        "time": time.strftime("%Y%m%d_%H%M%S"),
        "framework_version": framework.__version__,
        "dataset_meta": getattr(runner.train_dataloader.dataset, "metainfo", {}),
        "batch": getattr(runner.train_loop, "batch", 0),
        "total_batch": (runner.train_dataloader.batch_size or 0) * runner.world_size,
    }


def check_writable(work_dir: str | os.PathLike[str]) -> None:
    """Make the folder of a run, if need be, and write a file into it.

    Raises:
        SaveError: That cannot be done.
    """
    try:
        os.makedirs(work_dir, exist_ok=True)
        with tempfile.TemporaryFile(dir=work_dir) as file:
            file.write(b"0")
    except OSError as error:
        raise SaveError(
            f"Nothing can be written to the work dir {Path(work_dir).absolute()}: {error.strerror}. "
            f"Choose another with --work-dir, or work_dir in the config"
        ) from error
