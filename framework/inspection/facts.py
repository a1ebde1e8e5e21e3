"""What a checkpoint holds, as plain facts: names, shapes and sizes, who wrote it, and what it is.

Names and shapes are read, values are not; only the hash takes the whole file.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.inspection.architecture import Architecture, recognise
from framework.inspection.metadata import metadata_of, producer_of, wrappers_in
from framework.pretrain.checkpoint import Checkpoint, open_checkpoint, open_distant
from framework.pretrain.inventory import Inventory, take_inventory
from framework.pretrain.source import fetch, located
from framework.pretrain.sources.address import basename, scheme_of, shown
from framework.pretrain.sources.digest import sha256_of
from framework.pretrain.sources.ranges import open_remote
from framework.pretrain.spec import PretrainSpec, parse_spec


@dataclass(frozen=True)
class TensorFacts:
    """One tensor of a file.

    Attributes:
        key: Its key, behind the dotted path of its container.
        entry: The container's dotted path, '' for the top level.
        shape: Its shape.
        dtype: Its type, as 'float32'.
        elements: Number of elements.
        nbytes: Bytes that its values take.
        same_as: Key of an earlier tensor that is the same view of the same storage, or None.
    """

    key: str
    entry: str
    shape: tuple[int, ...]
    dtype: str
    elements: int
    nbytes: int
    same_as: str | None


@dataclass(frozen=True)
class GroupFacts:
    """Tensors that stand together: an entry of the container, or those behind a prefix.

    Attributes:
        name: Dotted path of the entry ('' for the top level), or the prefix.
        tensors: How many.
        elements: Their elements together.
        nbytes: Their bytes together.
    """

    name: str
    tensors: int
    elements: int
    nbytes: int


@dataclass(frozen=True)
class FileFacts:
    """What a checkpoint holds.

    Attributes:
        path: The address as given, without secrets.
        file: The local file or folder; None where it stays where it is, and only parts of it were read.
        size: Bytes of the file, of all files of a folder together.
        bytes_read: Bytes that came over the network; None for a local file.
        format: As `Checkpoint.format`.
        producer: Who wrote it, in words; '' where nothing tells.
        wrappers: Wrapper modules whose names stand in the keys ('module', '_orig_mod').
        entries: The containers that hold tensors, in the file's order; numbered ones are put together.
        entry: The entry that a load would take; '' for the top level.
        parts: The first-level parts of that entry.
        architecture: What the network is; None where no table of names knows it.
        tensors: Every tensor, in the file's order.
        elements: Elements of all tensors, those of the same storage counted once.
        parameters: Those of them in `entry`.
        dtypes: Type -> number of tensors.
        sha256: The hash of the file; None for a folder, where only parts were read, or if not asked for.
        metadata: What else the file says, harmless values alone: names, numbers, short texts and lists.
        replaced: Names of classes and functions of which the file holds objects. They were not made.
        remark: How the file was had, where that deserves a word.
    """

    path: str
    file: Path | None
    size: int
    bytes_read: int | None
    format: str
    producer: str
    wrappers: tuple[str, ...]
    entries: tuple[GroupFacts, ...]
    entry: str
    parts: tuple[GroupFacts, ...]
    architecture: Architecture | None
    tensors: tuple[TensorFacts, ...]
    elements: int
    parameters: int
    dtypes: Mapping[str, int]
    sha256: str | None
    metadata: Mapping[str, Any]
    replaced: tuple[str, ...]
    remark: str

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as plain values, for JSON."""
        plain = _plain(self)
        assert isinstance(plain, dict)
        return plain


def inspect_file(pretrain: str | os.PathLike[str] | Mapping[str, Any], *, sha256: bool = True) -> FileFacts:
    """Tell what a checkpoint holds, without a model.

    Args:
        pretrain: A path, an address, or a dict with the fields of `pretrain`: `key`, `sub_level` and
            `revise_keys` narrow what is looked at.
        sha256: Whether to hash the file, which takes about a second per gigabyte.

    Returns:
        The facts.

    Raises:
        PretrainError: The file cannot be had or read.
    """
    spec = parse_spec(pretrain)
    facts = _inspect_parts(spec) if spec.sha256 is None else None
    if facts is not None:
        return facts
    path = fetch(spec.path, sha256=spec.sha256, url_mapping=spec.url_mapping)
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(sha256_of, path) if sha256 and path.is_file() else None
        checkpoint = open_checkpoint(path, trust_pickle=spec.trust_pickle)
        facts = facts_of(checkpoint, spec)
        return dataclasses.replace(facts, sha256=digest.result() if digest else None, remark=_remark(spec))


def _inspect_parts(spec: PretrainSpec) -> FileFacts | None:
    """Look at the parts of a remote file that tell names and shapes; None where the whole is needed."""
    remote = open_remote(located(spec.path, spec.url_mapping))
    if remote is None:
        return None
    with closing(remote):
        checkpoint = open_distant(remote, basename(spec.path))
        if checkpoint is None:
            return None
        facts = facts_of(checkpoint, spec, remote.size)
        return dataclasses.replace(facts, file=None, bytes_read=remote.bytes_read)


def _remark(spec: PretrainSpec) -> str:
    if scheme_of(spec.path) in (None, "file", "local"):
        return ""
    return "downloaded as a whole: its parts cannot be had alone, or would not do"


def facts_of(checkpoint: Checkpoint, spec: PretrainSpec, size: int | None = None) -> FileFacts:
    """Tell what an open checkpoint holds; its hash is left open.

    Args:
        checkpoint: The file.
        spec: How it was asked for.
        size: Its bytes, where it is no local file.

    Raises:
        CheckpointError: There is no tensor in it.
        MismatchError: `key` or `sub_level` is not in the file.
    """
    file = take_inventory(checkpoint, spec)
    tensors = _tensors(file)
    architecture = recognise(file, spec)
    entry = architecture.entry if architecture else _largest(tensors)
    inside = [one for one in tensors if one.entry == entry]
    distinct = [one for one in tensors if one.same_as is None]
    return FileFacts(
        path=shown(spec.path),
        file=checkpoint.path,
        size=_size(checkpoint.path) if size is None else size,
        bytes_read=None,
        format=checkpoint.format,
        producer=producer_of(checkpoint, file, architecture),
        wrappers=wrappers_in(one.key for one in tensors),
        entries=_groups(tensors, lambda one: unnumbered(one.entry)),
        entry=entry,
        parts=_parts(inside),
        architecture=architecture,
        tensors=tuple(tensors),
        elements=sum(one.elements for one in distinct),
        parameters=sum(one.elements for one in distinct if one.entry == entry),
        dtypes=_counts(tensors),
        sha256=None,
        metadata=metadata_of(checkpoint),
        replaced=checkpoint.replaced,
        remark="",
    )


def _tensors(file: Inventory) -> list[TensorFacts]:
    first: dict[Any, str] = {}
    facts = []
    for one in file.tensors.values():
        tensor = one.tensor
        key = first.setdefault(tensor.identity, one.key)
        dtype = tensor.kind.name
        same_as = key if key != one.key else None
        facts.append(
            TensorFacts(
                one.key, one.entry, tensor.shape, dtype, math.prod(tensor.shape), tensor.nbytes, same_as
            )
        )
    return facts


def _largest(tensors: Sequence[TensorFacts]) -> str:
    """Return the entry with most elements."""
    sizes: dict[str, int] = {}
    for one in tensors:
        sizes[one.entry] = sizes.get(one.entry, 0) + one.elements
    return max(sizes, key=sizes.__getitem__)


def unnumbered(entry: str) -> str:
    """Return an entry's path up to its first number: `optimizer.state.12` is one of many."""
    segments = entry.split(".")
    at = next((i for i, segment in enumerate(segments) if segment.isdigit()), len(segments))
    return ".".join(segments[:at])


def _parts(tensors: Sequence[TensorFacts]) -> tuple[GroupFacts, ...]:
    """Group the tensors of an entry by the first segment in which their keys differ."""
    inner = {one.key: _within_entry(one).split(".") for one in tensors}
    common = 0
    while len({tuple(segments[: common + 1]) for segments in inner.values()}) == 1 and all(
        len(segments) > common + 1 for segments in inner.values()
    ):
        common += 1
    return _groups(tensors, lambda one: ".".join(inner[one.key][: common + 1]))


def _within_entry(one: TensorFacts) -> str:
    inner = one.key[len(one.entry) + 1 :] if one.entry else one.key
    return inner.replace("/", ".")


def _groups(tensors: Sequence[TensorFacts], name_of: Any) -> tuple[GroupFacts, ...]:
    groups: dict[str, list[TensorFacts]] = {}
    for one in tensors:
        groups.setdefault(name_of(one), []).append(one)
    return tuple(
        GroupFacts(name, len(ones), sum(t.elements for t in ones), sum(t.nbytes for t in ones))
        for name, ones in groups.items()
    )


def _counts(tensors: Sequence[TensorFacts]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in tensors:
        counts[one.dtype] = counts.get(one.dtype, 0) + 1
    return counts


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files)


def _plain(value: Any) -> Any:
    """Return dataclasses as dicts, paths as text, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
