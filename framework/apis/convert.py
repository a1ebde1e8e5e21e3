"""A file of weights in another library's names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from framework.apis.model import get_model
from framework.apis.new_file import check_new, new_file
from framework.pretrain.checkpoint import open_checkpoint
from framework.pretrain.errors import SpecError
from framework.pretrain.fold import fold
from framework.pretrain.inventory import take_inventory
from framework.pretrain.report import LoadReport
from framework.pretrain.source import fetch
from framework.pretrain.spec import parse_spec
from framework.pretrain.translate import export, read_weights, rename

#: Endings of the files that can be written.
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".npz")


def convert(
    pretrain: str | os.PathLike[str] | Mapping[str, Any],
    dialect: str,
    out: str | os.PathLike[str],
    config: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> str:
    """Write the weights of a file in another library's names and shapes.

    Args:
        pretrain: The file: a path, an address, or a dict with the fields of `pretrain`.
        dialect: The naming scheme to write.
        out: The file to write: .safetensors, .npz, or a torch file (.pth, .pt, .bin).
        config: A config whose model the weights are for. Needed where a scheme has an axis for the attention
            heads, whose number a file does not tell.
        overwrite: Replace `out` where it is there already.

    Returns:
        What was written, and what of the file was left out, in words.

    Raises:
        SpecError: The ending of `out` is unknown, it is there already, or the family has no such scheme.
        OSError: It cannot be written there. Nothing is left of it, and what was there stays.
        PretrainError: The file cannot be had or read, or the scheme cannot hold its weights.
    """
    target = Path(out)
    if target.suffix not in SUFFIXES:
        raise SpecError(f"'{target}': the ending says the format, and is one of {', '.join(SUFFIXES)}")
    check_new(target, overwrite)
    if config is not None:
        model = get_model(config, pretrain)
        report = model.pretrain_report
        assert isinstance(report, LoadReport), "the model was built from a file"
        tensors, left = export(model, dialect), list(report.unexpected)
    else:
        tensors, left = _translated(pretrain, dialect)
    _save(tensors, target)
    kept = f"{target}: {len(tensors)} tensors in {dialect} names"
    return f"{kept}. Left out: {', '.join(fold(left))}" if left else kept


def _translated(pretrain: Any, dialect: str) -> tuple[dict[str, Tensor], list[str]]:
    spec = parse_spec(pretrain, "pretrain")
    path = fetch(spec.path, sha256=spec.sha256, url_mapping=spec.url_mapping)
    file = take_inventory(open_checkpoint(path, trust_pickle=spec.trust_pickle), spec)
    weights, left = read_weights(file, spec.dialect)
    return rename(weights, dialect), left


def _save(tensors: Mapping[str, Tensor], target: Path) -> None:
    try:
        with new_file(target) as path:
            _write(tensors, path)
    except (RuntimeError, SafetensorError) as error:  # torch's and safetensors' words for a full disk
        raise OSError(f"'{target}' cannot be written: {error.__context__ or error}") from error


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    if path.suffix == ".safetensors":
        save_file(dict(tensors), path, metadata={"format": "pt"})
    elif path.suffix == ".npz":
        arrays: dict[str, Any] = {name: _array(tensor) for name, tensor in tensors.items()}
        np.savez(path, **arrays)
    else:
        with path.open("wb") as stream:
            torch.save(dict(tensors), stream)


def _array(tensor: Tensor) -> Any:
    """Return an array; of the floating-point types numpy has no bfloat16, and none of eight bits."""
    held = tensor.dtype in (torch.float16, torch.float32, torch.float64) or not tensor.is_floating_point()
    return (tensor if held else tensor.float()).numpy()
