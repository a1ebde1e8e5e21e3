"""Runs that take less than a second: a tiny network on a few digits."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mmengine.config import Config

from framework.engine import Runner


def _model():
    arch = {"embed_dims": 16, "num_layers": 2, "num_heads": 2, "feedforward_channels": 16}
    image = {"img_size": 8, "patch_size": 4, "in_channels": 1}
    return {
        "type": "Classifier",
        "data_preprocessor": {"mean": [78.0], "std": [96.0]},
        "backbone": {"type": "VisionTransformer", "arch": arch, "drop_rate": 0.1, **image},
        "head": {"type": "LinearClsHead", "num_classes": 10, "in_channels": 16},
    }


@pytest.fixture
def model():
    return _model


@pytest.fixture
def config(tmp_path):
    """Make a config of a run on 120 digits, three epochs of four iterations."""

    def make(**changes):
        data = {"type": "Digits", "test_size": 1677, "split": "train"}
        sampler = {"type": "DefaultSampler", "shuffle": True}
        held_out = {"type": "Digits", "test_size": 121, "split": "test"}  # an odd number
        return Config(
            {
                "model": _model(),
                "work_dir": str(tmp_path / "run"),
                "train_dataloader": {"batch_size": 32, "dataset": data, "sampler": sampler},
                "val_dataloader": {"batch_size": 100, "dataset": held_out},
                "test_dataloader": {"batch_size": 100, "dataset": held_out},
                "val_evaluator": {"type": "Accuracy"},
                "test_evaluator": {"type": "Accuracy", "topk": (1, 5)},
                "train_cfg": {"by_epoch": True, "max_epochs": 3},
                "val_cfg": {},
                "test_cfg": {},
                "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 3e-3}},
                "param_scheduler": {"type": "CosineAnnealingLR", "convert_to_iter_based": True},
                "default_hooks": {"logger": {"type": "LoggerHook", "interval": 2}},
                "randomness": {"seed": 1},
                **changes,
            },
            format_python_code=False,
        )

    return make


@pytest.fixture
def make_runner(config):
    """Build runners with hooks of the test; their files are closed after it."""
    runners = []

    def make(*hooks, **changes):
        runner = Runner.from_cfg(config(**changes))
        runners.append(runner)
        for hook in hooks:
            runner.register_hook(hook)
        return runner

    yield make
    for runner in runners:
        runner.close()


class Server:
    """The process that forks the runs."""

    def __init__(self):
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("fork_server.py"))]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def run(self, config, work_dir, processes=1, kill_after=None):
        """Run to the end or until the kill; return the exit status and how long it took."""
        order = {"config": str(config), "work_dir": str(work_dir), "processes": processes}
        print(json.dumps(order), file=self.process.stdin, flush=True)
        group = int(self.process.stdout.readline())
        start = time.perf_counter()
        if kill_after is not None:
            timer = threading.Timer(kill_after, _kill, [group])
            timer.start()
        status = int(self.process.stdout.readline())
        if kill_after is not None:
            timer.cancel()
            timer.join()
            _kill(group)  # workers, and the other process
        return status, time.perf_counter() - start

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(20)


def _kill(group):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


@pytest.fixture(scope="session")
def fork_server():
    """A process from which a run starts in a moment: `fork_server.run(config, work_dir)`."""
    server = Server()
    yield server
    server.close()
