"""A local file -> names and shapes now, tensors on request. The only place that unpickles."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from framework.pretrain.errors import CheckpointError
from framework.pretrain.formats.blob import File, FileBlob
from framework.pretrain.formats.lazy import LazyTensor
from framework.pretrain.formats.safetensors_file import read_safetensors
from framework.pretrain.formats.stubs import Inert
from framework.pretrain.formats.torch_zip import archive_folder, read_torch_zip
from framework.pretrain.formats.tree import Contents, Node
from framework.pretrain.formats.zip_directory import read_directory

__all__ = ["Checkpoint", "Inert", "LazyTensor", "Node", "open_checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """Names and shapes of a file, with its tensors on request.

    Attributes:
        path: The file or folder.
        format: What it is: 'torch zip', 'torch legacy', 'safetensors', 'safetensors shards', 'torch shards', 'npz',
            'pickle', 'torchscript' or 'torch.distributed.checkpoint'.
        tree: Nested dicts; leaves are `LazyTensor`, plain values, lists of them, or `Inert`.
        replaced: Names of the classes and functions whose objects were replaced by inert ones, sorted.
    """

    path: Path
    format: str
    tree: Mapping[str, Node]
    replaced: tuple[str, ...] = ()


def open_checkpoint(path: str | os.PathLike[str], *, trust_pickle: bool = False) -> Checkpoint:
    """Tell what a file is by its content, and read what it holds except for the values.

    Args:
        path: A file, a folder with one checkpoint (Hugging Face, torch.distributed.checkpoint), or an index of shards.
        trust_pickle: Let a file that is refused as unsafe run its code.

    Returns:
        Names, shapes and everything else that is small.

    Raises:
        NotFoundError: There is nothing at that path.
        UnsafeCheckpointError: It names functions that run code, and `trust_pickle` is off.
        DamagedCheckpointError: It is truncated, or its description of itself is false.
        CheckpointError: It is no checkpoint of a known format.
    """
    path = Path(path).expanduser()
    try:
        contents = _read_file(File(path))
    except CheckpointError as error:
        raise type(error)(f"'{path}': {error}") from error
    return Checkpoint(path, contents.format, contents.tree, tuple(contents.replaced))


def _read_file(file: File) -> Contents:
    blob = FileBlob(file)
    if blob.read(0, min(4, blob.size)) == b"PK\3\4":
        members = read_directory(blob)
        folder = archive_folder(members)
        if folder is None:
            raise CheckpointError("a zip archive, but not one of torch.save")
        return read_torch_zip(blob, members, folder)
    return read_safetensors(blob)
