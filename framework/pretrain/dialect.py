"""What a naming table is made of, and how names are read and written by it.

A table holds one architecture family. A row is one tensor of it, a column one naming scheme. A name is a
dotted pattern in which `{}` stands for an index; a pattern that ends in `.*` stands for every parameter and
buffer of a plain layer. Where a scheme stores a tensor otherwise, the entry is an operation, which knows its
inverse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

#: What `.*` at the end of a pattern stands for.
LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

#: A scheme is looked at in full if it knows as many of this many largest tensors as any other.
SAMPLE = 16

#: The column whose names are those of our own modules.
OURS = "timm"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Merge:
    """Several tensors of the file, one after the other along the first axis, are one of ours."""

    names: tuple[str, ...]

    def shape(self, shapes: Sequence[Shape]) -> Shape | None:
        """Return the shape of the result, or None where the parts do not go together."""
        first = shapes[0]
        if not first or any(len(s) != len(first) or s[1:] != first[1:] for s in shapes):
            return None
        return (sum(s[0] for s in shapes), *first[1:])

    def windows(self, out: Tensor, shapes: Sequence[Shape]) -> list[Tensor]:
        """Return the part of `out` that each source fills, so that it can be read in place."""
        return list(out.split([s[0] for s in shapes]))

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        """Turn the file's tensors into ours."""
        return torch.cat(list(tensors))

    def inverse(self, tensor: Tensor) -> list[Tensor]:
        """Turn our tensor into the file's, equal parts."""
        return list(tensor.chunk(len(self.names)))


Entry = str | Merge


def merge(*names: str) -> Merge:
    """Return the entry for a tensor that is stored in parts (query, key and value, say)."""
    return Merge(names)


@dataclass(frozen=True)
class Row:
    """One tensor of an architecture in every scheme.

    Attributes:
        names: Column -> its name or operation; a column that is not there does not have the tensor.
        kind: How its shape may be adapted (see `adapt.py`), or None.
    """

    names: Mapping[str, Entry]
    kind: str | None = None


def row(ours: str, *, kind: str | None = None, **others: Entry) -> Row:
    """Write a row: our name, then every other column's."""
    return Row({OURS: ours, **others}, kind)


@dataclass(frozen=True)
class Column:
    """One naming scheme.

    Attributes:
        producers: Who writes files with these names.
        source: Where the names were read.
    """

    producers: str
    source: str


@dataclass(frozen=True)
class Place:
    """Where a key stands in a table: behind a prefix, in a row, with these indices."""

    prefix: str
    row: Row
    indices: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """The names of one architecture family in all schemes.

    Attributes:
        name: The family.
        columns: Scheme -> who writes it.
        rows: The tensors.
    """

    name: str
    columns: Mapping[str, Column]
    rows: tuple[Row, ...]
    _expanded: tuple[Row, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rows = tuple(expanded for one in self.rows for expanded in _expand(one))
        object.__setattr__(self, "_expanded", rows)

    @cached_property
    def _index(self) -> dict[str, dict[str, list[tuple[Row, list[str | None]]]]]:
        """Column -> pattern with its numbers left open -> the rows written so, and the fixed numbers."""
        index: dict[str, dict[str, list[tuple[Row, list[str | None]]]]] = {c: {} for c in self.columns}
        for one in self._expanded:
            for column, entry in one.names.items():
                first = entry if isinstance(entry, str) else entry.names[0]
                index[column].setdefault(_open(first), []).append((one, _numbers(first)))
        return index

    def locate(self, key: str, column: str) -> Place | None:
        """Find the row of a key behind the shortest prefix, or None.

        An entry of several parts is found by its first part.
        """
        index = self._index[column]
        opened, numbers = _open(key), _NUMBER.findall(key)
        start = 0
        while True:
            left = numbers[len(numbers) - opened.count("{}", start) :] if "{}" in opened[start:] else []
            for one, fixed in index.get(opened[start:], ()):
                if all(want is None or want == got for want, got in zip(fixed, left, strict=True)):
                    indices = tuple(n for want, n in zip(fixed, left, strict=True) if want is None)
                    return Place(key[: len(key) - _tail_length(key, opened, start)], one, indices)
            dot = opened.find(".", start)
            if dot < 0:
                return None
            start = dot + 1

    def render(self, place: Place, column: str) -> Entry | None:
        """Write the names of a row in a scheme, without prefix; None where the scheme does not have it."""
        entry = place.row.names.get(column)
        if entry is None:
            return None
        if isinstance(entry, str):
            return _fill(entry, place.indices)
        return Merge(tuple(_fill(name, place.indices) for name in entry.names))


def names_of(entry: Entry) -> tuple[str, ...]:
    """Return the tensors of a file that an entry takes."""
    return (entry,) if isinstance(entry, str) else entry.names


@dataclass(frozen=True)
class Reading:
    """A module's names read in a table: which scheme they follow, behind which prefix, and each key's row."""

    table: Table
    column: str
    prefix: str
    places: Mapping[str, Place]


def read_names(sizes: Mapping[str, int], tables: Sequence[Table]) -> Reading | None:
    """Find the table, scheme and prefix that cover most of a module.

    Args:
        sizes: The module's keys and their numbers of elements.
        tables: Where to look.

    Returns:
        The best reading, or None where no table covers a tenth of the module.
    """
    best: Reading | None = None
    best_size = sum(sizes.values()) * 0.1
    for table, column in _promising(sizes, tables):
        reading = _read(sizes, table, column)
        size = sum(sizes[key] for key in reading.places)
        if size > best_size:
            best, best_size = reading, size
    return best


def _promising(sizes: Mapping[str, int], tables: Sequence[Table]) -> list[tuple[Table, str]]:
    """Return the schemes that know most of the largest tensors; equals in the order of the tables."""
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:SAMPLE]
    hits = {
        (index, column): sum(table.locate(key, column) is not None for key in largest)
        for index, table in enumerate(tables)
        for column in table.columns
    }
    most = max(hits.values(), default=0)
    return [(tables[index], column) for (index, column), count in hits.items() if count == most > 0]


def _read(sizes: Mapping[str, int], table: Table, column: str) -> Reading:
    places = {key: place for key in sizes if (place := table.locate(key, column))}
    votes: dict[str, int] = {}
    for key, place in places.items():
        votes[place.prefix] = votes.get(place.prefix, 0) + sizes[key]
    prefix = max(votes, key=votes.__getitem__)
    return Reading(table, column, prefix, {k: p for k, p in places.items() if p.prefix == prefix})


_NUMBER = re.compile(r"\d+")
_SLOT = re.compile(r"\{\}|\d+")


def _open(name: str) -> str:
    """Leave every number of a name or pattern open."""
    return _NUMBER.sub("{}", name)


def _numbers(pattern: str) -> list[str | None]:
    """Return the numbers of a pattern in order, None for an index."""
    return [None if slot == "{}" else slot for slot in _SLOT.findall(pattern)]


def _tail_length(key: str, opened: str, start: int) -> int:
    """Return how many characters of `key` the pattern from `start` on stands for."""
    segments = opened.count(".", start) + 1
    return len(".".join(key.rsplit(".", segments)[-segments:])) if segments <= key.count(".") else len(key)


def _fill(pattern: str, indices: tuple[str, ...]) -> str:
    return pattern.format(*indices)


def _expand(one: Row) -> Iterator[Row]:
    """Write a row that ends in `.*` out, one row per leaf."""
    ours = one.names[OURS]
    if not (isinstance(ours, str) and ours.endswith(".*")):
        yield one
        return
    for leaf in LEAVES:
        yield Row(
            {column: _with_leaf(entry, leaf) for column, entry in one.names.items()},
            one.kind if leaf == "weight" else None,
        )


def _with_leaf(entry: Entry, leaf: str) -> Entry:
    if isinstance(entry, str):
        return entry[:-1] + leaf
    return Merge(tuple(name[:-1] + leaf for name in entry.names))
