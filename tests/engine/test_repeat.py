"""Trainings with several seeds side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from framework.engine import Options, train
from framework.engine.repeat import Repeats, Run, repeat, repeats_of, table
from framework.errors import ConfigError

CONFIG = Path(__file__).parents[2] / "configs" / "quickstart.py"
SHORT = {"train_cfg.max_epochs": 1, "model.backbone.pretrain": None, "train_dataloader.dataset.shots": 10}


def test_each_run_is_the_training_of_its_seed(tmp_path) -> None:
    told: list[Run] = []
    repeats = Repeats(
        {"few digits": CONFIG}, [0, 1], ["train_dataloader.dataset.shots_seed"], tmp_path, SHORT, jobs=1
    )
    runs = repeat(repeats, told.append)
    assert [(run.name, run.seed) for run in runs] == [("few digits", 0), ("few digits", 1)]
    assert sorted(told, key=lambda run: run.seed) == runs
    changes = {**SHORT, "train_dataloader.dataset.shots_seed": 1}
    assert runs[1].metrics == train(CONFIG, Options(tmp_path / "alone", changes, seed=1))
    assert (tmp_path / "few_digits" / "seed_1" / "epoch_1.pth").is_file()


def test_a_comparison_is_described_by_a_file() -> None:
    folder = Path(__file__).parents[2] / "configs"
    repeats = repeats_of([str(folder / "comparisons" / "digits-10shot.py")])
    assert list(repeats.configs) == ["from scratch", "linear probe", "fine-tuning"]
    assert all(Path(config).is_file() for config in repeats.configs.values())
    assert (list(repeats.seeds), repeats.vary) == ([0, 1, 2, 3, 4], ["train_dataloader.dataset.shots_seed"])
    named = repeats_of([f"a={CONFIG}", str(CONFIG)], seeds=2)
    assert dict(named.configs) == {"a": str(CONFIG), "quickstart": str(CONFIG)}
    assert (list(named.seeds), named.vary) == ([0, 1], ())
    with pytest.raises(ConfigError, match="Two configs have one name"):
        repeats_of([str(CONFIG), str(CONFIG)])


def test_the_table_has_mean_and_spread() -> None:
    runs = [Run("a", seed, {"accuracy": value}, 2.0) for seed, value in enumerate((0.5, 0.7, 0.9))]
    lines = table([*runs, Run("b", 0, {"accuracy": 0.25}, 1.0)]).splitlines()
    assert lines[0] == "| | accuracy | range | runs | seconds each |"
    assert lines[2] == "| a | 0.7000 ± 0.2000 | 0.5000 to 0.9000 | 3 | 2.0 |"
    assert lines[3] == "| b | 0.2500 | 0.2500 to 0.2500 | 1 | 1.0 |"


def test_a_metric_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"a has no metric 'recall'\. It has: accuracy"):
        table([Run("a", 0, {"accuracy": 0.5}, 1.0)], "recall")


def test_an_error_of_a_run_is_raised(tmp_path) -> None:
    with pytest.raises(ConfigError, match="shots=999"):
        repeat(Repeats({"x": CONFIG}, [0], (), tmp_path, {"train_dataloader.dataset.shots": 999}, jobs=1))


def test_what_cannot_be_compared_is_not_trained(tmp_path) -> None:
    config = CONFIG.parent / "mae" / "mae_vit-nano_digits.py"
    with pytest.raises(ConfigError, match=r"has no test_cfg, .*benchmarks/"):
        repeat(Repeats({"few digits": CONFIG, "mae": config}, [0], (), tmp_path, jobs=1))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="jobs=0"):
        repeat(Repeats({"few digits": CONFIG}, [0], (), tmp_path, jobs=0))
    with pytest.raises(ConfigError, match="seeds=0"):
        repeats_of([str(CONFIG)], seeds=0)
