"""The plan of a training, found out by doing its first iteration, and nothing written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from framework.engine.header import describe_data, describe_model, describe_run
from framework.engine.loops import as_samples
from framework.engine.resume import checkpoints_of
from framework.engine.runner import DEFAULT_HOOKS, Runner

NAME_WIDTH = 14


class _EndOfTrialError(Exception):
    """The first iteration is done."""


class _StopHook(Hook):
    priority = "VERY_HIGH"

    def __init__(self) -> None:
        self.outputs: dict[str, Any] = {}
        self.batch: Any = None
        self.start = 0

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self.batch, self.start = data_batch, runner.iter

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        self.outputs = dict(outputs or {})
        raise _EndOfTrialError


def dry_run(cfg: Config) -> str:
    """Build everything, load the weights, train for one iteration, validate one batch; forget it all.

    Args:
        cfg: The config of a training.

    Returns:
        The plan of the run, a line for each thing.

    Raises:
        ConfigError: The config is wrong.
        PretrainError: Weights cannot be had, or do not fit.
    """
    with tempfile.TemporaryDirectory(prefix="framework-dry-run-") as folder:
        trial = cfg.copy()
        trial.work_dir = folder
        trial.log_level = "ERROR"
        trial.visualizer = None
        if cfg.get("resume") and cfg.get("load_from") is None:
            trial.resume = bool(checkpoints_of(Path(cfg.work_dir)))
            trial.load_from = str(cfg.work_dir) if trial.resume else None
        runner = Runner.from_cfg(trial)
        stop = _StopHook()
        runner.register_hook(stop)
        try:
            runner.train()
        except _EndOfTrialError:
            pass
        finally:
            runner.close()
        values = _try_evaluation(runner)
        return "\n".join(f"{name:<{NAME_WIDTH}}{text}" for name, text in _plan(cfg, runner, stop, values))


def _try_evaluation(runner: Any) -> dict[str, float]:
    """Build validation and test; do one batch of the first that there is."""
    if runner._test_loop is not None:
        runner._test_loop = runner.build_test_loop(runner._test_loop)
    loop = runner._val_loop or runner._test_loop
    if loop is None:
        return {}
    step = runner.model.val_step if loop is runner._val_loop else runner.model.test_step
    runner.model.eval()
    batch = next(iter(loop.dataloader))
    with torch.no_grad():
        outputs = as_samples(step(batch))
    loop.evaluator.process(data_samples=outputs, data_batch=batch)
    return loop.evaluator.evaluate(len(loop.dataloader.dataset))


def _plan(
    cfg: Config, runner: Any, stop: _StopHook, values: Mapping[str, float]
) -> Iterator[tuple[str, str]]:
    first, *rest = describe_run(cfg, runner.seed, runner.world_size).splitlines()
    yield "dry run", "one iteration was done, and nothing of it is kept"
    yield "versions", first
    yield "config", rest[0].removeprefix("config ")
    yield "devices", rest[1]
    yield "model", describe_model(runner.bare_model)
    if cfg.get("resume") and stop.start:
        yield "start", f"resumes after iteration {stop.start:,} of {runner.max_iters:,}"
    yield "train", f"{describe_data(runner.train_dataloader, runner.world_size)}; {_length(runner)}"
    for name, loop in (("val", runner._val_loop), ("test", runner._test_loop)):
        yield name, "none" if loop is None else describe_data(loop.dataloader, runner.world_size)
    yield "optimiser", _optimiser(cfg, runner)
    yield "schedule", _schedule(cfg)
    yield "checkpoints", _checkpoints(cfg)
    losses = ", ".join(f"{name} {float(value.detach()):.4f}" for name, value in stop.outputs.items())
    yield "first batch", f"{_shapes(stop.batch)}: {losses}"
    if values:
        yield (
            "evaluation",
            ", ".join(f"{name} {value:.4f}" for name, value in values.items()) + " (one batch)",
        )


def _length(runner: Any) -> str:
    if runner.max_epochs > 1:
        return f"{runner.max_epochs:,} epochs = {runner.max_iters:,} iterations"
    return f"{runner.max_iters:,} iterations"


def _optimiser(cfg: Config, runner: Any) -> str:
    wrapper = runner.optim_wrapper
    inner = getattr(wrapper, "optimizer", wrapper)
    groups = getattr(inner, "param_groups", [])
    rates = sorted({group.get("initial_lr", group["lr"]) for group in groups})
    lr = f"lr {rates[0]:g}" if len(rates) == 1 else f"lr {rates[0]:g} to {rates[-1]:g}" if rates else ""
    counts = getattr(wrapper, "_accumulative_counts", 1)
    added = f", gradients of {counts} iterations added up" if counts > 1 else ""
    several = f"{len(groups)} group{'s' if len(groups) != 1 else ''}"
    clip = cfg.optim_wrapper.get("clip_grad")
    clipped = f", clipped by {dict(clip)}" if clip else ""
    return f"{type(inner).__name__} in {type(wrapper).__name__}, {lr}, {several}{added}{clipped}"


def _schedule(cfg: Config) -> str:
    entries = cfg.get("param_scheduler") or []
    entries = [entries] if isinstance(entries, Mapping) else entries
    return "; ".join(_scheduler(entry) for entry in entries) or "constant"


def _scheduler(entry: Mapping[str, Any]) -> str:
    if "begin" not in entry and "end" not in entry:
        return str(entry["type"])
    unit = "epoch" if entry.get("by_epoch", True) else "iteration"
    return f"{entry['type']} from {unit} {entry.get('begin', 0)} to {entry.get('end', 'the end')}"


def _checkpoints(cfg: Config) -> str:
    given = (cfg.get("default_hooks") or {}).get("checkpoint", DEFAULT_HOOKS["checkpoint"])
    folder = Path(cfg.work_dir).absolute()
    if given is None:
        return f"none; logs in {folder}"
    interval = given.get("interval", -1)
    unit = "epoch" if given.get("by_epoch", True) else "iteration"
    when = f"every {interval} {unit}s" if interval > 1 else f"every {unit}" if interval == 1 else "at the end"
    kept = given.get("max_keep_ckpts", -1)
    which = f", the newest {kept} are kept" if kept > 0 else ", all are kept"
    best = f", and the best by {given['save_best']}" if given.get("save_best") else ""
    return f"{when} in {folder}{which}{best}"


def _shapes(batch: Any) -> str:
    if isinstance(batch, torch.Tensor):
        return f"{str(batch.dtype).removeprefix('torch.')} {tuple(batch.shape)}"
    if isinstance(batch, Mapping):
        return ", ".join(f"{name} {_shapes(value)}" for name, value in batch.items())
    if isinstance(batch, (list, tuple)):
        return f"[{', '.join(_shapes(value) for value in batch[:3])}]"
    return type(batch).__name__
