"""What a run leaves to be looked at: first lines, metrics.jsonl, pictures, TensorBoard, Weights & Biases."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.visualization import Visualizer
from PIL import Image

from framework import MODELS
from framework.engine import Options, train
from framework.engine.cli import plot_command
from framework.engine.curves import panels_of
from framework.engine.header import config_hash, describe_model, git_commit
from framework.engine.metrics_file import MetricsFile, read_metrics
from framework.errors import ConfigError


def log_of(runner):
    return Path(runner.log_dir, f"{runner.timestamp}.log").read_text()


def test_the_first_lines_of_a_run(make_runner, model, tmp_path):
    backbone = MODELS.build(model()["backbone"])
    torch.save(backbone.state_dict(), tmp_path / "backbone.pth")
    cfg = model()
    cfg["backbone"]["pretrain"] = str(tmp_path / "backbone.pth")
    cfg["head"]["frozen"] = True
    runner = make_runner(model=cfg)
    runner.train()
    lines = log_of(runner).splitlines()
    assert re.search(
        rf"framework \S+, torch {re.escape(torch.__version__)}, torchvision .*Python 3\.", lines[0]
    )
    assert re.match(r"config none, hash [0-9a-f]{12}, git commit none, seed 1$", lines[1])
    total = sum(parameter.numel() for parameter in runner.model.parameters())
    head = sum(parameter.numel() for parameter in runner.model.head.parameters())
    expected = (
        f"Classifier: {total:,} parameters, {total - head:,} trainable; "
        f"loaded from {tmp_path}/backbone.pth (100% of backbone)"
    )
    assert any(line.endswith(expected) for line in lines)
    assert describe_model(backbone).endswith("loaded from nothing, all are initial values")


def test_the_hash_is_that_of_what_is_done_not_of_where():
    cfg = Config({"model": {"type": "A", "depth": 18}, "work_dir": "a"})
    assert config_hash(cfg) == config_hash({"work_dir": "b", "model": {"depth": 18, "type": "A"}})
    assert config_hash(cfg) != config_hash({"model": {"type": "A", "depth": 34}})


def test_the_commit_of_the_configs_folder(tmp_path):
    assert git_commit(tmp_path) == "none"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "a.py").write_text("a = 1\n")
    for command in (["init", "-q"], ["add", "a.py"], ["commit", "-qm", "a"]):
        subprocess.run([*git, *command], check=True)
    commit = git_commit(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{12}", commit)
    (tmp_path / "a.py").write_text("a = 2\n")
    assert git_commit(tmp_path) == f"{commit} (with changes)"


def test_every_number_of_a_run_is_a_line_of_json(make_runner):
    runner = make_runner()
    runner.train()
    metrics = runner.test()
    lines = read_metrics(runner.work_dir)
    assert [(line["mode"], line["step"]) for line in lines] == [
        *[("train", 2), ("train", 4), ("val", 4)],
        *[("train", 6), ("train", 8), ("val", 8)],
        *[("train", 10), ("train", 12), ("val", 12), ("test", 12)],
    ]
    assert {"lr", "loss", "accuracy_top-1", "time", "data_time", "epoch"} <= lines[0].keys()
    assert 0 <= lines[0]["accuracy_top-1"] <= 1
    assert lines[-1]["accuracy/top1"] == metrics["accuracy/top1"]
    scalars = Path(runner.log_dir, "vis_data", "scalars.json").read_text().splitlines()
    assert [json.loads(s)["loss"] for s in scalars if "loss" in s] == [
        x["loss"] for x in lines if "loss" in x
    ]


def test_a_resumed_run_appends_and_drops_what_was_beyond_the_checkpoint(config, tmp_path):
    config().dump(tmp_path / "tiny.py")
    file = tmp_path / "run" / "metrics.jsonl"
    train(tmp_path / "tiny.py", Options(changes={"train_cfg.max_epochs": 2}))
    before = file.read_text()
    with file.open("a") as lost:
        lost.write('{"mode": "train", "step": 10, "epoch": 3, "loss": 77.0}\n{"mode": "train", "st')
    train(tmp_path / "tiny.py", Options(resume=True))
    lines = read_metrics(file)
    kept = [json.loads(line) for line in before.splitlines() if '"test"' not in line]
    assert [line for line in lines if line["mode"] != "test"][: len(kept)] == kept
    assert [line["step"] for line in lines if line["mode"] == "train"] == [2, 4, 6, 8, 10, 12]
    assert 77.0 not in [line.get("loss") for line in lines]
    train(tmp_path / "tiny.py", Options(changes={"train_cfg.max_epochs": 1}))  # a new run in the same folder
    assert [line["step"] for line in read_metrics(file)] == [2, 4, 4, 4]
    assert [len(read_metrics(old)) for old in file.parent.glob("metrics_before_*.jsonl")] == [len(lines)]


def test_what_is_not_finite_is_null(tmp_path):
    MetricsFile(tmp_path).write("train", 1, 1, {"loss": float("nan"), "lr": 1e-3, "name": "x"})
    assert read_metrics(tmp_path) == [{"mode": "train", "step": 1, "epoch": 1, "loss": None, "lr": 1e-3}]


@pytest.fixture
def runs(tmp_path):
    for name, factor in (("a", 1.0), ("b", 2.0)):
        (tmp_path / name).mkdir()
        file = MetricsFile(tmp_path / name)
        for step in range(1, 5):
            file.write("train", step, 1, {"loss": factor / step, "lr": 0.1, "time": 0.5})
        file.write("val", 4, 1, {"accuracy/top1": factor / 4})
    return [str(tmp_path / "a"), str(tmp_path / "b" / "metrics.jsonl")]


def test_curves_of_two_runs_in_one_picture(runs, tmp_path):
    line = plot_command([*runs, "-o", str(tmp_path / "all.png")])
    assert line == f"{tmp_path}/all.png: train loss, train lr, val accuracy/top1"
    plot_command([runs[0], "-o", str(tmp_path / "one.png"), "--names", "train time"])
    with Image.open(tmp_path / "all.png") as wide, Image.open(tmp_path / "one.png") as narrow:
        assert wide.size[0] == 3 * narrow.size[0]
    assert panels_of(read_metrics(runs[1]))["train loss"] == [(1, 2.0), (2, 1.0), (3, 2 / 3), (4, 0.5)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--names", "train los"], "No run has logged 'train los': did you mean train loss"),
        (["-o", "curves.xyz"], "curves.xyz cannot be drawn"),
        (["nowhere"], "There is no nowhere; expected is the work dir of a run"),
    ],
)
def test_curves_that_cannot_be_drawn(runs, arguments, message):
    with pytest.raises(ConfigError, match=message):
        plot_command([*([] if arguments == ["nowhere"] else runs), *arguments])


def visualizer(backend, **options):
    return {"type": "Visualizer", "vis_backends": [{"type": backend, **options}]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_gets_the_curves(make_runner):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    runner = make_runner(visualizer=visualizer("TensorboardVisBackend"))
    runner.train()
    runner.close()
    events = accumulator.EventAccumulator(str(Path(runner.log_dir, "vis_data"))).Reload()
    lines = read_metrics(runner.work_dir)
    losses = [(line["step"], line["loss"]) for line in lines if line["mode"] == "train"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (step, pytest.approx(loss)) for step, loss in losses
    ]
    assert len(events.Scalars("accuracy/top1")) == 3


def test_the_figure_of_the_visualizer_is_opened_when_something_is_drawn(make_runner):
    visualizer = make_runner().visualizer
    assert "fig_save" not in vars(visualizer)
    visualizer.set_image(np.full((6, 4, 3), 200, np.uint8))
    assert visualizer.get_image().shape == (6, 4, 3)
    assert Visualizer.get_current_instance() is visualizer
    with pytest.raises(AttributeError, match="no attribute 'fig_svae'"):
        _ = visualizer.fig_svae


def test_weights_and_biases_gets_the_curves_offline(make_runner, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    backend = visualizer("WandbVisBackend", init_kwargs={"mode": "offline", "project": "digits"})
    runner = make_runner(visualizer=backend, train_cfg={"by_epoch": True, "max_epochs": 1})
    runner.train()
    runner.close()
    (run,) = Path(runner.log_dir).rglob("*.wandb")
    assert run.stat().st_size > 1000
