"""Every container in every wrapper in every format, by the path alone, values compared."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn

from framework.pretrain import load_pretrained

Weights = dict[str, Tensor]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.blocks = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.blocks[1](self.blocks[0](self.stem(x).mean((2, 3)))))


def net() -> Net:
    module = Net()
    generator = torch.Generator().manual_seed(3)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
    return module


CONTAINERS: dict[str, Callable[[Weights], dict[str, Any]]] = {
    "flat": lambda w: dict(w),
    "state_dict": lambda w: dict(state_dict=w, epoch=3, arch="net"),
    "model": lambda w: dict(model=w, optimizer=dict(state={0: dict(exp_avg=torch.ones(9))}, param_groups=[])),
    "model_state": lambda w: dict(model_state=w, cfg="a: 1"),
    "module": lambda w: dict(module=w, ds_version="0.1"),
    "teacher": lambda w: dict(student={k: v * 0 for k, v in w.items()}, teacher=w),
    "target_encoder": lambda w: dict(encoder={k: v * 0 for k, v in w.items()}, target_encoder=w, opt={}),
    "state_dict_ema": lambda w: dict(state_dict={k: v * 0 for k, v in w.items()}, state_dict_ema=w),
    "vissl": lambda w: dict(classy_state_dict=dict(base_model=dict(model=dict(trunk=w, heads={})))),
    "anything": lambda w: dict(weights_of_mine=w),
}

PREFIXES = [
    "",
    "module.",
    "_orig_mod.module.",
    "model.backbone.",
    "module.encoder_q.",
    "a._fsdp_wrapped_module.b.",
]


def nested(save: Callable[[Any, Path], None], name: str) -> Callable[[dict[str, Any], Path], Path]:
    def write(container: dict[str, Any], folder: Path) -> Path:
        save(container, folder / name)
        return folder / name

    return write


def legacy(container: Any, path: Path) -> None:
    torch.save(container, path, _use_new_zipfile_serialization=False)


def numpy_pickle(container: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(as_numpy(container), protocol=2))


def as_numpy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: as_numpy(item) for key, item in value.items()}
    return value.numpy() if isinstance(value, Tensor) else value


def distributed(container: dict[str, Any], folder: Path) -> Path:
    dcp.save(container, checkpoint_id=folder / "dcp", no_dist=True)
    return folder / "dcp"


NESTED = {
    "zip": nested(torch.save, "file.pth"),
    "legacy": nested(legacy, "file.pth"),
    "pickle": nested(numpy_pickle, "file.pkl"),
    "dcp": distributed,
}


def single_safetensors(weights: Weights, folder: Path) -> Path:
    safetensors.torch.save_file(weights, folder / "file.safetensors")
    return folder / "file.safetensors"


def npz(weights: Weights, folder: Path) -> Path:
    np.savez(folder / "file.npz", **as_numpy(weights))
    return folder / "file.npz"


def sharded(suffix: str, save: Callable[[Any, Path], None]) -> Callable[[Weights, Path], Path]:
    def write(weights: Weights, folder: Path) -> Path:
        keys = list(weights)
        shards = {f"part-{i}.{suffix}": keys[i::2] for i in range(2)}
        for name, part in shards.items():
            save({key: weights[key] for key in part}, folder / name)
        stem = "model.safetensors" if suffix == "safetensors" else "pytorch_model.bin"
        index = dict(metadata={}, weight_map={key: name for name, part in shards.items() for key in part})
        (folder / f"{stem}.index.json").write_text(json.dumps(index))
        return folder

    return write


FLAT = {
    "safetensors": single_safetensors,
    "npz": npz,
    "safetensors shards": sharded("safetensors", safetensors.torch.save_file),
    "torch shards": sharded("bin", torch.save),
}


def check(path: Path, source: Net) -> None:
    target = Net()
    report = load_pretrained(target, path)
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]), (name, str(report))
    assert not report.fresh and not report.unexpected and not report.mismatched, str(report)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("form", NESTED)
def test_containers_and_wrappers(form: str, container: str, tmp_path: Path) -> None:
    source = net()
    for number, prefix in enumerate(PREFIXES if form == "zip" else PREFIXES[:3]):
        folder = tmp_path / str(number)
        folder.mkdir()
        weights = {prefix + name: tensor for name, tensor in source.state_dict().items()}
        check(NESTED[form](CONTAINERS[container](weights), folder), source)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("form", FLAT)
def test_flat_formats_and_wrappers(form: str, prefix: str, tmp_path: Path) -> None:
    source = net()
    check(FLAT[form]({prefix + name: t for name, t in source.state_dict().items()}, tmp_path), source)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_torchscript_archive(tmp_path: Path) -> None:
    source = net().eval()
    torch.jit.trace(source, torch.zeros(2, 3, 8, 8)).save(tmp_path / "file.pt")
    check(tmp_path / "file.pt", source)
