"""Of what architecture a file is, and the config that builds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from framework.inspection.guess import guess_arguments
from framework.pretrain import recognise as names
from framework.pretrain.inventory import Inventory
from framework.pretrain.operation import names_of
from framework.pretrain.spec import PretrainSpec


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
        sources: Our name of each of its tensors -> the file's keys.
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
    sources: Mapping[str, tuple[str, ...]]


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
    figures, arguments = guess_arguments(table.name, found.shapes)
    dialect = alignment.dialect or found.reading.column
    return Architecture(
        family=table.name,
        title=table.title,
        dialect=dialect,
        producers=table.columns[dialect].producers,
        entry=entry,
        prefix=prefix[len(entry) + 1 :] if entry and prefix.startswith(f"{entry}.") else prefix,
        alternatives=tuple(one.rstrip(".") for one in alignment.alternatives),
        figures=figures,
        arguments=arguments,
        sources=sources,
    )


def _entry(found: names.Recognised, file: Inventory) -> str:
    """Return the container that most of the network's tensors stand in."""
    counts: dict[str, int] = {}
    for entry in found.alignment.pairs.values():
        container = file.tensors[names_of(entry)[0]].entry
        counts[container] = counts.get(container, 0) + 1
    return max(counts, key=counts.__getitem__)
