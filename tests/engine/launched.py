"""What every process of a launch does in the tests of many machines: `torchrun launched.py CONFIG OUT`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from mmengine.hooks import Hook

from framework.engine import Runner, load_config


class Losses(Hook):
    def __init__(self):
        self.values = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.values.append(outputs["loss"].item())


def run(config: str, out: Path, name: str, **changes: object) -> dict[str, object]:
    changes = {"launcher": "pytorch", "work_dir": str(out / name), **changes}
    runner = Runner.from_cfg(load_config(config, changes))
    losses = Losses()
    runner.register_hook(losses)
    runner.train()
    metrics = runner.test()
    local = [tuple(getattr(p, "to_local", lambda p=p: p)().shape) for p in runner.model.parameters()]
    runner.close()
    return {"losses": losses.values, "metrics": metrics, "local": local}


def main(config: str, out: Path) -> None:
    sharded = {"type": "FullyShard"}
    results = {
        "ddp": run(config, out, "ddp"),
        "sharded": run(config, out, "sharded", model_wrapper_cfg=sharded),
    }
    (out / f"{os.environ['RANK']}.json").write_text(json.dumps(results))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
