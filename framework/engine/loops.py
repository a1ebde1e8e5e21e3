"""The loops: mmengine's, for models that predict a dict per batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.runner import EpochBasedTrainLoop as _EpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as _IterBasedTrainLoop
from mmengine.runner import TestLoop as _TestLoop
from mmengine.runner import ValLoop as _ValLoop
from torch import nn

from framework.engine.checkpoint import random_state, restore_random_state
from framework.engine.seed_hook import seed_epoch
from framework.registry import LOOPS


@LOOPS.register_module()
class EpochBasedTrainLoop(_EpochBasedTrainLoop):
    """Train for `max_epochs`."""


@LOOPS.register_module()
class IterBasedTrainLoop(_IterBasedTrainLoop):
    """Train for `max_iters` iterations, over the data again and again."""

    def run(self) -> nn.Module:
        """Train; a resumed run goes on with the batch that would have come next."""
        runner = self.runner
        runner.call_hook("before_train")
        runner.call_hook("before_train_epoch")
        batches = self._batches(start=self._iter)
        while self._iter < self._max_iters and not self.stop_training:
            runner.model.train()
            self.run_iter(next(batches))
            self._decide_current_val_interval()
            due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
            if runner.val_loop is not None and self._iter >= self.val_begin and due:
                runner.val_loop.run()
        runner.call_hook("after_train_epoch")
        runner.call_hook("after_train")
        return runner.model

    def _batches(self, start: int) -> Iterator[Any]:
        """Yield the batches from number `start` on, without end."""
        endless = isinstance(self.dataloader.sampler, InfiniteSampler)
        epoch, skip = (0, start) if endless else divmod(start, len(self.dataloader))
        while True:
            seed_epoch(self.dataloader, epoch, self.runner.seed, self.runner.rank)
            batches = iter(self.dataloader)
            if skip:
                state = random_state()
                for _ in range(skip):
                    next(batches)
                restore_random_state(state)
            yield from batches
            epoch, skip = epoch + 1, 0


@LOOPS.register_module()
class ValLoop(_ValLoop):
    """Validate on predictions that are a dict of tensors for the whole batch."""

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Predict one batch and hand it to the metrics."""
        self.runner.call_hook("before_val_iter", batch_idx=idx, data_batch=data_batch)
        outputs = as_samples(self.runner.model.val_step(data_batch))
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook("after_val_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs)


@LOOPS.register_module()
class TestLoop(_TestLoop):
    """Test on predictions that are a dict of tensors for the whole batch."""

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Predict one batch and hand it to the metrics."""
        self.runner.call_hook("before_test_iter", batch_idx=idx, data_batch=data_batch)
        outputs = as_samples(self.runner.model.test_step(data_batch))
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook("after_test_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs)


def as_samples(outputs: Any) -> list[Any]:
    """Return predictions as mmengine's evaluator wants them: a list, here of one dict for the batch."""
    return [outputs] if isinstance(outputs, Mapping) else list(outputs)
