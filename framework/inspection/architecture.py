"""Of what architecture a file is, and the config that builds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from framework.inspection.guess import guess_arguments
from framework.pretrain import recognise as names
from framework.pretrain.dialects.common import BOOKKEEPING, COMPUTED
from framework.pretrain.fold import fold, layer_of
from framework.pretrain.inventory import Inventory, last_of
from framework.pretrain.operation import names_of
from framework.pretrain.spec import PretrainSpec

#: What cuts an image into patches: nothing there may be left over.
PATCHES = "patch_embed."


@dataclass(frozen=True)
class Architecture:
    """What the network of a file is, as far as names and shapes tell.

    Attributes:
        family: Name of the table of names that knows it, as 'vision_transformer'.
        title: The family in words.
        dialect: The file's naming scheme.
        producers: Who writes files in this scheme.
        entry: The container that holds it, '' for the top level.
        prefix: What stands before its names in the entry.
        alternatives: Prefixes of other networks in the file that would fit as well.
        figures: What can be told of it: depth, width, patch, image size, classes, ...
        arguments: `type` and arguments of the backbone that it fills; empty where no class here is like it.
        assumed: Names of the arguments that the file does not tell: their values are the usual ones.
        sources: Our name of each of its tensors -> the file's keys.
        unlike: What keeps the class of the family from computing the same, folded: names of ours that the
            file lacks or has in another shape, and keys of its layers that the class has no place for. Then
            there are no arguments.
    """

    family: str
    title: str
    dialect: str
    producers: str
    entry: str
    prefix: str
    alternatives: tuple[str, ...]
    figures: Mapping[str, Any]
    arguments: Mapping[str, Any]
    assumed: tuple[str, ...]
    sources: Mapping[str, tuple[str, ...]]
    unlike: tuple[str, ...]


def recognise(file: Inventory, spec: PretrainSpec) -> Architecture | None:
    """Tell what the network of a file is; None where no table of names knows it."""
    found = names.recognise(file, spec.dialect)
    if found is None:
        return None
    table, alignment = found.reading.table, found.alignment
    sources = {
        ours: tuple(file.tensors[name].key for name in names_of(entry))
        for ours, entry in alignment.pairs.items()
    }
    entry = _entry(found, file)
    prefix = alignment.file_prefix
    stored = {name: one.tensor.shape for name, one in file.tensors.items()}
    guess = guess_arguments(table.name, found.shapes, stored)
    if not guess.figures:  # a few names by chance: not even the depth can be told
        return None
    dialect = alignment.dialect or found.reading.column
    excess = _excess(found, file)
    return Architecture(
        family=table.name,
        title=table.title,
        dialect=dialect,
        producers=table.columns[dialect].producers,
        entry=entry,
        prefix=_inside(prefix, entry),
        alternatives=tuple(_inside(one, entry).rstrip(".") for one in alignment.alternatives),
        figures=guess.figures,
        arguments={} if excess else guess.arguments,
        assumed=() if excess else tuple(guess.assumed),
        sources=sources,
        unlike=(*fold(guess.missing, sources), *fold(excess, chain.from_iterable(sources.values()))),
    )


def _excess(found: names.Recognised, file: Inventory) -> list[str]:
    """Return keys of layers of the network that the class of its family has no place for."""
    used = {name for entry in found.alignment.pairs.values() for name in names_of(entry)}
    layers = {layer_of(name) for name in used} - {""}
    return [
        one.key
        for name, one in file.tensors.items()
        if name not in used
        and one.tensor.numel
        and last_of(name) not in COMPUTED | BOOKKEEPING
        and (layer_of(name) in layers or name.startswith(f"{found.alignment.file_prefix}{PATCHES}"))
    ]


def _inside(prefix: str, entry: str) -> str:
    """Return a prefix without the path of the entry, where it is in it."""
    return prefix.removeprefix(f"{entry}.") if entry else prefix


def _entry(found: names.Recognised, file: Inventory) -> str:
    """Return the container that most of the network's tensors stand in."""
    counts: dict[str, int] = {}
    for entry in found.alignment.pairs.values():
        container = file.tensors[names_of(entry)[0]].entry
        counts[container] = counts.get(container, 0) + 1
    return max(counts, key=counts.__getitem__)


def config_line(architecture: Architecture, pretrain: object) -> str | None:
    """Return the config that loads the network, as Python: `backbone=dict(type=..., pretrain=...)`.

    Args:
        architecture: The network.
        pretrain: The value of its `pretrain` field.

    Returns:
        One line, or None where no class here is like it.
    """
    if not architecture.arguments:
        return None
    return f"backbone={spelled({**architecture.arguments, 'pretrain': pretrain})}"


def spelled(value: object) -> str:
    """Write a value as configs do: `dict(...)` where the keys allow it, text in single quotes."""
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and key.isidentifier() for key in value):
            return f"dict({', '.join(f'{key}={spelled(item)}' for key, item in value.items())})"
        return f"{{{', '.join(f'{key!r}: {spelled(item)}' for key, item in value.items())}}}"
    if isinstance(value, (list, tuple)):
        items = ", ".join(spelled(item) for item in value)
        if isinstance(value, list):
            return f"[{items}]"
        return f"({items},)" if len(value) == 1 else f"({items})"
    return repr(value)
