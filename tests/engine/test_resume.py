"""Where a run starts from: formats, files of mmengine, damaged files, and what is fetched at all."""

from __future__ import annotations

import copy
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.runner import Runner as MMEngineRunner
from safetensors.torch import load_file

from framework import MODELS
from framework.engine import read_checkpoint
from framework.engine.checkpoint import remove_left_over, write_checkpoint
from framework.engine.dataloader import build_dataloader
from framework.engine.writer import Writer
from framework.errors import ConfigError
from framework.pretrain.errors import CheckpointError, DamagedCheckpointError, SourceError


def log_of(runner):
    return Path(runner.log_dir, f"{runner.timestamp}.log").read_text()


def saved(state, path):
    write_checkpoint({"meta": {"epoch": 1, "iter": 4}, "message_hub": {}, **state}, path)
    return path


def test_weights_in_safetensors_with_all_else_beside(tmp_path):
    weights = {"a": torch.rand(3, 4).t(), "tied": torch.rand(5), "extra": {"version": 2}}
    weights["again"] = weights["tied"]
    path = saved({"state_dict": weights, "optimizer": {"lr": 0.1}}, tmp_path / "a.safetensors")
    first = list(tmp_path.glob("*.state"))
    assert sorted(load_file(path)) == ["a", "again", "tied"]
    state = read_checkpoint(path)
    assert list(state["state_dict"]) == list(weights)
    assert torch.equal(state["state_dict"]["a"], weights["a"])
    assert (state["optimizer"], state["state_dict"]["extra"]) == ({"lr": 0.1}, {"version": 2})
    saved({"state_dict": {"a": torch.zeros(2)}}, path)
    assert len(list(tmp_path.glob("*.state"))) == 1 and not first[0].exists()


def test_weights_and_state_are_never_of_two_saves(tmp_path):
    one = saved({"state_dict": {"a": torch.zeros(2)}}, tmp_path / "one.safetensors")
    other = saved({"state_dict": {"a": torch.ones(2)}}, tmp_path / "other.safetensors")
    state = next(tmp_path.glob("one.*.state"))
    next(tmp_path.glob("other.*.state")).replace(state)
    with pytest.raises(DamagedCheckpointError, match="weights are not those that were saved"):
        read_checkpoint(one)
    with pytest.raises(CheckpointError, match=r"the file other\.\w+\.state .* is not beside it"):
        read_checkpoint(other)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.*.state"])
def test_a_changed_byte_is_noticed(tmp_path, name):
    state = {"state_dict": {"a": torch.rand(5000)}, "optimizer": {"a": torch.rand(5000)}}
    path = saved(state, tmp_path / f"a.{name.rpartition('.')[2].replace('state', 'safetensors')}")
    changed = next(tmp_path.glob(name))
    data = bytearray(changed.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    with pytest.raises(DamagedCheckpointError, match=r"a\.[\w.]+ is damaged"):
        read_checkpoint(path)


def test_the_writer_does_one_thing_at_a_time_and_its_errors_surface():
    writer, running, most = Writer(), [], []

    def job():
        running.append(1)
        most.append(len(running))
        running.pop()

    for _ in range(20):
        writer.start(job)
    writer.wait()
    assert most == [1] * 20

    def fail():
        raise OSError("the disk is gone")

    writer.start(fail)
    with pytest.raises(OSError, match="the disk is gone"):
        writer.wait()
    writer.wait()


def test_what_dead_processes_left_is_removed(tmp_path):
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    names = [f".a.pth.{socket.gethostname()}-{process}.tmp" for process in (dead, os.getpid())]
    for name in (*names, ".a.pth.elsewhere-1.tmp", "a.tmp"):
        (tmp_path / name).touch()
    remove_left_over(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([names[1], ".a.pth.elsewhere-1.tmp", "a.tmp"])


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_taken(make_runner, tmp_path):
    make_runner().train()
    last = tmp_path / "run" / "epoch_3.pth"
    last.write_bytes(last.read_bytes()[:-100])
    runner = make_runner(resume=True)
    runner.train()
    assert f"{last}" in log_of(runner) and "Going on with the one before, epoch_2.pth" in log_of(runner)
    assert runner.iter == 12
    assert read_checkpoint(last)["meta"]["iter"] == 12
    (last.parent / "last_checkpoint").unlink()  # the files are there nevertheless
    again = make_runner(resume=True, train_cfg={"by_epoch": True, "max_epochs": 4})
    again.train()
    assert "epoch_3.pth: epoch 3, iteration 12" in log_of(again)
    for path in last.parent.glob("epoch_*.pth"):
        path.write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r"No checkpoint in .*run is whole: .*epoch_3.*epoch_1.*--resume"
    ):
        make_runner(resume=True)


class Extras(Hook):
    """Leave in the history what mmengine's users leave there."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.message_hub.update_info("best_score", np.float64(0.25))
        runner.message_hub.update_info("options", ConfigDict(a=1))


def test_a_checkpoint_of_mmengines_own_runner_resumes(make_runner, config, tmp_path):
    cfg = config(train_cfg=dict(by_epoch=True, max_epochs=2), default_hooks={})
    ema = dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.3)
    old = MMEngineRunner(
        model=MODELS.build(cfg.model),
        work_dir=str(tmp_path / "old"),
        train_dataloader=build_dataloader(cfg.train_dataloader, 4),
        train_cfg=cfg.train_cfg,
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=3e-3)),
        param_scheduler=dict(type="CosineAnnealingLR", T_max=3),
        custom_hooks=[ema, Extras()],
        randomness=dict(seed=4),
        experiment_name="old",
        log_level="ERROR",
    )
    old.train()
    for handler in old.logger.handlers:
        handler.close()
    path = tmp_path / "old" / "epoch_2.pth"
    plain = torch.load(path, weights_only=False)
    runner = make_runner(
        custom_hooks=[ema],
        param_scheduler=dict(type="CosineAnnealingLR", T_max=3),
        resume=True,
        load_from=str(path),
    )
    seen = {}

    class Look(Hook):
        priority = "LOWEST"

        def before_train(self, runner):
            average = next(hook for hook in runner.hooks if type(hook).__name__ == "EMAHook")
            seen["model"] = {k: v.clone() for k, v in runner.model.state_dict().items()}
            seen["ema"] = {k: v.clone() for k, v in average.ema_model.module.state_dict().items()}
            state = runner.optim_wrapper.state_dict()["state"]
            seen["optimizer"] = {k: v["exp_avg"].clone() for k, v in state.items()}

    runner.register_hook(Look())
    runner.train()
    assert runner.seed == 4 and runner.iter == 12
    assert all(torch.equal(v, plain["ema_state_dict"][f"module.{k}"]) for k, v in seen["model"].items())
    assert all(torch.equal(v, plain["state_dict"][k]) for k, v in seen["ema"].items())
    moments = {k: v["exp_avg"] for k, v in plain["optimizer"]["state"].items()}
    assert len(moments) > 10 and moments.keys() == seen["optimizer"].keys()
    assert all(torch.equal(seen["optimizer"][k], v) for k, v in moments.items())
    history = runner.message_hub.get_scalar("train/loss").data[0]
    assert history[:8].tolist() == plain["message_hub"]["log_scalars"]["train/loss"].data[0].tolist()
    assert runner.message_hub.get_info("best_score") == 0.25
    assert "says nothing of the random generators" in log_of(runner)
    assert torch.load(tmp_path / "run" / "epoch_3.pth", weights_only=True)["meta"]["epoch"] == 3


def test_a_checkpoint_of_another_model_is_refused_in_one_sentence(make_runner, model, tmp_path):
    make_runner(train_cfg=dict(by_epoch=True, max_epochs=1)).train()
    net = model()
    net["head"]["num_classes"] = 11
    with pytest.raises(CheckpointError, match=r"is of another model: .*head\.fc\.weight.*load_from="):
        make_runner(model=net, resume=True).train()
    with pytest.raises(ConfigError, match=r"file_format is one of .*got 'zip'"):
        make_runner(default_hooks=dict(checkpoint=dict(type="CheckpointHook", file_format="zip")))


def test_the_work_dir_of_another_run_is_resumed_from_and_other_schedules_are_told(make_runner, tmp_path):
    schedule = dict(type="CosineAnnealingLR", T_max=3)
    first = make_runner(train_cfg=dict(by_epoch=True, max_epochs=1), param_scheduler=schedule)
    first.train()
    second = make_runner(
        work_dir=str(tmp_path / "other"),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        param_scheduler=[schedule, dict(type="ConstantLR", factor=0.5)],
        resume=True,
        load_from=first.work_dir,
    )
    second.train()
    assert str(second.resumed_from) == str(Path(first.work_dir, "epoch_1.pth")) and second.epoch == 2
    assert "has 1 schedulers, the config has 2" in log_of(second)


@pytest.fixture
def files(tmp_path):
    """Serve `tmp_path`, and note what is asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            path = tmp_path / self.path[1:]
            if not path.is_file():
                return self.send_error(404)
            data = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def with_inner_weights(model, address):
    cfg = model()
    cfg["backbone"]["pretrain"] = f"{address}/backbone.pth"
    return cfg


def test_what_a_resume_overwrites_is_not_fetched(make_runner, model, files):
    address, asked = files
    make_runner(train_cfg=dict(by_epoch=True, max_epochs=2)).train()
    cfg = with_inner_weights(model, address)
    runner = make_runner(model=cfg, resume=True)
    runner.train()
    assert asked == [] and runner.iter == 12
    with pytest.raises(SourceError):
        make_runner(model=cfg, work_dir=f"{runner.work_dir}2", resume=True)
    assert asked == ["/backbone.pth"]  # with nothing to resume it counts


def served_weights(model, tmp_path):
    """Put weights of the whole model and other ones of its backbone where they are served."""
    torch.manual_seed(5)
    net = MODELS.build(model())
    torch.save(net.state_dict(), tmp_path / "model.pth")
    torch.save({k: v + 1 for k, v in net.backbone.state_dict().items()}, tmp_path / "backbone.pth")
    return net.state_dict()


def test_inner_weights_that_outer_ones_replace_are_not_fetched(model, files, tmp_path, caplog):
    address, asked = files
    weights = served_weights(model, tmp_path)
    cfg = with_inner_weights(model, address) | dict(pretrain=f"{address}/model.pth")
    caplog.set_level("INFO", logger="framework")
    built = MODELS.build(cfg)
    assert asked == ["/model.pth"]
    assert all(torch.equal(value, weights[name]) for name, value in built.state_dict().items())
    assert f"model.backbone.pretrain is not fetched, as model.pretrain, {address}/model.pth" in caplog.text


def test_inner_weights_fill_what_outer_ones_leave(model, files, tmp_path):
    address, asked = files
    weights = served_weights(model, tmp_path)
    outer = dict(path=f"{address}/model.pth", ignore_keys="backbone.blocks.1")
    cfg = with_inner_weights(model, address) | dict(pretrain=outer)
    built = MODELS.build(cfg)
    assert sorted(set(asked)) == ["/backbone.pth", "/model.pth"]
    for name, value in built.state_dict().items():
        offset = 1 if name.startswith("backbone.blocks.1.") else 0
        assert torch.equal(value, weights[name] + offset), name


def test_what_no_weights_fill_is_drawn_as_without_any(model, files, tmp_path):
    address, _ = files
    served_weights(model, tmp_path)
    outer = dict(path=f"{address}/model.pth", ignore_keys=["backbone.blocks.1", "head"])
    torch.manual_seed(6)
    expected = MODELS.build(with_inner_weights(model, address)).head.fc.weight
    torch.manual_seed(6)
    built = MODELS.build(with_inner_weights(model, address) | dict(pretrain=outer))
    assert torch.equal(built.head.fc.weight, expected)


class Twin(torch.nn.Module):
    """Keeps a copy of its part, as a momentum encoder is."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.copy = copy.deepcopy(self.backbone)


def test_a_copy_that_the_outer_weights_leave_has_the_inner_ones(model, files, tmp_path):
    address, asked = files
    weights = served_weights(model, tmp_path)
    backbone = with_inner_weights(model, address)["backbone"]
    outer = dict(path=f"{address}/model.pth", ignore_keys="copy", min_coverage=0)
    built = MODELS.build(dict(type=Twin, backbone=backbone, pretrain=outer))
    assert "/backbone.pth" in asked
    name = "blocks.0.attn.qkv.weight"
    assert torch.equal(built.backbone.state_dict()[name], weights[f"backbone.{name}"])
    assert torch.equal(built.copy.state_dict()[name], weights[f"backbone.{name}"] + 1)


def test_load_from_beats_them_all_and_fetches_alone(make_runner, model, files, tmp_path):
    address, asked = files
    weights = served_weights(model, tmp_path)
    cfg = with_inner_weights(model, address) | dict(pretrain=f"{address}/nowhere.pth")
    seen = {}

    class Look(Hook):
        def before_train(self, runner):
            seen.update({name: value.clone() for name, value in runner.model.state_dict().items()})

    runner = make_runner(Look(), model=cfg, load_from=f"{address}/model.pth")
    runner.train()
    assert set(asked) == {"/model.pth"}
    assert all(torch.equal(value, weights[name]) for name, value in seen.items())
    assert f"loaded from {address}/model.pth" in log_of(runner)
