"""Ctrl-C and a termination save the training before they end it."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_distributed, is_main_process
from mmengine.hooks import Hook

from framework.engine.checkpoint import write_text
from framework.engine.resume import last_checkpoint
from framework.engine.sharded import suffix_of

SIGNALS = (signal.SIGINT, signal.SIGTERM)

#: Name in the store that the processes share.
STOP_AT = "framework/stop_at"


class Interrupted(KeyboardInterrupt):
    """A training was asked to stop, and has saved itself.

    Attributes:
        signal: The signal that asked.
        checkpoint: What `resume` goes on with.
        done: Iterations that are done.
        total: Iterations of the whole training.
    """

    def __init__(self, number: int, checkpoint: Path | None, done: int, total: int) -> None:
        self.signal, self.checkpoint, self.done, self.total = number, checkpoint, done, total
        name = signal.Signals(number).name
        super().__init__(f"Stopped by {name} after iteration {done} of {total}; saved {checkpoint}")


class InterruptHook(Hook):
    """From the start of the training to its end, wait for SIGINT and SIGTERM.

    The first signal lets the iteration end (or the validation, unless its weights are saved already), saves
    a checkpoint and raises `Interrupted`. A second one stops at once. Several processes agree on the
    iteration after which they stop, as each of them may get the signal in another one.
    """

    priority = "LOWEST"

    def __init__(self) -> None:
        self.signal: int | None = None
        self.saved_at: int | None = None
        self._previous: dict[int, Any] = {}
        self._process = os.getpid()
        self._asked = False

    def before_train(self, runner: Any) -> None:
        """Listen from now on; only a main thread can."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}

    def release(self) -> None:
        """Listen no longer."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _note(self, number: int, frame: Any) -> None:
        if os.getpid() != self._process:  # a worker of the data loader, which ends with us
            return
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        if is_main_process():
            os.write(
                sys.stderr.fileno(), b"\nStopping: saving a checkpoint first. Once more to stop at once.\n"
            )

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Note of which iteration a checkpoint is, if it can be resumed from."""
        if "optimizer" in checkpoint:
            self.saved_at = checkpoint["meta"]["iter"]

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Save and stop, if asked; after the last iteration of an epoch that comes at its end."""
        stop = self._agreed(runner)
        if stop and not self._ends_epoch(runner, batch_idx):
            self._stop(runner, {"epoch": runner.epoch, "iter": runner.iter + 1})

    def after_train_epoch(self, runner: Any) -> None:
        """Save and stop, if asked."""
        if self._asked and runner.max_epochs > 1:
            self._stop(runner, {"epoch": runner.epoch + 1, "iter": runner.iter})

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Stop in the middle of a validation if what it validates is saved already."""
        alone = not is_distributed()
        if alone and self.signal is not None and self.saved_at == runner.iter:
            self._stop(runner, {"epoch": runner.epoch, "iter": runner.iter})

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Save and stop, if asked; several processes do so after the next iteration."""
        if not is_distributed() and self.signal is not None:
            self._stop(runner, {"epoch": runner.epoch, "iter": runner.iter})

    def _agreed(self, runner: Any) -> bool:
        """Tell whether all processes stop after this iteration."""
        if not is_distributed():
            self._asked = self.signal is not None
            return self._asked
        store = torch.distributed.distributed_c10d._get_default_store()
        if self.signal is not None and not store.check([STOP_AT]):
            # The others are at most one exchange of gradients ahead, and so will have seen this by then.
            ahead = getattr(runner.optim_wrapper, "_accumulative_counts", 1)
            store.compare_set(STOP_AT, "", str(runner.iter + 1 + ahead))
        if not store.check([STOP_AT]):
            return False
        self._asked = runner.iter >= int(store.get(STOP_AT))
        return self._asked

    def _ends_epoch(self, runner: Any, batch_idx: int) -> bool:
        return runner.max_epochs > 1 and self.end_of_epoch(runner.train_dataloader, batch_idx)

    def _stop(self, runner: Any, meta: dict[str, int]) -> None:
        if is_distributed() or self.saved_at != meta["iter"]:  # only the first process knows what is saved
            self._save(runner, meta)
        runner.writer.wait()
        checkpoint = last_checkpoint(runner.work_dir)
        raise Interrupted(self.signal or signal.SIGTERM, checkpoint, meta["iter"], runner.max_iters)

    def _save(self, runner: Any, meta: dict[str, int]) -> None:
        name = f"iter_{meta['iter']}{suffix_of(runner.model)}"
        hub = runner.message_hub
        hub.update_info("kept_ckpts", [*hub.get_info("kept_ckpts", []), name])
        hub.update_info("last_ckpt", name)
        runner.save_checkpoint(runner.work_dir, name, meta=meta)
        if is_main_process():
            write_text(Path(runner.work_dir, "last_checkpoint"), name)


def go_on_command(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return the command that goes on with a training which `arguments` began.

    Args:
        arguments: `sys.argv`.
        environment: `os.environ`, from which a launcher is known.
    """
    script, *rest = arguments
    kept: list[str] = []
    skip = False
    for place, argument in enumerate(rest):
        value_follows = place + 1 < len(rest) and not rest[place + 1].startswith("-")
        if argument == "--resume":
            skip = value_follows
        elif skip:
            skip = False
        elif not argument.startswith("--resume="):
            kept.append(argument)
    several = int(environment.get("GROUP_WORLD_SIZE", "1")) > 1 or "SLURM_NTASKS" in environment
    start = ["python"]
    if "TORCHELASTIC_RUN_ID" in environment:
        alone = [] if several else ["--standalone"]
        start = ["torchrun", *alone, "--nproc-per-node", environment.get("LOCAL_WORLD_SIZE", "1")]
    command = shlex.join([*start, script, *kept, "--resume"])
    return f"{command}   (in the way the processes were started before)" if several else command
