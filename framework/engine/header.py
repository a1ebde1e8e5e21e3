"""The first lines of a run: what is needed to know it again and to repeat it."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn
from torch.utils.data import DataLoader

import framework

#: Fields that say where a run happens and not what it does.
PLACES = ("work_dir", "launcher", "resume")

LIBRARIES = ("torchvision", "mmengine")


def describe_run(cfg: Config, seed: int, processes: int) -> str:
    """Return three lines: versions; config, its hash, git commit and seed; devices."""
    ours = f"framework {framework.__version__}, torch {torch.__version__}"
    versions = ", ".join([ours, *map(_version, LIBRARIES)])
    threads = _count(torch.get_num_threads(), "thread", "s")
    file = cfg.filename or "none"
    commit = git_commit(Path(file).parent) if cfg.filename else "none"
    return (
        f"{versions}, Python {platform.python_version()}\n"
        f"config {file}, hash {config_hash(cfg)}, git commit {commit}, seed {seed}\n"
        f"{_count(processes, 'process', 'es')} on {_device()}, {threads}"
    )


def config_hash(cfg: Mapping[str, Any]) -> str:
    """Return 12 hex digits that are the same for the same config, wherever it runs and whoever resumes it."""
    plain = cfg.to_dict() if isinstance(cfg, Config) else dict(cfg)
    what = {name: value for name, value in plain.items() if name not in PLACES}
    text = json.dumps(what, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def git_commit(folder: Path) -> str:
    """Return the commit of the repository that `folder` belongs to, or 'none' outside of one.

    '(with changes)' follows if a file that git knows differs from the commit.
    """
    commit = _git(folder, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return "none"
    return f"{commit} (with changes)" if _git(folder, "diff", "HEAD", "--name-only") else commit


def describe_model(model: nn.Module, resumed: str = "") -> str:
    """Return one line: how many parameters a model has, and where their values were loaded from.

    Args:
        model: The model.
        resumed: The checkpoint that all of them come from, if the run goes on from one.
    """
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    total, trainable = sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)
    sources = resumed or "; ".join(_sources(model)) or "nothing, all are initial values"
    return f"{type(model).__name__}: {total:,} parameters, {trainable:,} trainable; loaded from {sources}"


def describe_data(loader: DataLoader[Any], processes: int) -> str:
    """Return one line: how many items a data loader has, and how they fall into batches."""
    dataset, batch = loader.dataset, loader.batch_size or 0
    items = len(dataset)  # type: ignore[arg-type]
    own = len(loader.sampler)  # type: ignore[arg-type]
    kind = type(getattr(dataset, "dataset", dataset)).__name__
    several = f" on each of {processes} processes" if processes > 1 else ""
    text = f"{kind}, {items:,} items, {len(loader):,} batches of {batch}{several}"
    rest = own % batch if batch else 0
    if rest:
        text += f", the last {rest} items left out" if loader.drop_last else f", the last of {rest}"
    twice = own * processes - items
    return f"{text}; {twice} items come twice, to divide by {processes}" if 0 < twice < processes else text


def _sources(model: nn.Module) -> Iterator[str]:
    for name, module in model.named_modules():
        report = vars(module).get("pretrain_report")
        if report is not None:
            yield f"{report.path} ({report.coverage:.0%} of {name or 'the model'})"


def _git(folder: Path, *arguments: str) -> str:
    try:
        run = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
    except OSError:  # git is not installed
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def _version(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return f"{library} of unknown version"


def _device() -> str:
    if not torch.cuda.is_available():
        return "the CPU"
    return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"


def _count(number: int, word: str, plural: str) -> str:
    return f"{number} {word}{plural if number > 1 else ''}"
