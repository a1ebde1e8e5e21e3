"""Runs that take less than a second: a tiny network on a few digits."""

from __future__ import annotations

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
