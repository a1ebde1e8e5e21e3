"""What a run notes of every iteration: where it stands, losses, learning rate and times.

mmengine's hooks of these names read every loss from its device at once, and so wait for it in every
iteration. These note the same numbers under the same names, and read them when they are shown. Its hook of
the schedulers warns of a first iteration without a step of the optimiser, which accumulation means to have.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import IterTimerHook as _IterTimerHook
from mmengine.hooks import ParamSchedulerHook as _ParamSchedulerHook
from mmengine.hooks import RuntimeInfoHook as _RuntimeInfoHook

from framework.engine.history import record
from framework.registry import HOOKS


@HOOKS.register_module()
class RuntimeInfoHook(_RuntimeInfoHook):
    """Note iteration, learning rate and losses."""

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Note the number of the iteration and the learning rates, of each optimiser's first group."""
        runner.message_hub.update_info("iter", runner.iter)
        for name, rates in runner.optim_wrapper.get_lr().items():
            record(runner.message_hub, f"train/{name}", rates[0])

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Note what the model gives besides the loss that is minimised."""
        for name, value in (outputs or {}).items():
            record(runner.message_hub, f"train/{name}", value)


@HOOKS.register_module()
class IterTimerHook(_IterTimerHook):
    """Note how long an iteration took, how long it waited for data, and the time that is left.

    On a GPU the host runs ahead of the device, so a single time says little; the mean over many is right.
    """

    t: float
    time_sec_tot: float
    time_sec_test_val: float

    def _before_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, mode: str = "train") -> None:
        record(runner.message_hub, f"{mode}/data_time", time.time() - self.t)

    def _after_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = "train"
    ) -> None:
        now = time.time()
        spent, self.t = now - self.t, now
        record(runner.message_hub, f"{mode}/time", spent)
        if mode == "train":
            self.time_sec_tot += spent
            mean = self.time_sec_tot / (runner.iter - self.start_iter + 1)
            left = runner.max_iters - runner.iter - 1
        else:
            self.time_sec_test_val += spent
            mean = self.time_sec_test_val / (batch_idx + 1)
            loader = runner.val_dataloader if mode == "val" else runner.test_dataloader
            left = len(loader) - batch_idx - 1
        runner.message_hub.update_info("eta", mean * left)


@HOOKS.register_module()
class ParamSchedulerHook(_ParamSchedulerHook):
    """Move the schedulers on, by iterations (whether or not the optimiser made a step) or by epochs."""

    def __init__(self) -> None:
        self._begun = False

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Move those on that count iterations."""
        if self._begun:
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
            return
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected call of `scheduler.step\\(\\)` before")
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
        self._begun = True
