"""When checkpoints are written, and which are kept."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from framework.engine.checkpoint import (
    FORMATS,
    remove_checkpoint,
    remove_left_over,
    write_checkpoint,
    write_text,
)
from framework.engine.saving import collect, save
from framework.engine.shard_checkpoint import remove_unfinished
from framework.engine.sharded import is_sharded
from framework.engine.state import plain, snapshot
from framework.errors import ConfigError, did_you_mean
from framework.registry import HOOKS

#: Parts of metric names for which less is better; for all others more is.
LESS_IS_BETTER = ("loss", "error", "perplexity")

#: What the file of the best model does not hold.
TRAINING_ONLY = ("optimizer", "param_schedulers")

_SAVED = re.compile(r"(best_[^/\\]+_)?(epoch|iter)_\d+\.(pth|safetensors|dcp)")


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Save the run every so often, keep the newest files and the best one.

    Files are `epoch_N.pth` or `iter_N.pth` and `best_<metric>_epoch_N.pth` in the work dir; of a sharded
    model they are folders that end in `.dcp`. An old file is removed when the new one is in place, and
    `last_checkpoint` always names a whole file. They are written while the training goes on, from a copy of
    the state in the main memory.

    Args:
        interval: Save every this many epochs or iterations; -1: only at the end.
        by_epoch: Whether `interval` counts epochs.
        max_keep_ckpts: Keep this many of the newest; -1: all.
        save_last: Whether to save at the end of the training, whatever the interval.
        save_best: Metric, such as 'accuracy/top1', whose best model is kept in a file of its own; 'auto'
            takes the first metric that the validation gives.
        rule: 'greater' or 'less'. Default: 'less' for losses and errors, else 'greater'.
        save_optimizer: Whether the optimiser's state is saved, too.
        save_param_scheduler: Whether the schedulers' state is saved, too.
        save_begin: First epoch or iteration that may be saved.
        file_format: 'pth', or 'safetensors' for the weights in a file of that kind with all else beside it.
        background: Whether the training goes on while a file is being written.
    """

    priority = "VERY_LOW"

    def __init__(
        self,
        interval: int = -1,
        by_epoch: bool = True,
        max_keep_ckpts: int = -1,
        save_last: bool = True,
        save_best: str | None = None,
        rule: str | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        save_begin: int = 0,
        file_format: str = "pth",
        background: bool = True,
    ) -> None:
        if file_format not in FORMATS:
            raise ConfigError(
                f"CheckpointHook: file_format is one of {', '.join(FORMATS)}, got {file_format!r}"
            )
        if rule not in (None, "greater", "less"):
            raise ConfigError(f"CheckpointHook: rule is 'greater' or 'less', got {rule!r}")
        self.interval = interval
        self.by_epoch = by_epoch
        self.max_keep_ckpts = max_keep_ckpts
        self.save_last = save_last
        self.save_best = save_best
        self.rule = rule
        self.options = {"optimizer": save_optimizer, "schedulers": save_param_scheduler}
        self.save_begin = save_begin
        self.file_format = file_format
        self.background = background

    def before_train(self, runner: Any) -> None:
        """Say where the checkpoints go, and remove what a run that was killed was writing."""
        if is_main_process():
            folder = Path(runner.work_dir).absolute()
            remove_left_over(folder)
            remove_unfinished(folder)
            if Path(runner.resumed_from).absolute().parent == folder:
                self._remove(runner, runner.message_hub.get_info("superfluous_ckpts", []))
        runner.logger.info(f"Checkpoints go to {Path(runner.work_dir).absolute()}")
        if self.save_best is not None and runner.val_loop is None:
            runner.logger.warning("save_best keeps nothing in this run, as it has no validation (val_cfg)")

    def after_train_epoch(self, runner: Any) -> None:
        """Save at the end of an epoch, if it is time."""
        last = self.save_last and self.is_last_train_epoch(runner)
        if self.by_epoch and (self.every_n_epochs(runner, self.interval, self.save_begin) or last):
            self._save(runner, runner.epoch + 1, {"epoch": runner.epoch + 1, "iter": runner.iter})

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Save after an iteration, if it is time."""
        runner.writer.check()
        last = self.save_last and self.is_last_train_iter(runner)
        if not self.by_epoch and (self.every_n_train_iters(runner, self.interval, self.save_begin) or last):
            self._save(runner, runner.iter + 1, {"epoch": runner.epoch, "iter": runner.iter + 1})

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Keep the model if it is the best so far."""
        if not runner.is_training:
            return
        hub = runner.message_hub
        hub.update_info("evaluated", runner.iter)
        if self.save_best is None or not metrics:
            return
        name = self._metric(metrics)
        score = float(metrics[name])
        if not self._is_better(name, score, hub.get_info("best_score")):
            return
        done = runner.epoch if self.by_epoch else runner.iter
        best, previous = (
            f"best_{name.replace('/', '_')}_{self._name(runner, done)}",
            hub.get_info("best_ckpt"),
        )
        hub.update_info("best_score", score)
        hub.update_info("best_ckpt", best)
        last = self._name(runner, done)
        again = [last] if hub.get_info("last_ckpt") == last else []  # so that a resumed run knows the best
        superfluous = [] if previous in (None, best) else [previous]
        hub.update_info("superfluous_ckpts", superfluous)
        self._write(runner, [best, *again], superfluous, {"epoch": runner.epoch, "iter": runner.iter})
        runner.logger.info(f"Best so far: {name} {score:.4f}, kept as {best}")

    def after_train(self, runner: Any) -> None:
        """Save, if the training stopped before its time; wait until everything is written."""
        done = runner.epoch if self.by_epoch else runner.iter
        stopped = runner.train_loop.stop_training and self._name(runner, done) != self._last(runner)
        if self.save_last and stopped:
            self._save(runner, done, {"epoch": runner.epoch, "iter": runner.iter})
        runner.writer.wait()

    def _last(self, runner: Any) -> str | None:
        return runner.message_hub.get_info("last_ckpt")

    def _metric(self, metrics: Mapping[str, float]) -> str:
        name = next(iter(metrics)) if self.save_best == "auto" else str(self.save_best)
        if name not in metrics:
            hint = did_you_mean(name, metrics) or f". There are: {', '.join(metrics)}"
            raise ConfigError(f"CheckpointHook: save_best names no metric of the validation: '{name}'{hint}")
        return name

    def _is_better(self, name: str, score: float, best: float | None) -> bool:
        less = self.rule == "less" or (self.rule is None and any(part in name for part in LESS_IS_BETTER))
        if math.isnan(score):
            return False
        return best is None or (score < best if less else score > best)

    def _name(self, runner: Any, step: int) -> str:
        suffix = ".dcp" if is_sharded(runner.model) else f".{self.file_format}"
        return f"{'epoch' if self.by_epoch else 'iter'}_{step}{suffix}"

    def _save(self, runner: Any, step: int, meta: dict[str, int]) -> None:
        hub = runner.message_hub
        name = self._name(runner, step)
        kept = [old for old in hub.get_info("kept_ckpts", []) if old != name] + [name]
        superfluous = kept[: -self.max_keep_ckpts] if self.max_keep_ckpts > 0 else []
        hub.update_info("kept_ckpts", kept[len(superfluous) :])
        hub.update_info("last_ckpt", name)
        hub.update_info("superfluous_ckpts", superfluous)
        self._write(runner, [name], superfluous, meta)

    def _write(self, runner: Any, names: list[str], superfluous: list[str], meta: dict[str, int]) -> None:
        """Write one state under some names, of which the best has weights only, then remove old files."""
        if is_sharded(runner.model):
            self._write_folders(runner, names, meta)
            self._finish(runner, names, superfluous)
            return
        runner.writer.wait()
        state = collect(runner, **self._options(names), meta=meta)
        if not is_main_process():
            return
        values = snapshot(state) if self.background else plain(state)

        def job() -> None:
            for name in names:
                left_out = TRAINING_ONLY if name.startswith("best_") else ()
                part = {key: value for key, value in values.items() if key not in left_out}
                write_checkpoint(part, Path(runner.work_dir, name))
            self._finish(runner, names, superfluous)

        if self.background:
            runner.writer.start(job)
        else:
            job()

    def _write_folders(self, runner: Any, names: list[str], meta: dict[str, int]) -> None:
        for name in names:
            save(runner, Path(runner.work_dir, name), **self._options([name]), meta=meta)

    def _options(self, names: list[str]) -> dict[str, bool]:
        """Return what to collect: for the best model alone nothing that only a training needs."""
        best_alone = all(name.startswith("best_") for name in names)
        return dict.fromkeys(self.options, False) if best_alone else self.options

    def _finish(self, runner: Any, names: list[str], superfluous: list[str]) -> None:
        """Point `last_checkpoint` at the new file, then remove what need not be kept."""
        if not is_main_process():
            return
        for name in names:
            if not name.startswith("best_"):
                write_text(Path(runner.work_dir, "last_checkpoint"), name)
                runner.logger.info(f"Saved {name}")
        self._remove(runner, superfluous)

    def _remove(self, runner: Any, names: Iterable[str]) -> None:
        for name in map(str, names):
            if not _SAVED.fullmatch(name):  # in a foreign checkpoint it may name any file
                runner.logger.warning(f"'{name}' is the name of no checkpoint of a run, so it is not removed")
                continue
            path = Path(runner.work_dir, name)
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else remove_checkpoint(path)
