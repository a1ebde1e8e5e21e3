"""The end of a training that no longer gets better."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import EarlyStoppingHook as _EarlyStoppingHook

from framework.registry import HOOKS


@HOOKS.register_module()
class EarlyStoppingHook(_EarlyStoppingHook):
    """Stop when a metric of the validation has not improved for a while; a resumed run goes on counting.

    It takes mmengine's arguments: `monitor`, the metric; `rule`, 'greater' or 'less'; `min_delta`, the least
    improvement; `patience`, how many validations without one are borne; `stopping_threshold`, a value that
    is enough; `strict`, whether a missing metric is an error; and `check_finite`.
    """

    priority = "LOW"  # before checkpoints, which hold what is counted

    def before_train(self, runner: Any) -> None:
        """Go on counting where the run that is resumed stood."""
        counted = runner.message_hub.get_info("early_stopping") if runner.resumed_from else None
        if counted:
            self.wait_count, self.best_score = counted["wait_count"], counted["best_score"]
            runner.train_loop.stop_training = counted["stopped"]

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Decide whether to stop."""
        if not runner.is_training:
            return
        super().after_val_epoch(runner, metrics or {})
        counted = {"wait_count": self.wait_count, "best_score": float(self.best_score)}
        runner.message_hub.update_info(
            "early_stopping", {**counted, "stopped": bool(runner.train_loop.stop_training)}
        )
