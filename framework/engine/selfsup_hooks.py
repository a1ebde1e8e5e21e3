"""Hooks of self-supervised methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook

from framework.errors import ConfigError
from framework.registry import HOOKS


@HOOKS.register_module()
class SimSiamHook(Hook):
    """Keeps the learning rate of parameter groups that have `fix_lr=True`: the predictor's.

    Source: SimSiam, https://arxiv.org/abs/2011.10566, section 4.2: the predictor learns without decay.

    Args:
        fix_pred_lr: Whether to do so.
        lr: The learning rate.
        adjust_by_epoch: Whether it is set at the beginning of an epoch only, for schedules by epoch.
    """

    def __init__(self, fix_pred_lr: bool, lr: float, adjust_by_epoch: bool = True) -> None:
        self.fix_pred_lr, self.lr, self.adjust_by_epoch = fix_pred_lr, lr, adjust_by_epoch

    def before_train_epoch(self, runner: Any) -> None:
        """Set the learning rate."""
        self._fix(runner)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Set the learning rate."""
        if not self.adjust_by_epoch:
            self._fix(runner)

    def _fix(self, runner: Any) -> None:
        for group in runner.optim_wrapper.optimizer.param_groups if self.fix_pred_lr else ():
            if group.get("fix_lr"):
                group["lr"] = self.lr


@HOOKS.register_module()
class SwAVHook(Hook):
    """Gives SwAV its queue, and lets layers rest at the beginning.

    Source: SwAV, https://arxiv.org/abs/2006.09882, section 4 and appendix A. The queue is a part of the
    model, saved and resumed with it.

    Args:
        batch_size: Batch of one process.
        epoch_queue_starts: First epoch, from 0, with the queue.
        crops_for_assign: The views that are assigned, as the loss has them.
        feat_dim: Channels of the embeddings, as the loss has them.
        queue_length: Embeddings of all processes for each assigned view, 0 for no queue; rounded down to
            whole batches of all processes.
        interval: Of no account; the queue is in every checkpoint.
        frozen_layers_cfg: Part of parameters' names -> iterations for which they do not learn. With several
            processes this needs `find_unused_parameters=True`.

    Raises:
        ConfigError: The loss has other views or channels.
    """

    def __init__(
        self,
        batch_size: int,
        epoch_queue_starts: int = 15,
        crops_for_assign: Sequence[int] = (0, 1),
        feat_dim: int = 128,
        queue_length: int = 0,
        interval: int = 1,
        frozen_layers_cfg: Mapping[str, int] | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.epoch_queue_starts = epoch_queue_starts
        self.expected = (tuple(crops_for_assign), feat_dim)
        self.queue_length = queue_length
        self.frozen_layers = dict(frozen_layers_cfg or {})

    def before_run(self, runner: Any) -> None:
        """Make the queue, before a checkpoint is resumed."""
        loss = runner.bare_model.head.loss_module
        there = (loss.crops_for_assign, loss.prototypes.in_features)
        if there != self.expected:
            raise ConfigError(f"SwAVHook: crops_for_assign, feat_dim = {self.expected}; the loss has {there}")
        length = self.queue_length - self.queue_length % (self.batch_size * get_world_size())
        if length:
            loss.start_queue(length)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Decide whether this epoch uses the queue; let layers rest or learn."""
        runner.bare_model.head.loss_module.queue_in_use = passes(runner) >= self.epoch_queue_starts
        for part, iterations in self.frozen_layers.items():
            for name, parameter in runner.bare_model.named_parameters():
                if part in name:
                    parameter.requires_grad_(runner.iter >= iterations)


def passes(runner: Any) -> int:
    """Return how often the data was gone through: the epoch, also where a run counts iterations."""
    return runner.iter // len(runner.train_dataloader)
