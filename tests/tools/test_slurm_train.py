"""What `tools/slurm_train.sh` asks Slurm for. `srun` is a script that writes down its arguments."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch

from framework.engine.distributed import start_processes

SCRIPT = Path(__file__).parents[2] / "tools" / "slurm_train.sh"


def arguments_of_srun(tmp_path, *arguments, **variables):
    shim = tmp_path / "srun"
    shim.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\n')
    shim.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **variables}
    subprocess.run([SCRIPT, *arguments], env=environment, check=True, timeout=20)
    return (tmp_path / "asked").read_text().splitlines()


def test_gpus(tmp_path):
    asked = arguments_of_srun(
        tmp_path, "configs/a b.py", "--amp", GPUS="16", PARTITION="big", SRUN_ARGS="--qos=x -v"
    )
    assert asked[:7] == [
        *(
            "--cpus-per-task=8",
            "--kill-on-bad-exit=1",
            "--job-name=a b",
            "--ntasks=16",
            "--ntasks-per-node=8",
        ),
        *("--gres=gpu:8", "--partition=big"),
    ]
    assert asked[7:11] == ["--qos=x", "-v", "python", "-u"]
    assert asked[11].endswith("tools/train.py")
    assert asked[12:] == ["configs/a b.py", "--launcher", "slurm", "--amp"]
    assert "--ntasks-per-node=2" in arguments_of_srun(tmp_path, "config.py", GPUS="2")


def test_without_gpus(tmp_path):
    asked = arguments_of_srun(tmp_path, "config.py", GPUS_PER_NODE="0", TASKS="4")
    assert "--ntasks=4" in asked and not any("gpu" in argument for argument in asked)


def test_it_says_how_to_use_it():
    run = subprocess.run([SCRIPT], capture_output=True, text=True, timeout=20)
    assert run.returncode == 2 and "GPUS_PER_NODE" in run.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_processes_of_slurm_meet_without_gpus(monkeypatch, tmp_path):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames n[1-2]" ] && echo localhost && echo n2\n')
    scontrol.chmod(0o755)
    variables = {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NODELIST": "n[1-2]"}
    for name, value in {**variables, "PATH": f"{tmp_path}:{os.environ['PATH']}", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    start_processes({"dist_cfg": {"timeout": 20}}, "slurm")
    try:
        assert torch.distributed.get_world_size() == 1 and torch.distributed.get_backend() == "gloo"
    finally:
        torch.distributed.destroy_process_group()
        monkeypatch.undo()
