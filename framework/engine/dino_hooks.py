"""Hooks of DINO."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from framework.engine.selfsup_hooks import passes
from framework.registry import HOOKS


@HOOKS.register_module()
class DINOTeacherTempWarmupHook(Hook):
    """Raises the temperature of DINO's teacher in equal steps, epoch by epoch.

    Source: https://arxiv.org/abs/2104.14294, section 3.2 and appendix D.

    Args:
        warmup_teacher_temp: Temperature of the first epoch.
        teacher_temp: Temperature after the warm-up.
        teacher_temp_warmup_epochs: Epochs of the warm-up, of which the last one has `teacher_temp`.
        max_epochs: Of no account.
    """

    def __init__(
        self,
        warmup_teacher_temp: float = 0.04,
        teacher_temp: float = 0.04,
        teacher_temp_warmup_epochs: int = 0,
        max_epochs: int | None = None,
    ) -> None:
        self.first, self.last = warmup_teacher_temp, teacher_temp
        self.epochs = teacher_temp_warmup_epochs

    def temperature(self, epoch: int) -> float:
        """Return the temperature of an epoch, from 0."""
        if epoch >= self.epochs:
            return self.last
        return self.first + (self.last - self.first) * epoch / max(self.epochs - 1, 1)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Set the temperature."""
        runner.bare_model.head.teacher_temp = self.temperature(passes(runner))


@HOOKS.register_module()
class DINOFreezeLastLayerHook(Hook):
    """Lets DINO's prototypes rest in the first epochs.

    Source: facebookresearch/dino@7c446df main_dino.py, `freeze_last_layer`.

    Args:
        epochs: For how many epochs.
    """

    def __init__(self, epochs: int = 1) -> None:
        self.epochs = epochs

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Decide whether they learn in this epoch."""
        runner.bare_model.neck.last_layer.frozen = passes(runner) < self.epochs
