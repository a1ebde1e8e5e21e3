from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from safetensors.torch import load_file

from framework import DATASETS, get_model
from framework.engine import Runner, load_config

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "quickstart.py"
WEIGHTS = ROOT / "configs" / "quickstart_weights" / "vit-digits_simmim.safetensors"


def test_the_weights_are_small_and_fill_the_backbone():
    assert WEIGHTS.stat().st_size < 300_000
    saved, state = load_file(WEIGHTS), get_model(CONFIG).backbone.state_dict()
    assert saved.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(value, saved[name].float()), name


def test_the_normalisation_is_that_of_the_training_images():
    images = DATASETS.build(dict(type="Digits", split="train")).images.float()
    preprocessor = load_config(CONFIG).model.data_preprocessor
    assert preprocessor.mean == [pytest.approx(images.mean().item(), abs=0.01)]
    assert preprocessor.std == [pytest.approx(images.std().item(), abs=0.01)]


@pytest.fixture
def own_threads():
    """Restore the number of threads, which the config sets."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


class Losses(Hook):
    def __init__(self):
        self.values = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.values.append(outputs["loss"].item())


def test_a_few_epochs_tell_most_digits_apart(tmp_path, own_threads):
    losses = Losses()
    changes = {"work_dir": str(tmp_path), "train_cfg.max_epochs": 4, "param_scheduler.1.end": 4}
    runner = Runner.from_cfg(load_config(CONFIG, changes))
    runner.register_hook(losses)
    runner.train()
    accuracy = runner.test()["accuracy/top1"]
    runner.close()
    assert sum(losses.values[-19:]) < 0.6 * sum(losses.values[:19])
    assert accuracy > 0.7
