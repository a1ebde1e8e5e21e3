from __future__ import annotations

import collections
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, MessageHub

from framework.engine import checkpoint_hook, state
from framework.engine.checkpoint import read_checkpoint, save_checkpoint
from framework.engine.state import plain
from framework.pretrain.errors import CheckpointError, NotFoundError


class Record(Hook):
    priority = "LOWEST"

    def __init__(self, stop_after=None):
        self.losses, self.rates, self.stop_after = [], [], stop_after

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs["loss"].item())
        self.rates.append(runner.optim_wrapper.get_lr()["lr"][0])

    def after_train_epoch(self, runner):
        if runner.epoch + 1 == self.stop_after:
            raise KeyboardInterrupt


PIPELINE = [dict(type="RandomAffine", degrees=20)]


@pytest.fixture
def data():
    return dict(
        batch_size=32,
        dataset=dict(type="Digits", test_size=1677, pipeline=PIPELINE),
        sampler=dict(type="DefaultSampler", shuffle=True),
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_ends_as_if_it_had_not_been_interrupted(make_runner, data, tmp_path, workers):
    data = data | dict(num_workers=workers, persistent_workers=False)
    common = dict(train_dataloader=data, randomness=dict(seed=3))
    ema = dict(type="EMAHook", momentum=0.1)
    whole, first, second = Record(), Record(stop_after=2), Record()
    uninterrupted = make_runner(whole, **common, custom_hooks=[ema], work_dir=str(tmp_path / "a"))
    uninterrupted.train()
    interrupted = make_runner(first, **common, custom_hooks=[ema], work_dir=str(tmp_path / "b"))
    with pytest.raises(KeyboardInterrupt):
        interrupted.train()
    torch.manual_seed(99)
    resumed = make_runner(second, **common, custom_hooks=[ema], work_dir=str(tmp_path / "b"), resume=True)
    resumed.train()
    assert first.losses + second.losses == whole.losses
    assert first.rates + second.rates == whole.rates
    states = [read_checkpoint(tmp_path / run / "epoch_3.pth") for run in "ab"]
    for part in ("state_dict", "ema_state_dict", "optimizer", "param_schedulers"):
        assert equal(states[0][part], states[1][part]), part
    assert resumed.test() == uninterrupted.test()
    history = resumed.message_hub.get_scalar("train/loss").data[0]
    assert history.tolist() == whole.losses


def test_an_iteration_based_run_goes_on_in_the_middle_of_the_data(make_runner, data, tmp_path):
    hooks = dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=6))
    common = dict(train_dataloader=data, default_hooks=hooks, param_scheduler=None, randomness=dict(seed=3))
    whole, second = Record(), Record()
    loop = dict(by_epoch=False, max_iters=9)
    make_runner(whole, **common, train_cfg=loop, work_dir=str(tmp_path / "a")).train()
    resumed = make_runner(
        second,
        **common,
        train_cfg=loop,
        work_dir=str(tmp_path / "b"),
        resume=True,
        load_from=str(tmp_path / "a" / "iter_6.pth"),
    )
    resumed.train()
    assert whole.losses[6:] == second.losses
    assert whole.losses[4:7] != whole.losses[:3]


def equal(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_old_checkpoints_go_when_the_new_one_is_there_and_the_best_is_kept(make_runner, monkeypatch):
    seen = []
    write = checkpoint_hook.write_checkpoint

    def spy(state, path):
        seen.append((path.name, sorted(p.name for p in path.parent.glob("epoch*.pth"))))
        write(state, path)

    monkeypatch.setattr(checkpoint_hook, "write_checkpoint", spy)
    hook = dict(type="CheckpointHook", interval=1, max_keep_ckpts=1, save_best="accuracy/top1")
    runner = make_runner(default_hooks=dict(checkpoint=hook))
    runner.train()
    folder = Path(runner.work_dir)
    epochs = [entry for entry in seen if entry[0].startswith("epoch")]
    assert ("epoch_2.pth", ["epoch_1.pth"]) in epochs
    assert ("epoch_3.pth", ["epoch_2.pth"]) in epochs
    files = sorted(path.name for path in folder.glob("*.pth"))
    best = runner.message_hub.get_info("best_ckpt")
    assert files == sorted(["epoch_3.pth", best])
    assert re.fullmatch(r"best_accuracy_top1_epoch_\d\.pth", best)
    assert (folder / "last_checkpoint").read_text() == "epoch_3.pth"
    history = runner.message_hub.get_scalar("val/accuracy/top1").data[0]
    assert runner.message_hub.get_info("best_score") == max(history)
    assert read_checkpoint(folder / best)["meta"]["epoch"] == int(np.argmax(history)) + 1
    assert "optimizer" not in read_checkpoint(folder / best)
    assert read_checkpoint(folder / "epoch_3.pth")["message_hub"]["runtime_info"]["best_ckpt"] == best


def test_nothing_to_resume_is_said_and_the_run_begins(make_runner):
    runner = make_runner(resume=True)
    runner.train()
    assert "Nothing to resume" in Path(runner.log_dir, f"{runner.timestamp}.log").read_text()


def test_plain_values_stay_and_others_become_plain():
    point = collections.namedtuple("Point", "x y")
    value = {
        "array": np.array([1.5, 2.5]),
        "scalar": np.float64(0.1),
        "path": Path("a") / "b",
        "deque": collections.deque([1, 2]),
        "nested": ({"a": [np.int64(3)]}, {4}),
        "point": point(1, 2),
        3: None,
    }
    result = plain(value)
    assert torch.equal(result["array"], torch.tensor([1.5, 2.5], dtype=torch.float64))
    assert result["scalar"] == 0.1 and type(result["scalar"]) is float
    assert result["path"] == os.path.join("a", "b")
    assert result["deque"] == [1, 2]
    assert result["nested"] == ({"a": [3]}, [4])
    assert type(result["nested"][0]["a"][0]) is int
    assert type(result["point"]) is tuple
    assert result[3] is None


def test_what_cannot_be_plain_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"checkpoint\.meta\.hooks\[1\] is a function"):
        save_checkpoint({"meta": {"hooks": [1, lambda: None]}}, tmp_path / "a.pth")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    save_checkpoint({"a": 1}, path)

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match=r"No space left.*go on with --resume"):
        save_checkpoint({"a": 2}, path)
    assert torch.load(path, weights_only=True)["a"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]


def test_reading_says_what_is_wrong(tmp_path):
    with pytest.raises(NotFoundError, match=re.escape(str(tmp_path / "a.pth"))):
        read_checkpoint(tmp_path / "a.pth")
    (tmp_path / "text.pth").write_text("<html>")
    with pytest.raises(CheckpointError, match=r"text\.pth"):
        read_checkpoint(tmp_path / "text.pth")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"as it has no meta, message_hub.*model.pretrain="):
        read_checkpoint(tmp_path / "weights.pth")
    state = {"meta": {}, "state_dict": {"a": torch.zeros(1)}, "message_hub": HistoryBuffer([1], [1])}
    torch.save(state, tmp_path / "mmengine.pth")
    with pytest.raises(CheckpointError, match=r"cannot be resumed from, as it holds .*HistoryBuffer"):
        read_checkpoint(tmp_path / "mmengine.pth")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path, share):
    path = tmp_path / "a.pth"
    save_checkpoint({"meta": {}, "state_dict": {"a": torch.rand(1000)}, "message_hub": {}}, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError, match=r"a\.pth"):
        read_checkpoint(path)


def test_a_message_hub_comes_back(tmp_path):
    hub = MessageHub.get_instance("before")
    for loss in (3.0, 1.0):
        hub.update_scalar("train/loss", loss)
    hub.update_info("epoch", 4)
    hub.update_info("hidden", 5, resumed=False)
    hub.update_info("function", print)
    save_checkpoint({"hub": state.message_hub_state(hub)}, tmp_path / "a.pth")
    other = MessageHub.get_instance("after")
    state.restore_message_hub(other, torch.load(tmp_path / "a.pth", weights_only=True)["hub"])
    other.update_scalar("train/loss", 2.0)
    assert other.get_scalar("train/loss").data[0].tolist() == [3.0, 1.0, 2.0]
    assert other.get_scalar("train/loss").mean() == 2.0
    assert (other.get_info("epoch"), other.get_info("hidden"), other.get_info("function")) == (4, None, None)


def test_random_generators_come_back(tmp_path):
    import random

    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item(), random.gauss(0, 1), np.random.randn()

    random.gauss(0, 1)  # leaves a second value waiting
    save_checkpoint({"random": state.random_state()}, tmp_path / "a.pth")
    expected = draw()
    draw()
    state.restore_random_state(torch.load(tmp_path / "a.pth", weights_only=True)["random"])
    assert draw() == expected


def test_a_checkpoint_names_no_other_files_for_removal(make_runner, tmp_path):
    make_runner(train_cfg=dict(by_epoch=True, max_epochs=1)).train()
    path = tmp_path / "run" / "epoch_1.pth"
    hostile = read_checkpoint(path)
    names = ["../mine", str(tmp_path / "mine"), "best_../../mine/epoch_1.pth", "epoch_1.pth"]
    hostile["message_hub"]["runtime_info"] |= {"kept_ckpts": names, "superfluous_ckpts": names[:3]}
    save_checkpoint(hostile, path)
    mine = tmp_path / "mine" / "epoch_1.pth"
    mine.parent.mkdir()
    mine.touch()
    hooks = dict(checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=1))
    make_runner(resume=True, default_hooks=hooks, train_cfg=dict(by_epoch=True, max_epochs=2)).train()
    assert mine.exists()
    assert [file.name for file in path.parent.glob("*.pth")] == ["epoch_2.pth"]


@pytest.mark.parametrize("interval", [1, 3])
def test_a_training_that_stops_early_is_saved_and_goes_on_counting(make_runner, tmp_path, interval):
    stop = dict(type="EarlyStoppingHook", monitor="accuracy/top1", patience=3, min_delta=1.0)
    hooks = dict(checkpoint=dict(type="CheckpointHook", interval=interval))
    common = dict(custom_hooks=[stop], default_hooks=hooks, train_cfg=dict(by_epoch=True, max_epochs=9))
    whole = make_runner(**common, work_dir=str(tmp_path / "whole"))
    whole.train()
    assert whole.epoch == 4  # the first is the best, and three follow
    assert (tmp_path / "whole" / "last_checkpoint").read_text() == "epoch_4.pth"
    again = make_runner(**common, work_dir=str(tmp_path / "whole"), resume=True)
    again.train()
    assert again.epoch == 4

    interrupted = make_runner(Record(stop_after=3), **common, work_dir=str(tmp_path / "parts"))
    with pytest.raises(KeyboardInterrupt):
        interrupted.train()
    parts = make_runner(**common, work_dir=str(tmp_path / "parts"), resume=True)
    parts.train()
    assert parts.epoch == 4
