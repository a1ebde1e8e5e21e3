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

from framework.engine.data_order import begin_epoch, skip_batches
from framework.engine.state import random_state, restore_random_state
from framework.registry import LOOPS


class _Resumable:
    """What both training loops know of the pass over the data that is under way.

    Attributes:
        batch: How many batches of the pass are done.
        pass_random: The random generators as the pass began.
    """

    runner: Any
    dataloader: Any
    batch = 0
    pass_random: Mapping[str, Any] | None = None

    def _rest_of_pass(self, done: int) -> Iterator[Any]:
        """Return the batches of a pass after the first `done`, which are not read."""
        if not done:
            self.pass_random = random_state()
            return iter(self.dataloader)
        now = random_state()
        if self.pass_random is not None:
            restore_random_state(self.pass_random)  # a sampler may draw from them
        batches = skip_batches(self.dataloader, done)
        restore_random_state(now)
        return batches

    def _validate_if_due(self, *, due: bool) -> None:
        """Validate, unless the run that is resumed has done so."""
        runner = self.runner
        if runner.val_loop is not None and due and runner.message_hub.get_info("evaluated") != runner.iter:
            runner.val_loop.run()
            runner.message_hub.update_info("evaluated", runner.iter)


@LOOPS.register_module()
class EpochBasedTrainLoop(_Resumable, _EpochBasedTrainLoop):
    """Train for `max_epochs`; a resumed run goes on with the batch that would have come next."""

    def run(self) -> nn.Module:
        """Train; what a resumed run has left to validate comes first."""
        self.runner.call_hook("before_train")
        if self._epoch and not self.batch:
            self._validate_if_due(due=self._due())
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            self._validate_if_due(due=self._due())
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        """Train for the rest of an epoch."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        for index, data in enumerate(self._rest_of_pass(self.batch), start=self.batch):
            self.batch = index + 1
            self.run_iter(index, data)
        self.batch = 0
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _due(self) -> bool:
        on_time = self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        return self._epoch >= self.val_begin and on_time


@LOOPS.register_module()
class IterBasedTrainLoop(_Resumable, _IterBasedTrainLoop):
    """Train for `max_iters` iterations, over the data again and again."""

    def run(self) -> nn.Module:
        """Train; a resumed run goes on with the batch that would have come next."""
        runner = self.runner
        runner.call_hook("before_train")
        runner.call_hook("before_train_epoch")
        if self._iter:
            self._validate_if_due(due=self._due())
        batches = self._batches(start=self._iter)
        while self._iter < self._max_iters and not self.stop_training:
            runner.model.train()
            self.run_iter(next(batches))
            self._decide_current_val_interval()
            self._validate_if_due(due=self._due())
        runner.call_hook("after_train_epoch")
        runner.call_hook("after_train")
        return runner.model

    def _due(self) -> bool:
        on_time = self._iter % self.val_interval == 0 or self._iter == self._max_iters
        return self._iter >= self.val_begin and on_time

    def _batches(self, start: int) -> Iterator[Any]:
        """Yield the batches from number `start` on, without end."""
        sampler = self.dataloader.sampler
        endless = isinstance(getattr(sampler, "inner", sampler), InfiniteSampler)
        epoch, done = (0, start) if endless else divmod(start, len(self.dataloader))
        while True:
            begin_epoch(self.dataloader, epoch, self.runner.seed, self.runner.rank)
            for number, data in enumerate(self._rest_of_pass(done), start=done + 1):
                self.batch = number
                yield data
            epoch, done = epoch + 1, 0


@LOOPS.register_module()
class ValLoop(_ValLoop):
    """Validate on predictions that are a dict of tensors for the whole batch.

    Attributes:
        random_before: While it runs, the random generators as the training left them.
    """

    random_before: Mapping[str, Any] | None = None

    def run(self) -> dict[str, float]:
        """Validate; the random numbers of the training that follows do not depend on it."""
        before = self.random_before = random_state()
        try:
            return super().run()
        finally:
            restore_random_state(before)
            self.random_before = None

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
