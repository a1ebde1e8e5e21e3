"""The same data order and the same random transforms in an epoch, whatever came before."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from framework.registry import HOOKS


@HOOKS.register_module()
class SeedHook(Hook):
    """Before each epoch, tell the sampler its number and seed what the data workers start from."""

    priority = "NORMAL"

    def before_train_epoch(self, runner: Any) -> None:
        """Seed the training data for the epoch that begins."""
        seed_epoch(runner.train_dataloader, runner.epoch, runner.seed, runner.rank)


def seed_epoch(loader: DataLoader[Any], epoch: int, seed: int, rank: int) -> None:
    """Make the next pass over `loader` depend on `epoch`, `seed` and `rank` alone."""
    samplers: list[Any] = [loader.sampler, getattr(loader.batch_sampler, "sampler", None)]
    for sampler in samplers:
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
    if loader.generator is not None:
        loader.generator.manual_seed(epoch_seed(seed, epoch, rank))


def epoch_seed(seed: int, epoch: int, rank: int) -> int:
    """Return a seed of 63 bits for one epoch of one process."""
    return int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))
