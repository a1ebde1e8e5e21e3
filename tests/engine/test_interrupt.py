"""Real signals, to this process and to a training started as a user starts it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from framework.engine import read_checkpoint
from framework.engine.cli import train_command
from framework.engine.interrupt import Interrupted, InterruptHook, go_on_command
from framework.engine.metrics_file import read_metrics
from framework.engine.resume import last_checkpoint

ROOT = Path(__file__).parents[2]


class Signal(Hook):
    """Send a signal to this process at one place of the training."""

    def __init__(self, place, at, number=signal.SIGINT, times=1):
        self.place, self.at, self.number, self.times = place, at, number, times

    def _send(self, place, at):
        if (place, at) == (self.place, self.at):
            self.place = "nowhere"
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self._send("train", runner.iter)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self._send("val", runner.iter)


@pytest.fixture
def interrupted(make_runner):
    """Train until a signal stops it; return the runner, what was raised, and which iterations began."""

    def run(place, at, number=signal.SIGINT, times=1, **changes):
        begun = []

        class Count(Hook):
            def before_train_iter(self, runner, batch_idx, data_batch=None):
                begun.append(runner.iter)

        hook = InterruptHook()
        runner = make_runner(Signal(place, at, number, times), Count(), hook, **changes)
        before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
        try:
            with pytest.raises(KeyboardInterrupt) as stop:
                runner.train()
        finally:
            hook.release()
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
        return runner, stop.value, begun

    return run


def weights(runner):
    return {name: value.clone() for name, value in runner.bare_model.state_dict().items()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_iteration_ends_and_is_saved(interrupted, make_runner, number):
    whole = make_runner()
    whole.train()
    expected = weights(whole)
    runner, stop, begun = interrupted("train", 5, number)
    assert isinstance(stop, Interrupted)
    assert begun == list(range(6))
    name = signal.Signals(number).name
    assert str(stop) == f"Stopped by {name} after iteration 6 of 12; saved {runner.work_dir}/iter_6.pth"
    assert read_checkpoint(stop.checkpoint)["meta"]["iter"] == 6
    resumed = make_runner(resume=True)
    resumed.train()
    assert resumed.iter == 12
    assert all(torch.equal(value, expected[name]) for name, value in weights(resumed).items())


@pytest.mark.parametrize("every", [1, 2])
def test_the_end_of_an_epoch_is_not_saved_twice(interrupted, every):
    hooks = {"checkpoint": {"type": "CheckpointHook", "interval": every}}
    runner, stop, begun = interrupted("train", 3, default_hooks=hooks)
    assert begun == [0, 1, 2, 3]
    assert stop.checkpoint.name == ("epoch_1.pth" if every == 1 else "iter_4.pth")
    assert len(list(Path(runner.work_dir).glob("*.pth"))) == 1
    assert read_checkpoint(stop.checkpoint)["meta"]["epoch"] == 1


def test_a_validation_is_left_at_once_if_its_weights_are_saved(interrupted):
    runner, stop, _ = interrupted("val", 4, val_dataloader=small_batches())
    assert (stop.checkpoint.name, stop.done) == ("epoch_1.pth", 4)
    assert runner.val_dataloader.batch_size == 30


def test_a_validation_of_averaged_weights_ends_before_the_weights_are_saved(interrupted, make_runner):
    hooks = {"checkpoint": {"type": "CheckpointHook", "interval": 2}}
    changes = {"custom_hooks": [{"type": "EMAHook", "momentum": 0.5}], "default_hooks": hooks}
    whole = make_runner(**changes)
    whole.train()
    expected = weights(whole)
    _, stop, _ = interrupted("val", 4, val_dataloader=small_batches(), **changes)
    assert stop.checkpoint.name == "iter_4.pth"
    resumed = make_runner(resume=True, **changes)
    resumed.train()
    assert all(torch.equal(value, expected[name]) for name, value in weights(resumed).items())


def test_the_best_model_alone_is_nothing_to_go_on_with(interrupted, make_runner):
    hooks = {"checkpoint": {"type": "CheckpointHook", "interval": 3, "save_best": "auto"}}
    whole = make_runner(default_hooks=hooks)
    whole.train()
    expected = weights(whole)
    runner, stop, _ = interrupted("val", 4, default_hooks=hooks)
    assert Path(runner.work_dir, "best_accuracy_top1_epoch_1.pth").is_file()
    assert stop.checkpoint == Path(runner.work_dir, "iter_4.pth")
    resumed = make_runner(resume=True, default_hooks=hooks)
    resumed.train()
    assert all(torch.equal(value, expected[name]) for name, value in weights(resumed).items())


def small_batches():
    return {"batch_size": 30, "dataset": {"type": "Digits", "test_size": 121, "split": "test"}}


def test_a_second_signal_stops_at_once(interrupted):
    runner, stop, begun = interrupted("train", 2, times=2)
    assert type(stop) is KeyboardInterrupt
    assert begun == [0, 1] or begun == [0, 1, 2]
    assert last_checkpoint(runner.work_dir) is None


def test_a_training_in_another_thread_leaves_the_signals_alone(make_runner):
    runner = make_runner(InterruptHook(), train_cfg={"by_epoch": True, "max_epochs": 1})
    thread = threading.Thread(target=runner.train)
    thread.start()
    thread.join()
    assert runner.iter == 4


@pytest.mark.parametrize(
    ("arguments", "environment", "command"),
    [
        ("tools/train.py a.py --amp", {}, "python tools/train.py a.py --amp --resume"),
        ("tools/train.py --resume old.pth a.py", {}, "python tools/train.py a.py --resume"),
        ("tools/train.py a.py --resume --amp", {}, "python tools/train.py a.py --amp --resume"),
        ("train.py a.py --resume=x --work-dir 'a b'", {}, "python train.py a.py --work-dir 'a b' --resume"),
        (
            "tools/train.py a.py --launcher pytorch",
            {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2"},
            "torchrun --standalone --nproc-per-node 2 tools/train.py a.py --launcher pytorch --resume",
        ),
    ],
)
def test_the_command_that_goes_on(arguments, environment, command):
    assert go_on_command(shlex.split(arguments), environment) == command


def test_a_training_that_is_told_to_end_goes_on_with_the_command_that_it_prints(
    config, tmp_path, monkeypatch
):
    config(train_cfg={"by_epoch": True, "max_epochs": 400}).dump(tmp_path / "tiny.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = str(ROOT / "tools" / "train.py")
    arguments = [sys.executable, "-u", script, "tiny.py", "--work-dir", "run"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        arguments, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True
    ) as run:
        next(line for line in run.stdout if "Epoch(train)   [2]" in line)
        run.terminate()
        _, errors = run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM
    done, name = re.search(
        r"Stopped by SIGTERM after iteration (\d+) of 1600; saved .*/run/(.*)\n", errors
    ).groups()
    assert read_checkpoint(tmp_path / "run" / name)["meta"]["iter"] == int(done)
    command = re.search(r"\nGo on with: (.*)\n$", errors)[1]
    assert command == f"python {script} tiny.py --work-dir run --resume"
    monkeypatch.chdir(tmp_path)
    longer = int(done) // 4 + 1
    train_command([*shlex.split(command)[2:], "--cfg-options", f"train_cfg.max_epochs={longer}"])
    lines = [line["step"] for line in read_metrics("run") if line["mode"] == "train"]
    assert lines == list(range(2, 4 * longer + 1, 2))
