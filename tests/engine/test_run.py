from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from framework import MODELS
from framework.engine import Options, evaluate, read_checkpoint, train
from framework.engine.cli import test_command as evaluate_command
from framework.engine.cli import train_command
from framework.engine.run import summary
from framework.errors import ConfigError
from framework.pretrain.errors import CoverageError, NotFoundError


@pytest.fixture
def file(config, tmp_path):
    """Write a config to a file that the functions and the command lines take."""

    def write(**changes):
        path = tmp_path / "tiny.py"
        cfg = config(**changes)
        cfg.pop("work_dir")
        cfg.dump(path)
        return path

    return write


def log(work_dir):
    return max(Path(work_dir).glob("*/*.log")).read_text()


def test_train_and_test_agree(file, tmp_path):
    path = file()
    metrics = train(path, Options(work_dir=tmp_path / "run", seed=5))
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "epoch_3.pth"
    assert read_checkpoint(tmp_path / "run" / "epoch_3.pth")["meta"]["seed"] == 5
    assert evaluate(path, tmp_path / "run" / "epoch_3.pth", Options(work_dir=tmp_path / "test")) == metrics
    assert len(list((tmp_path / "test").glob("*.pth"))) == 0


def test_the_work_dir_is_named_after_the_config(file, monkeypatch, tmp_path):
    path = file(test_cfg=None, test_dataloader=None, test_evaluator=None)
    monkeypatch.chdir(tmp_path)
    assert train(path, Options(changes={"train_cfg.max_epochs": 1})) == {}
    assert (tmp_path / "work_dirs" / "tiny" / "epoch_1.pth").is_file()
    with pytest.raises(ConfigError, match="no test_cfg"):
        evaluate(path, tmp_path / "work_dirs" / "tiny" / "epoch_1.pth")


def test_a_checkpoint_of_another_model_is_not_tested(file, model, tmp_path):
    net = MODELS.build(model())
    torch.save({f"backbone.{k}": v for k, v in net.backbone.state_dict().items()}, tmp_path / "backbone.pth")
    with pytest.raises(CoverageError):
        evaluate(file(), tmp_path / "backbone.pth", Options(work_dir=tmp_path / "run"))


def test_the_command_lines(file, model, tmp_path, capsys):
    torch.manual_seed(3)
    net = MODELS.build(model())
    torch.save(net.state_dict(), tmp_path / "start.pth")
    path = str(file())
    options = ["--cfg-options", f"model.pretrain={tmp_path}/start.pth", "train_cfg.max_epochs=1"]
    frozen = [*options, "optim_wrapper.optimizer.lr=0.0", "optim_wrapper.optimizer.weight_decay=0.0"]
    line = train_command([path, "--work-dir", str(tmp_path / "a"), "--seed", "4", *frozen])
    state = read_checkpoint(tmp_path / "a" / "epoch_1.pth")["state_dict"]
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert line.startswith("test accuracy: 0.")
    assert evaluate_command([path, str(tmp_path / "start.pth"), "--work-dir", str(tmp_path / "b")]) == line
    assert "start.pth" in log(tmp_path / "a")


def test_resume_from_the_work_dir_and_from_a_path(file, tmp_path):
    path = str(file())
    two = [path, "--work-dir", str(tmp_path / "a"), "--cfg-options", "train_cfg.max_epochs=2"]
    train_command([*two, "--seed", "11"])
    missing = ["--cfg-options", "model.pretrain=nowhere.pth", "train_cfg.max_epochs=3"]
    train_command([path, "--work-dir", str(tmp_path / "a"), "--resume", *missing])
    resumed = read_checkpoint(tmp_path / "a" / "epoch_3.pth")["meta"]
    assert (resumed["epoch"], resumed["iter"], resumed["seed"]) == (3, 12, 11)
    assert "Resumed from" in log(tmp_path / "a")
    first = str(tmp_path / "a" / "epoch_2.pth")
    train_command([path, "--work-dir", str(tmp_path / "b"), "--resume", first, "--cfg-options", *missing[2:]])
    assert sorted(path.name for path in (tmp_path / "b").glob("*.pth")) == ["epoch_3.pth"]
    with pytest.raises(NotFoundError, match=r"nowhere\.pth"):
        train_command([path, "--work-dir", str(tmp_path / "c"), "--resume", "nowhere.pth"])


def test_mixed_precision_from_the_command_line(file, tmp_path):
    path = file()
    train_command(
        [str(path), "--amp", "--work-dir", str(tmp_path / "a"), "--cfg-options", "train_cfg.max_epochs=1"]
    )
    assert "AmpOptimWrapper" in log(tmp_path / "a")
    with pytest.raises(ConfigError, match=r"optim_wrapper\.type is OptimWrapperDict"):
        train(
            path,
            Options(amp=True, changes={"optim_wrapper.type": "OptimWrapperDict"}, work_dir=tmp_path / "b"),
        )


def test_the_summary_is_one_line():
    assert (
        summary({"accuracy/top1": 0.98765, "accuracy/top5": 1.0}) == "test accuracy: 0.9877 (top-5: 1.0000)"
    )
    assert summary({"accuracy/top1": 0.5}) == "test accuracy: 0.5000"
    assert summary({"f1": 0.25, "loss": 2.0}) == "test f1: 0.2500, loss: 2.0000"
    assert summary({}) == "no test: the config has no test_cfg"


def test_the_metrics_are_written(file, tmp_path):
    metrics = train(file(), Options(work_dir=tmp_path / "a", changes={"train_cfg.max_epochs": 1}))
    assert json.loads(next((tmp_path / "a").glob("*/test.json")).read_text()) == metrics
