"""Full disks, folders that cannot be written to, losses that are no numbers, and launchers that end."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from torch import nn

from framework.engine import read_checkpoint
from framework.engine.checkpoint import write_checkpoint
from framework.engine.metrics_file import MetricsFile
from framework.engine.resume import last_checkpoint
from framework.engine.shard_checkpoint import remove_unfinished, save_shards
from framework.engine.sharded import shard_model
from framework.errors import ConfigError, SaveError, TrainingError
from framework.pretrain.checkpoint import open_checkpoint

ROOT = Path(__file__).parents[2]
READ_ONLY = 1


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of 1 MiB in memory; only root can."""
    folder = tmp_path / "disk"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(flags=0, size="1m"):
        options = f"size={size}".encode()
        if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", flags, options):
            pytest.skip(f"no file system can be mounted here: {os.strerror(ctypes.get_errno())}")
        return folder

    yield mount
    libc.umount(str(folder).encode())


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_full_disk_leaves_the_checkpoint_before_as_it_was(small_disk, name):
    path = small_disk() / name
    small = {"meta": {}, "state_dict": {"w": torch.rand(1000)}, "message_hub": {}}
    write_checkpoint(small, path)
    large = {**small, "state_dict": {"w": torch.rand(400_000)}}
    with pytest.raises(SaveError, match=r"No space left.*MiB are free there.*max_keep_ckpts.*--resume"):
        write_checkpoint(large, path)
    assert torch.equal(read_checkpoint(path)["state_dict"]["w"], small["state_dict"]["w"])
    assert not list(path.parent.glob(".*.tmp"))


def test_a_full_disk_leaves_the_shards_before_as_they_were(small_disk, tmp_path):
    path = small_disk() / "epoch_1.dcp"
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        rest = {"meta": {}, "message_hub": {}}
        small = shard_model(nn.Linear(10, 10))
        save_shards(rest, small, None, path)
        with pytest.raises(SaveError, match=r"epoch_1.dcp .*written: .*MiB are free there.*--resume"):
            save_shards(rest, shard_model(nn.Linear(1000, 400)), None, path)
    finally:
        torch.distributed.destroy_process_group()
    assert [file.name for file in path.parent.iterdir()] == ["epoch_1.dcp"]
    saved = open_checkpoint(path).tree["state_dict"]["weight"].read()
    assert torch.equal(saved, small.state_dict()["weight"].full_tensor())


def test_shards_that_were_being_replaced_are_found(tmp_path):
    (tmp_path / "last_checkpoint").write_text("epoch_1.dcp")
    (tmp_path / ".epoch_1.dcp.old").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / ".epoch_1.dcp.old"
    (tmp_path / ".epoch_2.dcp.tmp").mkdir()
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.glob(".*")] == [".epoch_1.dcp.old"]
    (tmp_path / "epoch_1.dcp").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / "epoch_1.dcp"
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch_1.dcp", "last_checkpoint"]


def test_a_run_on_a_disk_that_is_full_says_so_and_goes_on_when_there_is_room(small_disk, make_runner):
    folder = small_disk()

    class Fill(Hook):
        def before_train_epoch(self, runner):
            if runner.epoch == 1:
                runner.writer.wait()
                with (folder / "other").open("wb", buffering=0) as file, pytest.raises(OSError) as full:
                    while True:
                        file.write(b"0" * 4096)
                assert full.value.errno == errno.ENOSPC

    runner = make_runner(Fill(), work_dir=str(folder / "run"))
    with pytest.raises(SaveError, match=r"epoch_2\.pth could not be written: No space left"):
        runner.train()
    assert (folder / "run" / "last_checkpoint").read_text() == "epoch_1.pth"
    (folder / "other").unlink()
    resumed = make_runner(work_dir=str(folder / "run"), resume=True)
    resumed.train()
    assert resumed.iter == 12
    assert (folder / "run" / "last_checkpoint").read_text() == "epoch_3.pth"


def test_numbers_that_find_no_room_say_so(tmp_path):
    Path(tmp_path, "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(SaveError, match=r"metrics\.jsonl could not be written: No space left.*--resume"):
        MetricsFile(tmp_path).write("train", 1, 1, {"loss": 0.5})


def test_a_work_dir_that_cannot_be_written_is_refused_before_anything_is_built(small_disk, make_runner):
    folder = small_disk(READ_ONLY)
    with pytest.raises(SaveError, match=r"work dir .*run: Read-only file system.*--work-dir"):
        make_runner(work_dir=str(folder / "run"), model=dict(type="NoSuchModel"))
    with pytest.raises(SaveError, match=r"work dir .*disk: Read-only file system"):
        make_runner(work_dir=str(folder), model=dict(type="NoSuchModel"))


class Spoil(Hook):
    """Make a weight infinite before an iteration, or after it, as a step that explodes does."""

    priority = "VERY_HIGH"

    def __init__(self, before=None, after=None):
        self.before, self.after = before, after

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.before:
            self._spoil(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.after:
            self._spoil(runner)

    def _spoil(self, runner):
        runner.model.head.fc.weight.data[0, 0] = float("nan")


EVERY_ITERATION = dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=1))


def test_a_loss_that_is_no_number_stops_the_training_and_the_good_checkpoint_is_named(make_runner, tmp_path):
    runner = make_runner(Spoil(before=6), default_hooks=EVERY_ITERATION)
    with pytest.raises(TrainingError, match=r"iteration 6 \(epoch 2\) is infinite or not a number") as error:
        runner.train()
    advice = r"last good checkpoint is (\S+)\. .*--resume \1 --cfg-options (\S+),.*load_from=\1 .*\.lr"
    good, clip = re.search(advice, str(error.value)).groups()
    assert Path(good).name == "iter_5.pth"
    assert not (tmp_path / "run" / "iter_6.pth").exists()
    assert clip == "optim_wrapper.clip_grad.max_norm=1.0"
    make_runner(default_hooks=EVERY_ITERATION, resume=True, load_from=good).train()


def test_weights_that_are_no_numbers_take_the_place_of_no_checkpoint(make_runner, tmp_path):
    hook = dict(type="CheckpointHook", by_epoch=False, interval=1, max_keep_ckpts=1)
    runner = make_runner(Spoil(after=5), default_hooks=dict(checkpoint=hook))
    message = r"weights after iteration 5 .*infinite or no numbers.*last good checkpoint is \S+/iter_4\.pth"
    with pytest.raises(TrainingError, match=message):
        runner.train()
    assert [path.name for path in (tmp_path / "run").glob("*.pth")] == ["iter_4.pth"]


def test_a_checkpoint_whose_weights_are_no_numbers_is_not_called_good(make_runner, tmp_path):
    late = dict(EVERY_ITERATION, loss_check=dict(type="LossCheckHook"))
    make_runner(default_hooks=late, train_cfg=dict(by_epoch=False, max_iters=5)).train()
    state = read_checkpoint(tmp_path / "run" / "iter_5.pth")
    state["state_dict"]["head.fc.weight"][0, 0] = float("inf")
    write_checkpoint(state, tmp_path / "run" / "iter_5.pth")
    again = make_runner(default_hooks=late, train_cfg=dict(by_epoch=False, max_iters=9), resume=True)
    with pytest.raises(TrainingError, match=r"iteration 6 .*last good checkpoint is \S+/iter_4\.pth"):
        again.train()


def test_no_checkpoint_of_an_older_run_is_called_good(make_runner, tmp_path):
    make_runner().train()
    again = make_runner(Spoil(before=2))
    with pytest.raises(TrainingError, match=r"iteration 2 .*No checkpoint was saved before it: begin again"):
        again.train()
    log = Path(again.log_dir, f"{again.timestamp}.log").read_text()
    assert "begins anew, and its work dir has epoch_3.pth of an older one" in log
    older = str(tmp_path / "run" / "epoch_2.pth")
    with pytest.raises(TrainingError, match=rf"iteration 10 .*last good checkpoint is {older}\."):
        make_runner(Spoil(before=10), resume=True, load_from=older, work_dir=str(tmp_path / "new")).train()


def test_the_check_of_the_loss_is_patient_on_request_and_can_be_left_out(make_runner):
    with pytest.raises(TrainingError, match=r"iteration 8 .*No checkpoint was saved before it"):
        make_runner(
            Spoil(before=6),
            default_hooks=dict(loss_check=dict(type="LossCheckHook", patience=2), checkpoint=None),
        ).train()
    make_runner(Spoil(before=6), default_hooks=dict(loss_check=None)).train()
    with pytest.raises(ConfigError, match="interval is 1 or more"):
        make_runner(default_hooks=dict(loss_check=dict(type="LossCheckHook", interval=0)))


def test_a_termination_of_torchrun_ends_in_a_checkpoint_that_resumes(config, fork_server, tmp_path):
    cfg = config(train_cfg={"by_epoch": True, "max_epochs": 400}, val_cfg=None, val_dataloader=None)
    cfg.val_evaluator = cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.default_hooks = dict(checkpoint=dict(type="CheckpointHook", interval=5, max_keep_ckpts=2))
    cfg.train_dataloader.batch_size = 16
    cfg.dump(tmp_path / "config.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command = [str(ROOT / "tools" / "train.py"), str(tmp_path / "config.py"), "--launcher=pytorch"]
    work_dir = tmp_path / "run"
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen([*torchrun, *command, f"--work-dir={work_dir}"], env=environment, stderr=log)
        while run.poll() is None and not (work_dir / "last_checkpoint").is_file():
            time.sleep(0.05)
        run.send_signal(signal.SIGTERM)
        run.wait(60)
    done = read_checkpoint(work_dir / (work_dir / "last_checkpoint").read_text())["meta"]["iter"]
    assert 20 <= done < 1600, (tmp_path / "log").read_text()
    cfg.train_cfg.max_epochs = done // 4 + 2
    cfg.dump(tmp_path / "config.py")
    status, _ = fork_server.run(tmp_path / "config.py", work_dir, processes=2)
    assert status == 0, (tmp_path / "run.log").read_text()
    last = read_checkpoint(work_dir / (work_dir / "last_checkpoint").read_text())
    assert last["meta"]["iter"] == (done // 4 + 2) * 4
    assert len(last["processes"]) == 2
