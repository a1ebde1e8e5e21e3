"""The tensors of a file by comparable names: containers joined, rules applied, wrappers taken off."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from framework.errors import did_you_mean
from framework.pretrain.checkpoint import Checkpoint, LazyTensor
from framework.pretrain.dialects.common import WRAPPERS
from framework.pretrain.errors import CheckpointError, MismatchError
from framework.pretrain.spec import PretrainSpec
from framework.pretrain.stacked import unstacked


@dataclass(frozen=True)
class FileTensor:
    """One tensor of a file.

    Attributes:
        key: Its key as the file has it, behind the dotted path of its container.
        entry: The container's dotted path, '' for the top level.
        tensor: Shape, dtype and the way to the values.
    """

    key: str
    entry: str
    tensor: LazyTensor


@dataclass(frozen=True)
class Inventory:
    """What a file holds.

    Attributes:
        tensors: Name for comparison -> tensor. A name is the container's path and the key without wrappers.
        entries: Dotted path of each container that holds tensors -> how many, in the file's order.
        idle_rules: `revise_keys` patterns that matched no key.
    """

    tensors: Mapping[str, FileTensor]
    entries: Mapping[str, int]
    idle_rules: tuple[str, ...]


def take_inventory(checkpoint: Checkpoint, spec: PretrainSpec) -> Inventory:
    """List the tensors of a checkpoint, narrowed to `spec.key` and `spec.sub_level`.

    Raises:
        CheckpointError: There is no tensor in the file.
        MismatchError: `key` or `sub_level` is not in the file, or a rule makes two keys equal.
    """
    everything = list(unstacked(_flatten(checkpoint.tree, "")))
    if not everything:
        raise CheckpointError(f"{checkpoint.path}: there is no tensor in this file ({checkpoint.format})")
    chosen = _under_key(everything, spec.key, checkpoint)
    named, idle = _revise(chosen, spec.revise_keys, checkpoint)
    named = _unwrap(named)
    if spec.sub_level is not None:
        named = _under_sub_level(named, spec.sub_level, checkpoint)
    entries: dict[str, int] = {}
    for one in named.values():
        entries[one.entry] = entries.get(one.entry, 0) + 1
    return Inventory(named, entries, idle)


def join(prefix: str, name: str) -> str:
    """Put a dotted path before a name."""
    return f"{prefix}.{name}" if prefix else name


def _flatten(node: Mapping[str, Any], entry: str) -> Iterator[FileTensor]:
    for key, value in node.items():
        if isinstance(value, LazyTensor):
            yield FileTensor(join(entry, key), entry, value)
        elif isinstance(value, Mapping):
            yield from _flatten(value, join(entry, key))


def _under_key(tensors: list[FileTensor], key: str | None, checkpoint: Checkpoint) -> list[FileTensor]:
    if key is None:
        return tensors
    chosen = [t for t in tensors if t.entry == key or t.entry.startswith(f"{key}.")]
    if not chosen:
        entries = list(dict.fromkeys(t.entry for t in tensors if t.entry))
        known = f" Entries with tensors: {', '.join(entries[:12])}" if entries else " The file has no entries"
        raise MismatchError(
            f"{checkpoint.path}: there is no entry '{key}'{did_you_mean(key, entries) or '.'}{known}"
        )
    return chosen


def _revise(
    tensors: list[FileTensor], rules: tuple[tuple[str, str], ...], checkpoint: Checkpoint
) -> tuple[dict[str, FileTensor], tuple[str, ...]]:
    """Apply the user's renaming to the keys within their containers."""
    named: dict[str, FileTensor] = {}
    used: set[str] = set()
    for one in tensors:
        key = one.key[len(one.entry) + 1 :] if one.entry else one.key
        for pattern, replacement in rules:
            key, count = re.subn(pattern, replacement, key)
            if count:
                used.add(pattern)
        name = join(one.entry, key).replace("/", ".")
        other = named.setdefault(name, one)
        if other is not one and other.tensor.identity != one.tensor.identity:
            raise MismatchError(
                f"{checkpoint.path}: '{other.key}' and '{one.key}' are both called '{name}' after "
                "`revise_keys`. Make the patterns narrower, so that every key keeps a name of its own"
            )
    return named, tuple(_idle(pattern, tensors) for pattern, _ in rules if pattern not in used)


def _idle(pattern: str, tensors: list[FileTensor]) -> str:
    """Return a pattern that matched nothing, with the keys that look most like it."""
    parts = {one.key.rsplit(".", n)[0] for one in tensors for n in range(one.key.count(".") + 1)}
    return pattern + did_you_mean(re.sub(r"[\\^$()?*+]", "", pattern).rstrip("."), parts)


def unwrapped(name: str) -> str:
    """Take the segments of wrapper modules out of a name."""
    if not any(wrapper in name for wrapper in WRAPPERS):
        return name
    segments = name.split(".")
    return ".".join([s for s in segments[:-1] if s not in WRAPPERS] + segments[-1:])


def unwrapped_names(names: Iterable[str]) -> dict[str, str]:
    """Return names without wrappers -> the names; one that would meet another keeps its wrappers."""
    names = list(names)
    plain = set(names)
    result: dict[str, str] = {}
    for name in names:
        short = unwrapped(name)
        clash = short != name and (short in plain or short in result)
        result[name if clash else short] = name
    return result


def last_of(name: str) -> str:
    """Return the last segment of a name."""
    return name.rsplit(".", 1)[-1]


def _unwrap(named: Mapping[str, FileTensor]) -> dict[str, FileTensor]:
    """Take wrappers off the keys; a key that would meet another keeps them."""
    result: dict[str, FileTensor] = {}
    for name, one in named.items():
        inner = name[len(one.entry) + 1 :] if one.entry else name
        short = join(one.entry.replace("/", "."), unwrapped(inner))
        clash = short != name and (short in result or short in named)
        result[name if clash else short] = one
    return result


def _under_sub_level(
    named: Mapping[str, FileTensor], sub_level: str, checkpoint: Checkpoint
) -> dict[str, FileTensor]:
    """Keep what is under `sub_level`, counted from a container of the file."""
    nodes = {"", *(one.entry for one in named.values())}
    nodes |= {node[:i] for node in nodes for i, c in enumerate(node) if c == "."}
    heads = tuple(f"{join(node, part)}." for node in nodes for part in {sub_level, unwrapped(sub_level)})
    chosen = {name: one for name, one in named.items() if name.startswith(heads)}
    if not chosen:
        parts = _parts(named)
        raise MismatchError(
            f"{checkpoint.path}: there is no part '{sub_level}'{did_you_mean(sub_level, parts) or '.'} "
            f"Parts of the file: {', '.join(f'{name} ({count})' for name, count in list(parts.items())[:12])}"
        )
    return chosen


def _parts(named: Mapping[str, FileTensor]) -> dict[str, int]:
    """Count the tensors of each first-level part of the containers."""
    parts: dict[str, int] = {}
    for name, one in named.items():
        inner = name[len(one.entry) + 1 :] if one.entry else name
        part = inner.split(".", 1)[0]
        parts[part] = parts.get(part, 0) + 1
    return parts
