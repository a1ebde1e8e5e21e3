"""When checkpoints are written, and which are kept."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from framework.engine.checkpoint import write_text
from framework.engine.sharded import suffix_of
from framework.errors import ConfigError, did_you_mean
from framework.registry import HOOKS

#: Parts of metric names for which less is better; for all others more is.
LESS_IS_BETTER = ("loss", "error", "perplexity")


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Save the run every so often, keep the newest files and the best one.

    Files are `epoch_N.pth` or `iter_N.pth` and `best_<metric>_epoch_N.pth` in the work dir; of a sharded model
    they are folders that end in `.dcp`. An old file is removed when the new one is in place, and
    `last_checkpoint` always names a whole file.

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
    ) -> None:
        if rule not in (None, "greater", "less"):
            raise ConfigError(f"CheckpointHook: rule is 'greater' or 'less', got {rule!r}")
        self.interval = interval
        self.by_epoch = by_epoch
        self.max_keep_ckpts = max_keep_ckpts
        self.save_last = save_last
        self.save_best = save_best
        self.rule = rule
        self.options = {"save_optimizer": save_optimizer, "save_param_scheduler": save_param_scheduler}
        self.save_begin = save_begin

    def before_train(self, runner: Any) -> None:
        """Say where the checkpoints go."""
        runner.logger.info(f"Checkpoints go to {Path(runner.work_dir).absolute()}")

    def after_train_epoch(self, runner: Any) -> None:
        """Save at the end of an epoch, if it is time."""
        last = self.save_last and self.is_last_train_epoch(runner)
        if self.by_epoch and (self.every_n_epochs(runner, self.interval, self.save_begin) or last):
            self._save(runner, runner.epoch + 1, {"epoch": runner.epoch + 1, "iter": runner.iter})

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Save after an iteration, if it is time."""
        last = self.save_last and self.is_last_train_iter(runner)
        if not self.by_epoch and (self.every_n_train_iters(runner, self.interval, self.save_begin) or last):
            self._save(runner, runner.iter + 1, {"epoch": runner.epoch, "iter": runner.iter + 1})

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Keep the model if it is the best so far."""
        if self.save_best is None or not metrics:
            return
        name = self._metric(metrics)
        score = float(metrics[name])
        if not self._is_better(name, score, runner.message_hub.get_info("best_score")):
            return
        done = runner.epoch if self.by_epoch else runner.iter
        unit = "epoch" if self.by_epoch else "iter"
        previous = runner.message_hub.get_info("best_ckpt")
        best = f"best_{name.replace('/', '_')}_{unit}_{done}{suffix_of(runner.model)}"
        meta = {"epoch": runner.epoch, "iter": runner.iter}
        runner.message_hub.update_info("best_score", score)
        runner.message_hub.update_info("best_ckpt", best)
        weights_only = {"save_optimizer": False, "save_param_scheduler": False}
        runner.save_checkpoint(runner.work_dir, best, meta=meta, **weights_only)
        if previous not in (None, best):
            self._remove(runner, previous)
        runner.logger.info(f"Best so far: {name} {score:.4f}, saved as {best}")
        if runner.message_hub.get_info("last_ckpt") == self._name(runner, done):
            self._save(runner, done, meta)  # once more, so that a resumed run knows the best

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
        return f"{'epoch' if self.by_epoch else 'iter'}_{step}{suffix_of(runner.model)}"

    def _save(self, runner: Any, step: int, meta: dict[str, int]) -> None:
        """Write the checkpoint, point `last_checkpoint` at it, then remove what need not be kept."""
        hub = runner.message_hub
        name = self._name(runner, step)
        kept = [old for old in hub.get_info("kept_ckpts", []) if old != name] + [name]
        superfluous: Sequence[str] = kept[: -self.max_keep_ckpts] if self.max_keep_ckpts > 0 else ()
        hub.update_info("kept_ckpts", kept[len(superfluous) :])
        hub.update_info("last_ckpt", name)
        runner.save_checkpoint(runner.work_dir, name, meta=meta, **self.options)
        if is_main_process():
            write_text(Path(runner.work_dir, "last_checkpoint"), name)
        for old in superfluous:
            self._remove(runner, old)
        runner.logger.info(f"Saved {name}")

    def _remove(self, runner: Any, name: str) -> None:
        if is_main_process():
            path = Path(runner.work_dir, name)
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
