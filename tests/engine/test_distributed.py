from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from safetensors.torch import load_file
from torch import nn
from torch.distributed import checkpoint as dcp

from framework import MODELS
from framework.engine import save_checkpoint
from framework.engine.distributed import spread_model, start_processes
from framework.engine.shard_checkpoint import export_weights
from framework.engine.sharded import shard_model
from framework.errors import ConfigError
from framework.models.blocks import repeated_blocks
from framework.models.selfsup import CosineEMA
from framework.pretrain.errors import CheckpointError

ROOT = Path(__file__).parents[2]
SIZES_OF_MPI = (("SIZE", "4"), ("LOCAL_SIZE", "2"))


def launch(*arguments, processes=2, gpus=""):
    """Start processes with torchrun, on the CPU unless `gpus` names some."""
    run = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    script = Path(__file__).with_name("launched.py")
    variables = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": gpus}
    command = [*run, "--nproc_per_node", str(processes), str(script), *(str(one) for one in arguments)]
    environment = {**os.environ, **variables}
    folder = Path(arguments[0]).parent / "here"
    folder.mkdir()
    run = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=180)
    assert list(folder.iterdir()) == []  # nothing is left where the command was given
    return run


class Losses(Hook):
    def __init__(self):
        self.values = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.values.append(outputs["loss"].item())


@pytest.fixture
def net(model, tmp_path):
    """Return a model with weights, and without random numbers, which differ between the processes."""
    cfg = model()
    cfg["backbone"]["drop_rate"] = 0.0
    path = tmp_path / "weights.pth"
    torch.save(MODELS.build(cfg).backbone.state_dict(), path)
    cfg["backbone"]["pretrain"] = str(path)
    return cfg


def mean(a, b):
    return [(x + y) / 2 for x, y in zip(a, b, strict=True)]


def test_two_processes_learn_what_one_learns_with_the_same_batch(config, make_runner, net, tmp_path):
    losses = Losses()
    changes = {
        "model": net,
        "train_cfg": {"by_epoch": True, "max_epochs": 2},
        "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 3e-3}, "clip_grad": {"max_norm": 0.5}},
    }
    alone = make_runner(losses, **changes)
    alone.train()
    metrics = alone.test()

    cfg = config(**changes, work_dir=str(tmp_path / "two"))
    cfg.train_dataloader.batch_size = 16
    cfg.test_dataloader.batch_size = 7
    cfg.dump(tmp_path / "config.py")
    run = launch(tmp_path / "config.py", tmp_path)
    assert run.returncode == 0, run.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    for name in ("ddp", "sharded"):
        assert mean(first[name]["losses"], second[name]["losses"]) == pytest.approx(losses.values, rel=1e-4)
        assert first[name]["metrics"] == second[name]["metrics"] == metrics
    assert sorted(path.name for path in (tmp_path / "ddp").glob("*.pth")) == ["epoch_1.pth", "epoch_2.pth"]

    whole = {name: list(p.shape) for name, p in alone.model.named_parameters()}
    assert first["ddp"]["local"] == {f"module.{name}": shape for name, shape in whole.items()}
    for name, shape in whole.items():  # each process holds a part of every parameter
        parts = [one["sharded"]["local"][name] for one in (first, second)]
        assert parts[0][0] + parts[1][0] == shape[0] and parts[0][0] - parts[1][0] in (0, 1)

    rest = mean(first["sharded"]["losses"], second["sharded"]["losses"])[4:]
    assert mean(first["resumed"]["losses"], second["resumed"]["losses"]) == rest
    assert first["resumed"]["metrics"] == first["sharded"]["metrics"]
    folders = ["epoch_1.dcp", "epoch_2.dcp"]
    assert sorted(path.name for path in (tmp_path / "sharded").glob("*.dcp")) == folders

    for one in (first, second):  # of a changed byte in the shards of one, or other files in sight
        assert one["agreed"][0] == "epoch_1.dcp"
        assert "epoch_2.dcp is damaged: __1_0.distcp is not what was saved" in one["agreed"][1]

    again = Losses()  # what two processes saved, one resumes
    changes["load_from"] = str(tmp_path / "sharded" / "epoch_1.dcp")
    make_runner(again, **changes, resume=True, work_dir=str(tmp_path / "again")).train()
    assert again.values == pytest.approx(losses.values[4:], rel=1e-4)

    exported = tmp_path / "whole.safetensors"
    assert export_weights(tmp_path / "sharded" / "epoch_2.dcp", exported) == len(alone.model.state_dict())
    tensors = load_file(exported)
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(tensors[name], value, rtol=1e-3, atol=1e-4)
    loaded = MODELS.build(
        {**net, "pretrain": {"path": str(tmp_path / "sharded" / "epoch_2.dcp"), "strict": True}}
    )
    assert torch.equal(loaded.state_dict()["head.fc.weight"], tensors["head.fc.weight"])
    assert mean(first["loaded"]["losses"], second["loaded"]["losses"])[0] < losses.values[0]


@pytest.mark.parametrize("how", ["raise", "kill"])
def test_a_process_that_fails_ends_all(config, net, tmp_path, how):
    config(model=net, default_hooks={"checkpoint": None}).dump(tmp_path / "config.py")
    run = launch(tmp_path / "config.py", tmp_path, how)
    assert run.returncode != 0
    assert "Root Cause" in run.stderr and "local_rank: 1" in run.stderr.split("Root Cause")[1]
    if how == "raise":
        root = run.stderr.split("Root Cause")[1]
        assert "ArithmeticError: the second process has had enough" in root
        error = run.stderr.index("ArithmeticError: the second process has had enough")
        first = run.stderr.index("Traceback (most recent call last)")
        assert run.stderr.find("Traceback (most recent call last)", first + 1) > error > first
    else:
        assert "Signal 9 (SIGKILL)" in run.stderr
    assert not (tmp_path / "run" / "last_checkpoint").exists()


@pytest.mark.parametrize(
    ("launcher", "variables", "message"),
    [
        ("pytorch", {}, "needs processes that torchrun has started .RANK is not set"),
        ("slurm", {}, "needs processes that srun has started"),
        ("mpi", {}, "needs processes that mpirun of Open MPI has started"),
        ("torchrun", {}, "launcher='torchrun': accepted are none, pytorch, slurm, mpi"),
        ("none", {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "4"}, "4 processes.*: add --launcher pytorch"),
        (
            "mpi",
            {f"OMPI_COMM_WORLD_{name}": value for name, value in (("RANK", "0"), *SIZES_OF_MPI)},
            "MASTER_ADDR",
        ),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_launcher_that_did_not_start_the_process(monkeypatch, launcher, variables, message):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        start_processes({}, launcher)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_processes_of_mpi_meet_without_gpus():
    code = (
        "import torch; from framework.engine.distributed import start_processes; "
        "start_processes({'dist_cfg': {'timeout': 30}}, 'mpi'); own = torch.ones(()); "
        "torch.distributed.all_reduce(own); print(int(own)); torch.distributed.destroy_process_group()"
    )
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    common = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MASTER_PORT": port}
    both = {f"OMPI_COMM_WORLD_{name}": "2" for name in ("SIZE", "LOCAL_SIZE")}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, **common, **both, "OMPI_COMM_WORLD_RANK": rank},
            stdout=subprocess.PIPE,
        )
        for rank in "01"
    ]
    assert [run.communicate(timeout=120)[0].split() for run in runs] == [[b"2"], [b"2"]]


def test_only_known_kinds_of_batch_norm_over_processes():
    with pytest.raises(ConfigError, match="sync_bn='apex': accepted are torch, mmcv"):
        spread_model(nn.BatchNorm2d(2), None, {"sync_bn": "apex"}, launched=True)
    alone = spread_model(nn.Sequential(nn.SyncBatchNorm(2)), None, {}, launched=False)
    assert type(alone[0]).__name__ == "_BatchNormXd"


@pytest.fixture
def process_group(tmp_path):
    """Join a group of one process."""
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_errors_of_sharding(process_group):
    linear = nn.Linear(2, 2)
    tied = nn.ModuleDict({"a": linear, "b": linear})
    with pytest.raises(ConfigError, match=r"cannot keep a\.weight and b\.weight the same parameter"):
        shard_model(tied)
    with pytest.raises(ConfigError, match=r"no part of class 'Liner': did you mean Linear"):
        shard_model(nn.Sequential(linear), units=["Liner"])
    with pytest.raises(ConfigError, match="are one of float16, bfloat16, float32, got 'fp8'"):
        shard_model(linear, param_dtype="fp8")
    with pytest.raises(ConfigError, match=r"teacher 'ema' follows the student .* DistributedDataParallel"):
        shard_model(nn.ModuleDict({"net": linear, "ema": CosineEMA(linear)}))
    with pytest.raises(ConfigError, match=r"unit: did you mean units.*accepts: module, units, reshard"):
        spread_model(nn.BatchNorm2d(2), {"type": "FullyShard", "unit": ["Norms"]}, {}, launched=True)
    with pytest.raises(ConfigError, match=r"EMAHook .* averages whole weights"):
        averaged = {"custom_hooks": [{"type": "EMAHook"}]}
        spread_model(nn.BatchNorm2d(2), {"type": "FullyShard"}, averaged, launched=True)


def test_sharding_needs_processes():
    with pytest.raises(ConfigError, match="start them with torchrun"):
        shard_model(nn.Linear(2, 2))


def test_half_precision_and_units(process_group):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    images = torch.rand(3, 4)
    expected = model(images)
    shard_model(model, units=["Linear"], param_dtype="bfloat16", reduce_dtype="float32")
    output = model(images)
    assert output.dtype == torch.float32 and not torch.equal(output, expected)
    torch.testing.assert_close(output, expected, rtol=0, atol=0.02)
    assert [type(part).__name__ for part in model.children()] == ["FSDPLinear", "ReLU", "FSDPLinear"]


def test_a_checkpoint_of_another_run_is_refused(make_runner, model, tmp_path):
    runner = make_runner()
    weights = {"state_dict": {"fc.weight": torch.ones(2)}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it saves in one process
        dcp.save(weights, checkpoint_id=tmp_path / "other.dcp", no_dist=True)
    hub = {"log_scalars": {}, "runtime_info": {}, "resumed_keys": {}}
    rest = {"meta": {"epoch": 1, "iter": 4}, "state_dict": {}, "message_hub": hub}
    save_checkpoint(rest, tmp_path / "other.dcp" / "run.pth")
    with pytest.raises(
        CheckpointError, match=r"is of another run: it lacks backbone.*and has fc.weight besides"
    ):
        runner.resume(str(tmp_path / "other.dcp"))
    with pytest.raises(ConfigError, match=r"one of \.pth, \.safetensors"):
        export_weights(tmp_path / "other.dcp", tmp_path / "whole.txt")


def blocks(cfg):
    return list(repeated_blocks(MODELS.build(cfg)))


def test_blocks_are_told_by_structure(model):
    assert blocks(model()) == ["backbone.blocks.0", "backbone.blocks.1"]
    resnet = {"type": "ResNet", "depth": 18, "stem_channels": 4, "base_channels": 4}
    assert blocks(resnet) == [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    arch = {"embed_dims": 8, "depths": [2, 2], "num_heads": [2, 2]}
    swin = {"type": "SwinTransformer", "arch": arch, "img_size": 32, "window_size": 4, "out_indices": [1]}
    assert blocks(swin) == [f"layers.{stage}.blocks.{block}" for stage in (0, 1) for block in (0, 1)]
    assert blocks({"type": nn.Linear, "in_features": 2, "out_features": 2}) == []


@pytest.mark.gpu
def test_gpus_learn_what_one_learns_with_the_same_batch(config, net, tmp_path):
    count = torch.cuda.device_count()
    net["backbone"]["norm_cfg"] = {"type": "LN", "eps": 1e-6}
    cfg = config(model=net, train_cfg={"by_epoch": True, "max_epochs": 2}, sync_bn="torch")
    cfg.test_dataloader.batch_size = 7
    results = []
    for processes in (1, count):
        out = tmp_path / str(processes)
        out.mkdir(exist_ok=True)
        cfg.train_dataloader.batch_size = 32 // processes
        cfg.dump(out / "config.py")
        run = launch(out / "config.py", out, processes=processes, gpus=",".join(map(str, range(processes))))
        assert run.returncode == 0, run.stderr
        ranks = [json.loads((out / f"{rank}.json").read_text()) for rank in range(processes)]
        for name in ("ddp", "sharded"):
            every = zip(*(one[name]["losses"] for one in ranks), strict=True)
            results.append([sum(losses) / processes for losses in every])
    for one in results[1:]:
        assert one == pytest.approx(results[0], rel=1e-3)


@pytest.mark.gpu
def test_batch_norm_over_gpus_trains(config, tmp_path):
    backbone = {"type": "ResNet", "depth": 18, "base_channels": 8, "in_channels": 1}
    head = {"type": "LinearClsHead", "num_classes": 10}
    neck = {"type": "GlobalAveragePooling"}
    net = {"type": "Classifier", "backbone": backbone, "neck": neck, "head": head}
    config(model=net, sync_bn="torch").dump(tmp_path / "config.py")
    count = torch.cuda.device_count()
    run = launch(
        tmp_path / "config.py", tmp_path, "train", processes=count, gpus=",".join(map(str, range(count)))
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "train" / "epoch_3.pth").is_file()
