"""A training whose loss or weights are no numbers any more ends, before a checkpoint of it is saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from mmengine.hooks import Hook
from torch import Tensor
from torch.distributed.tensor import DTensor

from framework.engine.checkpoint import read_checkpoint
from framework.engine.resume import checkpoints_of
from framework.engine.sharded import state_file
from framework.errors import ConfigError, TrainingError
from framework.pretrain.errors import PretrainError
from framework.registry import HOOKS

_CHANGES = "optim_wrapper.clip_grad.max_norm=1.0, or bfloat16 instead of float16"


@HOOKS.register_module()
class LossCheckHook(Hook):
    """Stop when the loss is infinite or not a number, or when weights are that are about to be saved.

    Nothing waits for the device that computes the loss: the device notes the iteration, and the note is read
    every so often, and whenever a checkpoint is about to be saved. On the CPU it is read at once.

    Args:
        interval: Iterations between two readings from a device.
        patience: Stop only when more iterations than this in a row had no finite loss. In float16 a step that
            overflows is left out, and the next one may be sound.
    """

    priority = "LOW"  # after the losses are noted, before checkpoints

    def __init__(self, interval: int = 50, patience: int = 0) -> None:
        if interval < 1 or patience < 0:
            raise ConfigError(
                f"LossCheckHook: interval is 1 or more, patience 0 or more, got {interval} and {patience}"
            )
        self.interval = interval
        self.patience = patience
        self._streak: Tensor | None = None
        self._failed: Tensor | None = None

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Note whether the loss is finite; stop if it is time to look and it is not."""
        loss = (outputs or {}).get("loss")
        if not isinstance(loss, Tensor):
            return
        finite = torch.isfinite(loss.detach()).all()
        if self._streak is None or self._failed is None:
            self._streak = torch.zeros((), dtype=torch.long, device=loss.device)
            self._failed = torch.zeros_like(self._streak)
        self._streak = torch.where(finite, 0, self._streak + 1)
        failed = (self._streak > self.patience) & (self._failed == 0)
        self._failed = torch.where(failed, runner.iter + 1, self._failed)
        if loss.device.type == "cpu" or self.every_n_train_iters(runner, self.interval):
            self._look(runner)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Let no checkpoint be saved after such a loss, or with such weights: older ones may go for it."""
        self._look(runner)
        learning = [p.detach() for p in runner.bare_model.parameters() if p.requires_grad]
        own = (p.to_local() if isinstance(p, DTensor) else p for p in learning)
        if not all(bool(torch.isfinite(p).all()) for p in own):
            done = checkpoint["meta"]["iter"]
            _stop(runner, f"There are weights after iteration {done} that are infinite or no numbers", done)

    def _look(self, runner: Any) -> None:
        failed = 0 if self._failed is None else int(self._failed)
        if failed:
            what = f"The loss of iteration {failed} (epoch {runner.epoch + 1}) is infinite or not a number"
            _stop(runner, what, failed)


def _stop(runner: Any, what: str, failed: int) -> NoReturn:
    runner.writer.wait()
    raise TrainingError(f"{what}. {_how_to_go_on(runner, failed)}")


def _how_to_go_on(runner: Any, failed: int) -> str:
    names = {name for name, _ in runner.bare_model.named_parameters()}
    good = next((path for path in _checkpoints_of(runner) if _is_good(path, failed, names)), None)
    if good is None:
        return (
            f"No checkpoint was saved before it: begin again with a lower optim_wrapper.optimizer.lr, a "
            f"longer warmup, {_CHANGES}"
        )
    return (
        f"The last good checkpoint is {good}. From there a run would come to the same point again, so change "
        f"something: --resume {good} --cfg-options {_CHANGES}. A resume keeps the learning rates; for lower "
        f"ones begin with its weights: --cfg-options load_from={good} optim_wrapper.optimizer.lr=..."
    )


def _checkpoints_of(runner: Any) -> list[Path]:
    """Return the checkpoints of this run, newest first; an older run may have left others in the work dir."""
    hub = runner.message_hub
    own = {*hub.get_info("kept_ckpts", []), *hub.get_info("superfluous_ckpts", [])}  # the latter go last
    saved = [path for path in checkpoints_of(Path(runner.work_dir)) if path.name in own]
    return [*saved, Path(runner.resumed_from)] if runner.resumed_from else saved


def _is_good(path: Path, failed: int, names: Iterable[str]) -> bool:
    """Tell whether a checkpoint is whole, older than the iteration that failed, and of sound weights."""
    try:
        state = read_checkpoint(state_file(path))
    except PretrainError:
        return False
    weights = [state["state_dict"][name] for name in names if name in state["state_dict"]]
    return state["meta"]["iter"] < failed and all(bool(torch.isfinite(value).all()) for value in weights)
