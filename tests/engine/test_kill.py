"""Runs killed at any moment end as one that was not. The kills are real SIGKILLs of real processes."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from framework.engine import read_checkpoint
from framework.pretrain.checkpoint import LazyTensor, open_checkpoint

TIMES = ("train/time", "train/data_time", "val/time", "val/data_time")


@pytest.fixture
def config_file(config, model, tmp_path):
    """Write a config whose run takes a third of a second: three epochs of four iterations."""

    def write(file_format="pth", workers=0, batch_size=7, sharded=False):
        data = {"type": "KillData"}
        sampler = {"type": "DefaultSampler", "shuffle": True}
        loader = {"batch_size": batch_size, "num_workers": workers, "dataset": data, "sampler": sampler}
        hook = {"type": "CheckpointHook", "by_epoch": False, "interval": 1, "max_keep_ckpts": 2}
        ema = {"type": "EMAHook", "ema_type": "ExponentialMovingAverage", "momentum": 0.3}
        net = model()
        net["head"]["num_classes"] = 3
        net["neck"] = {"type": "ClsBatchNormNeck", "num_features": 16}  # has running statistics
        cfg = config(
            model=net,
            train_dataloader=loader,
            val_dataloader={"batch_size": 7, "dataset": {"type": "KillData", "length": 14}},
            optim_wrapper={"optimizer": {"type": "AdamW", "lr": 3e-3}, "accumulative_counts": 2},
            default_hooks={"checkpoint": {**hook, "save_best": "auto", "file_format": file_format}},
            custom_hooks=[ema, {"type": "NoteOrder"}],
        )
        for name in ("test_dataloader", "test_evaluator", "test_cfg"):
            cfg.pop(name)
        if sharded:  # which cannot be averaged
            cfg.model_wrapper_cfg = {"type": "FullyShard"}
            cfg.custom_hooks = [{"type": "NoteOrder"}]
        path = tmp_path / "config.py"
        Config(cfg.to_dict()).dump(path)
        return path

    return write


def equal(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def outcome(work_dir):
    """Return what a finished run leaves, but for times and names."""
    last = (work_dir / "last_checkpoint").read_text()
    files = sorted(p.name for p in work_dir.iterdir() if p.suffix in (".pth", ".safetensors", ".dcp"))
    assert [path.name for path in work_dir.iterdir() if path.suffix == ".tmp"] == []
    state = read_checkpoint(work_dir / last)
    best = next(work_dir / name for name in files if name.startswith("best_"))
    hub = state.pop("message_hub")
    scalars = {name: one for name, one in hub["log_scalars"].items() if name not in TIMES}
    infos = {name: hub["runtime_info"][name] for name in ("best_score", "best_ckpt", "kept_ckpts")}
    for name in ("cfg", "experiment_name", "time"):
        del state["meta"][name]
    for name in ("optimizer", "param_schedulers", "processes"):
        assert name in state
    state.pop("shards", None)  # whose bytes say which process wrote what is in all of them
    tensors = [values_of(open_checkpoint(path).tree) for path in (best, work_dir / last)]
    return {"files": files, "scalars": scalars, "infos": infos, "tensors": tensors, **state}


def values_of(tree):
    if isinstance(tree, dict):
        parts = ("state_dict", "ema_state_dict", "optimizer", "gradients")
        kept = {name: one for name, one in tree.items() if name in parts} if "meta" in tree else tree
        return {name: values_of(one) for name, one in kept.items()}
    return tree.read() if isinstance(tree, LazyTensor) else tree


def killed_again_and_again(fork_server, config, folder, *, kills, processes=1, seed=0):
    """Kill runs until there were `kills`, going on each time; every run that ends is compared."""
    whole = folder / "whole"
    status, duration = fork_server.run(config, whole, processes)
    assert status == 0, Path(f"{whole}.log").read_text()[-3000:]
    expected = outcome(whole)
    moments, done, number = random.Random(seed), 0, 0
    while done < kills:
        number += 1
        status, whole_run = -signal.SIGKILL, True
        while status == -signal.SIGKILL:
            after = moments.uniform(0, duration) if done < kills else None
            status, taken = fork_server.run(config, folder / f"run{number}", processes, after)
            done += status == -signal.SIGKILL
            duration = min(duration, taken) if status == 0 and whole_run else duration
            whole_run = False
        log = Path(f"{folder / f'run{number}'}.log").read_text()
        assert status == 0, log[-3000:]
        found = outcome(folder / f"run{number}")
        assert [name for name in expected if not equal(found[name], expected[name])] == [], log[-3000:]
    return number


def test_one_process(fork_server, config_file, tmp_path):
    killed_again_and_again(fork_server, config_file(), tmp_path, kills=30)


def test_a_worker_that_lives_on_and_weights_in_safetensors(fork_server, config_file, tmp_path):
    path = config_file(file_format="safetensors", workers=1)
    killed_again_and_again(fork_server, path, tmp_path, kills=10, seed=1)


def test_two_processes(fork_server, config_file, tmp_path):
    killed_again_and_again(fork_server, config_file(batch_size=5), tmp_path, kills=10, processes=2, seed=2)


def test_two_processes_that_share_the_weights(fork_server, config_file, tmp_path):
    path = config_file(batch_size=5, sharded=True)
    killed_again_and_again(fork_server, path, tmp_path, kills=5, processes=2, seed=3)
