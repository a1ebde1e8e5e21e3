"""A local file -> names and shapes now, tensors on request. The only place that unpickles."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from framework.pretrain.errors import CheckpointError, UnsafeCheckpointError
from framework.pretrain.formats.blob import Blob, FileBlob
from framework.pretrain.formats.dcp import METADATA, read_distributed
from framework.pretrain.formats.file import File, naming
from framework.pretrain.formats.folder import find_checkpoint, read_shards
from framework.pretrain.formats.lazy import LazyTensor
from framework.pretrain.formats.npz import read_npz
from framework.pretrain.formats.pickle_file import read_pickle
from framework.pretrain.formats.safetensors_file import read_safetensors
from framework.pretrain.formats.sniff import ACCEPTED, sniff
from framework.pretrain.formats.stubs import Inert
from framework.pretrain.formats.torch_legacy import read_torch_legacy
from framework.pretrain.formats.torch_zip import archive_folder, read_torch_zip
from framework.pretrain.formats.tree import Contents, Node, check_names
from framework.pretrain.formats.zip_directory import read_zip

__all__ = ["Checkpoint", "Inert", "LazyTensor", "Node", "open_checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """Names and shapes of a file, with its tensors on request.

    Attributes:
        path: The file or folder.
        format: 'torch zip', 'torch legacy', 'torch shards', 'torchscript', 'torch.distributed.checkpoint',
            'safetensors', 'safetensors shards', 'npz' or 'pickle'.
        tree: Nested dicts; leaves are `LazyTensor`, plain values, lists, or `Inert`.
        replaced: Names of the classes and functions whose objects were replaced by inert ones, sorted.
        metadata: What a safetensors file says of itself beside its tensors.
    """

    path: Path
    format: str
    tree: Mapping[str, Node]
    replaced: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def open_checkpoint(path: str | os.PathLike[str], *, trust_pickle: bool = False) -> Checkpoint:
    """Tell what a file is by its content, and read all that it holds except for the values of tensors.

    Args:
        path: A file, an index of shards (`*.index.json`), or a folder with one checkpoint.
        trust_pickle: Let a file run its code that would be refused as unsafe otherwise.

    Returns:
        Names, shapes and everything else that is small.

    Raises:
        NotFoundError: There is nothing at that path.
        NotAllowedError: It may not be read.
        UnsafeCheckpointError: It names functions that run code, and `trust_pickle` is off.
        DamagedCheckpointError: It is truncated, or its description of itself is false.
        CheckpointError: It is no checkpoint of a known format.
    """
    path = Path(os.path.expanduser(path))
    read = _read_folder if os.path.isdir(path) else _read_file
    contents = read(path, trust=trust_pickle)
    return _checkpoint(path, contents)


def open_distant(file: Blob, name: str) -> Checkpoint | None:
    """Read names and shapes of a file that stays elsewhere, from as few parts of it as will do.

    Args:
        file: All of it.
        name: What to call it in messages.

    Returns:
        Names and shapes; None for formats of which nearly all must be looked at.

    Raises:
        CheckpointError: As `open_checkpoint`.
    """
    with naming(Path(name)):
        kind = sniff(file)
        if kind not in ("zip", "safetensors"):
            return None
        contents = _READERS[kind](file)
    return _checkpoint(Path(name), contents)


def _checkpoint(path: Path, contents: Contents) -> Checkpoint:
    with naming(path):
        check_names(contents.tree)
    return Checkpoint(path, contents.format, contents.tree, tuple(contents.replaced), contents.metadata)


def _read_folder(path: Path, *, trust: bool) -> Contents:
    with naming(path):
        if os.path.isfile(path / METADATA):
            return read_distributed(FileBlob(File(path / METADATA)))
        found = find_checkpoint(path)
    return _read_file(found, trust=trust)


def _read_file(path: Path, *, trust: bool) -> Contents:
    with naming(path):
        file = FileBlob(File(path))
        if sniff(file) == "index":
            return read_shards(file, lambda shard: _read_single(shard, trust=trust))
    return _read_single(path, trust=trust)


def _read_single(path: Path, *, trust: bool) -> Contents:
    with naming(path):
        file = FileBlob(File(path))
        kind = sniff(file)
        if kind == "index":
            raise CheckpointError("an index of shards, which cannot be a shard itself")
        try:
            return _READERS[kind](file)
        except UnsafeCheckpointError:
            if not trust:
                raise
            from framework.pretrain.formats.trusted import read_trusted  # needs torch

            return read_trusted(path, kind)


def _read_zip_file(file: Blob) -> Contents:
    records = read_zip(file)
    if archive_folder(records) is not None:
        return read_torch_zip(records)
    if any(name.endswith(".npy") for name in records):
        return read_npz(records)
    names = ", ".join(repr(name) for name in list(records)[:3]) or "nothing"
    raise CheckpointError(
        f"a zip archive, but of something else (it holds {names} ...). Accepted are {ACCEPTED}"
    )


_READERS: Mapping[str, Callable[[Blob], Contents]] = {
    "zip": _read_zip_file,
    "torch legacy": read_torch_legacy,
    "pickle": read_pickle,
    "safetensors": read_safetensors,
}
