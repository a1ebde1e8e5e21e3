"""Folders: which file in them is the checkpoint, and files that are split into shards by an index."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from framework.pretrain.errors import CheckpointError, DamagedCheckpointError, NotAllowedError
from framework.pretrain.formats.blob import Blob, FileBlob
from framework.pretrain.formats.file import File, file_beside
from framework.pretrain.formats.safetensors_file import parse_json
from framework.pretrain.formats.sniff import sniff
from framework.pretrain.formats.tree import Contents, Node

_FIRST_CHOICES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
"""What Hugging Face's libraries write, in the order in which they look for it."""

_MAX_INDEX = 1 << 28
_MAX_LISTED = 1000

Reader = Callable[[Path], Contents]


def find_checkpoint(folder: Path) -> Path:
    """Return the file in a folder that is its checkpoint.

    Args:
        folder: An existing folder.

    Raises:
        NotAllowedError: It may not be listed.
        CheckpointError: It holds none, or several.
    """
    for name in _FIRST_CHOICES:
        if os.path.isfile(folder / name):
            return folder / name
    try:
        names = sorted(os.listdir(folder))[:_MAX_LISTED]
    except OSError as error:
        raise NotAllowedError(f"'{folder}' may not be listed: {error.strerror}") from error
    found = [name for name in names if _is_checkpoint(folder / name)]
    indices = [name for name in found if name.endswith(".index.json")]
    if len(indices) == 1:
        return folder / indices[0]
    if len(found) != 1:
        which = f"{len(found)} checkpoints ({', '.join(found[:8])}): name one" if found else "no checkpoint"
        raise CheckpointError(f"the folder holds {which}")
    return folder / found[0]


def read_shards(index: FileBlob, read: Reader) -> Contents:
    """Return the tensors of a file that was split into shards.

    Args:
        index: A `*.index.json` of Hugging Face: which tensor is in which file beside it.
        read: Reads one shard.

    Raises:
        DamagedCheckpointError: It names files outside its folder, or tensors that are not in their shard.
        CheckpointError: A shard is missing or cannot be read.
    """
    places = _weight_map(index)
    folder = index.file.path.parent
    shards = {name: read(file_beside(folder, name)) for name in sorted(set(places.values()))}
    tree: dict[str, Node] = {}
    for key, name in places.items():
        if key not in shards[name].tree:
            raise DamagedCheckpointError(
                f"the index says that '{key[:80]}' is in '{name}', but it is not there"
            )
        tree[key] = shards[name].tree[key]
    kinds = {
        "safetensors shards" if shard.format == "safetensors" else "torch shards" for shard in shards.values()
    }
    replaced = {name for shard in shards.values() for name in shard.replaced}
    return Contents(max(kinds, default="safetensors shards"), _with_unlisted(tree, shards), sorted(replaced))


def _weight_map(index: Blob) -> Mapping[str, str]:
    if index.size > _MAX_INDEX:
        raise DamagedCheckpointError(f"an index of {index.size} bytes")
    places = parse_json(index.read(0, index.size)).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise DamagedCheckpointError("the index has no 'weight_map' of names to files")
    return places


def _with_unlisted(tree: dict[str, Node], shards: Mapping[str, Contents]) -> dict[str, Node]:
    """Add what the shards hold beyond the index; a name that the index places elsewhere stays as placed."""
    for shard in shards.values():
        for key, node in shard.tree.items():
            tree.setdefault(key, node)
    return tree


def _is_checkpoint(path: Path) -> bool:
    if not os.path.isfile(path):
        return False
    try:
        return sniff(FileBlob(File(path))) != ""
    except (CheckpointError, NotAllowedError):
        return False
