"""Starts trainings in a millisecond: a process that has imported everything once, and forks for each run.

It reads lines of JSON: `{"config": file, "work_dir": ..., "processes": 1 or 2}`. For each it starts a process
group, whose number it prints; after the end of the run it prints the exit status.
"""

from __future__ import annotations

import gc
import json
import os
import random
import socket
import sys
import traceback

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.visualization import Visualizer

from framework.engine import Runner, load_config
from framework.registry import DATASETS, HOOKS, LOOPS, METRICS, MODELS


@DATASETS.register_module(name="KillData")
class Images(torch.utils.data.Dataset):
    """A few images, to which every generator adds noise."""

    def __init__(self, length=26):
        self.metainfo = {}
        generator = torch.Generator().manual_seed(length)
        self.images = torch.rand(length, 1, 8, 8, generator=generator)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        noise = torch.rand(1).item() + np.random.rand() + random.random()
        return {"inputs": self.images[index] + noise, "labels": index % 3}


@HOOKS.register_module(name="NoteOrder")
class NoteOrder(Hook):
    """Keep in the history which data came, and what a random layer would draw."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        runner.message_hub.update_scalar("train/data", data_batch["inputs"].sum().item())
        runner.message_hub.update_scalar("train/draw", torch.rand(1).item())


def run(order):
    config = load_config(order["config"])
    config.work_dir = order["work_dir"]
    config.resume = True
    vars(config)["_format_python_code"] = False  # mmengine's formatting takes as long as the training
    config.launcher = "pytorch" if order["processes"] > 1 else "none"
    runner = Runner.from_cfg(config)
    runner.train()
    runner.close()


def spread(processes):
    """Fork so that there are as many processes, and tell each who it is; return the others."""
    if processes == 1:
        return []
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    children = []
    for rank in range(1, processes):
        child = os.fork()
        if child == 0:
            os.environ.update(common, RANK=str(rank), LOCAL_RANK=str(rank))
            return []
        children.append(child)
    os.environ.update(common, RANK="0", LOCAL_RANK="0")
    return children


def work(order):
    """Do one run in this process, and never come back."""
    os.setpgid(0, 0)
    log = os.open(order["work_dir"] + ".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 1
    try:
        children = spread(order["processes"])
        torch.set_num_threads(1)  # torch makes its pool anew after a fork, and two threads at once may not
        run(order)
        status = max([0, *(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)])
    except BaseException:  # noqa: BLE001  whatever it is, the process ends
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def main():
    torch.set_num_threads(1)
    for registry in (MODELS, METRICS, LOOPS):
        registry.names()  # imports
    Visualizer()  # imports, too
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            work(order)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    os._exit(0)  # what was imported has much to say at an exit


if __name__ == "__main__":
    main()
