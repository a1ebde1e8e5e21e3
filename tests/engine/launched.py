"""What every process of a launch does in the tests of many machines: `torchrun launched.py CONFIG OUT`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import torch
from mmengine.hooks import Hook
from torch.distributed.tensor import DTensor

from framework.engine import Runner, load_config
from framework.engine.cli import main
from framework.engine.resume import find_start


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


class Failure(Hook):
    """Ends the second process in its third iteration, while the first waits for it."""

    def __init__(self, how: str):
        self.how = how

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 2 and runner.rank == 1:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ArithmeticError("the second process has had enough")


def fail(config: str, out: Path, how: str) -> str:
    runner = Runner.from_cfg(load_config(config, {"launcher": "pytorch", "work_dir": str(out / how)}))
    if how != "train":
        runner.register_hook(Failure(how))
    runner.train()
    return "done"


def agree(folder: Path) -> list[str]:
    """Resume where a byte of the newest shards has changed, and where the second process sees other files."""
    shards = folder / "epoch_2.dcp" / "__1_0.distcp"
    if torch.distributed.get_rank() == 0:
        data = bytearray(shards.read_bytes())
        data[len(data) // 2] ^= 1
        shards.write_bytes(data)
    torch.distributed.barrier()
    start = find_start(folder if torch.distributed.get_rank() == 0 else folder / "nothing", None)
    return [start.path.name, *start.refused]


def succeed(config: str, out: Path) -> None:
    rank = os.environ["RANK"]
    sharded: dict[str, object] = {"model_wrapper_cfg": {"type": "FullyShard"}}
    if rank == "1":  # only the first process may read weights
        sharded["model.backbone.pretrain"] = "/there/is/no/such/file.pth"
    saved = out / "sharded"
    results: dict[str, object] = {
        "ddp": run(config, out, "ddp"),
        "sharded": run(config, out, "sharded", **sharded),
        "resumed": run(config, out, "resumed", resume=True, load_from=str(saved / "epoch_1.dcp"), **sharded),
        "loaded": run(config, out, "loaded", load_from=str(saved / "epoch_2.dcp"), **sharded),
    }
    if rank == "0":
        shutil.copytree(saved, out / "damaged")
    torch.distributed.barrier()
    results["agreed"] = agree(out / "damaged")
    (out / f"{rank}.json").write_text(json.dumps(results))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    if len(sys.argv) > 3:
        main(lambda: fail(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
    else:
        succeed(sys.argv[1], Path(sys.argv[2]))
