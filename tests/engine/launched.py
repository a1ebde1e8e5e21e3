"""What every process of a launch does in the tests of many machines: `torchrun launched.py CONFIG OUT`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from mmengine.hooks import Hook
from torch.distributed.tensor import DTensor

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
    runner.close()
    local = {name: list(_local(p).shape) for name, p in runner.model.named_parameters()}
    return {"losses": losses.values, "metrics": metrics, "local": local}


def _local(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def main(config: str, out: Path) -> None:
    sharded = {"model_wrapper_cfg": {"type": "FullyShard"}}
    results = {
        "ddp": run(config, out, "ddp"),
        "sharded": run(config, out, "sharded", **sharded),
        "resumed": run(
            config, out, "resumed", resume=True, load_from=str(out / "sharded" / "epoch_1.dcp"), **sharded
        ),
        "loaded": run(config, out, "loaded", load_from=str(out / "sharded" / "epoch_2.dcp"), **sharded),
    }
    (out / f"{os.environ['RANK']}.json").write_text(json.dumps(results))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
