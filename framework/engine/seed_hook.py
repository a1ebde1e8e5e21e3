"""The same data order and the same random transforms in an epoch, whatever came before."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from framework.engine.data_order import begin_epoch
from framework.registry import HOOKS


@HOOKS.register_module()
class SeedHook(Hook):
    """Before each epoch, tell the sampler its number and seed what the data workers start from."""

    priority = "NORMAL"

    def before_train_epoch(self, runner: Any) -> None:
        """Seed the training data for the epoch that begins."""
        begin_epoch(runner.train_dataloader, runner.epoch, runner.seed, runner.rank)
