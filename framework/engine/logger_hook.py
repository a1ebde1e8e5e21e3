"""Log lines, curves and the progress bar of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook

from framework.datasets.base import newly_corrupt
from framework.engine.checkpoint import write_text
from framework.engine.console import DETAIL, ProgressBar
from framework.engine.header import describe_data, describe_model
from framework.engine.metrics_file import MetricsFile
from framework.registry import HOOKS


@HOOKS.register_module()
class LoggerHook(Hook):
    """Write losses, learning rate, times and metrics to log, `metrics.jsonl` and the visualiser's backends.

    On a terminal a progress bar shows the latest losses, the learning rate and the time left, and the lines
    of single iterations go to the log file only; elsewhere these are printed, too.

    Args:
        interval: Iterations between two lines.
        ignore_last: Whether the last iterations of an epoch, if fewer than `interval`, get no line.
        log_metric_by_epoch: Whether the curves of metrics are over epochs instead of iterations.
    """

    priority = "BELOW_NORMAL"

    def __init__(
        self, interval: int = 10, ignore_last: bool = True, log_metric_by_epoch: bool = True
    ) -> None:
        if interval < 1:
            raise ValueError(f"LoggerHook: interval must be at least 1, got {interval}")
        self.interval = interval
        self.ignore_last = ignore_last
        self.log_metric_by_epoch = log_metric_by_epoch
        self.bars: list[ProgressBar] = []
        self.file: MetricsFile | None = None

    def before_run(self, runner: Any) -> None:
        """Open the file of numbers, of the first process only."""
        self.file = MetricsFile(runner.work_dir) if is_main_process() else None

    def before_train(self, runner: Any) -> None:
        """Say what is trained, and open the bar of the whole training."""
        runner.logger.info(describe_model(runner.bare_model, runner.resumed_from))
        runner.logger.info(f"Training data: {describe_data(runner.train_dataloader, runner.world_size)}")
        if self.file is not None:
            self.file.begin(runner.iter, runner.timestamp)
        self.bars.append(ProgressBar(runner.max_iters, runner.iter, "train"))

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Move the bar; log a line if it is time."""
        self.bars[-1].advance(self._position(runner), lambda: _latest(runner.message_hub))
        last = self.end_of_epoch(runner.train_dataloader, batch_idx)
        short = len(runner.train_dataloader) <= self.interval
        if self.every_n_inner_iters(batch_idx, self.interval) or (last and (short or not self.ignore_last)):
            values, line = runner.log_processor.get_log_after_iter(runner, batch_idx, "train")
            runner.logger.info(line, extra=DETAIL)
            self._write("train", runner.iter + 1, runner.epoch + 1, values)
            runner.visualizer.add_scalars(values, step=runner.iter + 1)

    def after_train_epoch(self, runner: Any) -> None:
        """Name the images that were left out."""
        _tell_corrupt(runner, "train", runner.train_dataloader)

    def after_train(self, runner: Any) -> None:
        """Close the bar."""
        self.bars.pop().close()

    def before_val_epoch(self, runner: Any) -> None:
        """Open the bar of the validation."""
        self.bars.append(ProgressBar(len(runner.val_dataloader), 0, "val", keep=False))

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Move the bar; log a line if it is time."""
        self._after_eval_iter(runner, batch_idx, "val")

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Log the metrics."""
        self.bars.pop().close()
        _tell_corrupt(runner, "val", runner.val_dataloader)
        values, line = runner.log_processor.get_log_after_epoch(runner, len(runner.val_dataloader), "val")
        runner.logger.info(line)
        training = runner.is_training
        step = (runner.epoch if self.log_metric_by_epoch else runner.iter) if training else 0
        runner.visualizer.add_scalars(values, step=step)
        self._write("val", runner.iter if training else 0, runner.epoch if training else 0, values)

    def before_test_epoch(self, runner: Any) -> None:
        """Open the bar of the test."""
        self.bars.append(ProgressBar(len(runner.test_dataloader), 0, "test", keep=False))

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Move the bar; log a line if it is time."""
        self._after_eval_iter(runner, batch_idx, "test")

    def after_test_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Log the metrics and write them to `test.json` in the log folder."""
        self.bars.pop().close()
        _tell_corrupt(runner, "test", runner.test_dataloader)
        values, line = runner.log_processor.get_log_after_epoch(runner, len(runner.test_dataloader), "test")
        runner.logger.info(line)
        training = runner.is_training
        self._write("test", runner.iter if training else 0, runner.epoch if training else 0, values)
        if is_main_process():
            write_text(Path(runner.log_dir, "test.json"), json.dumps(dict(metrics or {})))

    def _after_eval_iter(self, runner: Any, batch_idx: int, mode: str) -> None:
        self.bars[-1].advance(mode)
        if self.every_n_inner_iters(batch_idx, self.interval):
            _, line = runner.log_processor.get_log_after_iter(runner, batch_idx, mode)
            runner.logger.info(line, extra=DETAIL)

    def _write(self, mode: str, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        if self.file is not None:
            numbers = {name: value for name, value in values.items() if name not in ("epoch", "iter")}
            self.file.write(mode, step, epoch, numbers)

    def _position(self, runner: Any) -> str:
        return f"epoch {runner.epoch + 1}/{runner.max_epochs}" if runner.max_epochs > 1 else "train"


def _latest(hub: Any) -> dict[str, float]:
    """Return the latest losses and the learning rate, the common one where groups have their own."""
    names = [name for name in hub.log_scalars if name.startswith("train/") and "loss" in name]
    values = {name.removeprefix("train/"): hub.get_scalar(name).current() for name in names}
    rate = next((name for name in ("train/base_lr", "train/lr") if name in hub.log_scalars), None)
    return values | ({"lr": hub.get_scalar(rate).current()} if rate else {})


def _tell_corrupt(runner: Any, mode: str, loader: Any) -> None:
    """Warn of the images that all processes have left out since the last time."""
    if getattr(loader.dataset, "corrupt", None) is None:
        return
    names = sorted({name for own in all_gather_object(newly_corrupt(loader.dataset)) for name in own})
    if names:
        count = f"{len(names):,} of {len(loader.dataset):,} images"
        listed = "\n  ".join(names)
        runner.logger.warning(f"Left out {count} ({mode}), as they cannot be read:\n  {listed}")
