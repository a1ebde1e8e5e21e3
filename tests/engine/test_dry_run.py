from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import torch

from framework import MODELS
from framework.engine import Options, train
from framework.engine.cli import train_command
from framework.errors import ConfigError
from framework.pretrain.errors import NotFoundError


@pytest.fixture
def folder(config, tmp_path, monkeypatch):
    """A folder with a config; temporary files go into another one."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    hooks = {
        "checkpoint": {"type": "CheckpointHook", "interval": 2, "max_keep_ckpts": 3, "save_best": "auto"}
    }
    cfg = config(default_hooks=hooks, work_dir="run")
    cfg.dump("tiny.py")
    yield here
    assert list((tmp_path / "temporary").iterdir()) == []


def plan_of(*arguments):
    lines = train_command(["tiny.py", "--dry-run", *arguments]).splitlines()
    return {line[:14].rstrip(): line[14:] for line in lines}


def test_the_plan_says_what_will_be_done_and_nothing_is_left(folder, model, capsys):
    torch.manual_seed(0)
    backbone = MODELS.build(model()["backbone"])
    torch.save(backbone.state_dict(), "backbone.pth")
    before = sorted(os.listdir(folder))
    plan = plan_of(
        "--clip", "2", "--accumulate", "2", "--cfg-options", "model.backbone.pretrain=backbone.pth"
    )
    assert sorted(os.listdir(folder)) == before
    assert plan["model"].endswith("3,962 trainable; loaded from backbone.pth (100% of backbone)")
    assert plan["train"] == "Digits, 120 items, 4 batches of 32, the last of 24; 3 epochs = 12 iterations"
    assert plan["val"] == "Digits, 121 items, 2 batches of 100, the last of 21"
    assert plan["test"] == "Digits, 121 items, 2 batches of 100, the last of 21"
    assert plan["optimiser"] == (
        "AdamW in OptimWrapper, lr 0.003, 1 group, gradients of 2 iterations added up, "
        "clipped by {'max_norm': 2.0}"
    )
    assert plan["schedule"] == "CosineAnnealingLR"
    assert (
        plan["checkpoints"] == f"every 2 epochs in {folder}/run, the newest 3 are kept, and the best by auto"
    )
    assert plan["first batch"].startswith("inputs uint8 (32, 1, 8, 8), labels int64 (32,): loss 2.")
    assert plan["evaluation"].endswith("(one batch)")
    assert capsys.readouterr().out == ""


def test_the_plan_of_a_resumed_run(folder):
    train("tiny.py", Options(changes={"train_cfg.max_epochs": 2}))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert plan_of("--resume")["start"] == "resumes after iteration 8 of 12"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert "start" not in plan_of("--resume", "--work-dir", "other")
    assert not Path("other").exists()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("model.pretrain=nowhere.pth", NotFoundError),
        ("test_dataloader.dataset.type=Digit", ConfigError),
        ("val_dataloader.dataset.split=tset", ConfigError),
    ],
)
def test_what_is_wrong_is_found(folder, change, error):
    with pytest.raises(error):
        plan_of("--cfg-options", change)
