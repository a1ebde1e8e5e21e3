from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from mmengine.hooks import Hook

ROOT = Path(__file__).parents[2]

TWO_PROCESSES = """
    import json, os, socket, sys
    from framework.engine import Runner, load_config
    from mmengine.hooks import Hook

    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    child = os.fork()
    rank = '1' if child == 0 else '0'
    os.environ |= dict(
        RANK=rank, LOCAL_RANK=rank, WORLD_SIZE='2', MASTER_ADDR='localhost', MASTER_PORT=str(port)
    )
    losses = []

    class Losses(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            losses.append(outputs['loss'].item())

    runner = Runner.from_cfg(load_config(sys.argv[1], dict(launcher='pytorch')))
    runner.register_hook(Losses())
    runner.train()
    metrics = runner.test()
    runner.close()
    with open(f'{sys.argv[2]}/{rank}.json', 'w') as file:
        json.dump([losses, metrics], file)
    import torch
    torch.distributed.destroy_process_group()
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else 0)
"""


class Losses(Hook):
    def __init__(self):
        self.values = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.values.append(outputs["loss"].item())


def test_two_processes_learn_what_one_learns_with_the_same_batch(config, make_runner, model, tmp_path):
    net = model()
    net["backbone"]["drop_rate"] = 0.0  # random numbers differ between the processes
    losses = Losses()
    alone = make_runner(losses, model=net, train_cfg={"by_epoch": True, "max_epochs": 2})
    alone.train()
    metrics = alone.test()

    cfg = config(model=net, train_cfg={"by_epoch": True, "max_epochs": 2}, work_dir=str(tmp_path / "two"))
    cfg.train_dataloader.batch_size = 16
    cfg.test_dataloader.batch_size = 7
    cfg.dump(tmp_path / "config.py")
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(TWO_PROCESSES)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    arguments = [str(tmp_path / "config.py"), str(tmp_path)]
    run = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    results = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    means = [(a + b) / 2 for a, b in zip(results[0][0], results[1][0], strict=True)]
    assert means == pytest.approx(losses.values, rel=1e-4)
    assert results[0][1] == results[1][1] == metrics
    assert sorted(path.name for path in (tmp_path / "two").glob("*.pth")) == ["epoch_1.pth", "epoch_2.pth"]
