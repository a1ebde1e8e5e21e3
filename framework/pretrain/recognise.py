"""Of what architecture a file is, told from its names and shapes alone: no model, and no values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from framework.pretrain.alignment import Alignment
from framework.pretrain.dialect import OURS, Place
from framework.pretrain.dialects import TABLES
from framework.pretrain.dialects.common import DISTILLED_HEADS, HEADS
from framework.pretrain.heads import head_entries
from framework.pretrain.inventory import Inventory
from framework.pretrain.match import align
from framework.pretrain.operation import Shape, names_of
from framework.pretrain.reading import Reading, read_names


@dataclass(frozen=True)
class Recognised:
    """The network of a file.

    Attributes:
        reading: Its names in the table of its family.
        shapes: Our name of each of its tensors -> our shape, classifiers included.
        alignment: Where in the file these are; of several networks, the one that a load takes.
    """

    reading: Reading
    shapes: Mapping[str, Shape]
    alignment: Alignment


def recognise(file: Inventory, dialect: str | None = None) -> Recognised | None:
    """Find the network of a file by its names.

    Args:
        file: What the file holds.
        dialect: Its scheme, where it is known.

    Returns:
        The network, or None where no family's table knows its names.
    """
    reading = read_names({n: math.prod(one.tensor.shape) for n, one in file.tensors.items()}, TABLES)
    if reading is None:
        return None
    shapes = own_shapes(reading, file)
    alignment = align(shapes, file, TABLES, dialect)
    return Recognised(reading, shapes, alignment) if alignment is not None else None


def own_shapes(reading: Reading, file: Inventory) -> dict[str, Shape]:
    """Return our names and shapes of what was read, classifiers included."""
    wanted: dict[str, Shape] = {}
    for keys, place in groups(reading):
        entry = place.row.names[reading.column]
        shapes = [file.tensors[key].tensor.shape for key in keys]
        ours = reading.table.render(place, OURS)
        shape = shapes[0] if isinstance(entry, str) else entry.shape(shapes)  # type: ignore[union-attr]
        if ours is not None and shape is not None:
            part = shape if isinstance(ours, str) else ours.part_shape(shape)
            wanted.update({name: part for name in names_of(ours) if part is not None})
    return {**wanted, **_head_shapes(reading, file)}


def _head_shapes(reading: Reading, file: Inventory) -> dict[str, Shape]:
    column = reading.table.columns[reading.column]
    shapes = {n: one.tensor.shape for n, one in file.tensors.items() if n not in reading.places}
    wanted: dict[str, Shape] = {}
    for name, given, stems in (
        ("head", column.head, HEADS),
        ("head_dist", column.head_dist, DISTILLED_HEADS),
    ):
        for leaf, entry in head_entries(reading.prefix, given, stems, shapes).items():
            parts = [shapes[one] for one in names_of(entry)]
            shape = parts[0] if isinstance(entry, str) else entry.shape(parts)
            if shape is not None:
                wanted[f"{name}.{leaf}"] = shape
    return wanted


def groups(reading: Reading) -> list[tuple[list[str], Place]]:
    """Put the keys together in which one tensor of ours is stored, where all of them are there."""
    groups: dict[tuple[int, tuple[str, ...]], dict[int, tuple[str, Place]]] = {}
    for key, place in reading.places.items():
        groups.setdefault((id(place.row), place.indices), {})[place.part] = (key, place)
    whole = []
    for parts in groups.values():
        keys = [parts[index][0] for index in sorted(parts)]
        place = next(iter(parts.values()))[1]
        stored = reading.table.render(place, reading.column)
        if stored is not None and len(keys) == len(names_of(stored)):
            whole.append((keys, place))
    return whole
