"""What a naming table is made of, and how names are read and written by it.

A table holds one architecture family. A row is one tensor of it, a column one naming scheme. A name is a
dotted pattern in which `{}` stands for an index; a pattern that ends in `.*` stands for every parameter and
buffer of a plain layer. Where a scheme stores a tensor otherwise, the entry is an operation, which knows its
inverse (`operation.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

from framework.pretrain.operation import Operation, View, names_of

#: What `.*` at the end of a pattern stands for.
LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

#: The column whose names are those of our own modules.
OURS = "timm"

#: Stands in a written name for an index that is not ours; see `Table.render`.
WILD = "*"

#: Open keys whose places a table remembers, at most.
MAX_OPEN_KEYS = 4096

Stored = str | Operation
#: What a row may give for a column: a name or operation; one for each leaf of a `.*` row; None for nothing.
Given = Stored | Mapping[str, Stored] | None


def merge(*names: str, axes: str | None = None) -> Operation:
    """Return the entry for a tensor that is stored in parts (query, key and value, say)."""
    return Operation(names, View(axes) if axes else None)


def view(name: str, axes: str) -> Operation:
    """Return the entry for a tensor that is stored with other axes (see `View`)."""
    return Operation((name,), View(axes))


def query_value(query: str, value: str) -> Operation:
    """Return the entry for a bias of query, key and value of which the key's is zero and not stored."""
    return Operation((query, value), zero_key=True)


def jax_layer(name: str, axes: str | None = None) -> dict[str, Stored]:
    """Return the entry for a layer as Flax stores it: its kernel with these axes, or the scale of a norm."""
    weight = view(f"{name}.kernel", axes) if axes else f"{name}.scale"
    return {"weight": weight, "bias": f"{name}.bias"}


@dataclass(frozen=True)
class Row:
    """One tensor of an architecture in every scheme.

    Attributes:
        names: Column -> its name or operation; a column that is not there does not have the tensor.
        kind: How its shape may be adapted (see `adapt.py`), or None.
    """

    names: Mapping[str, Given]
    kind: str | None = None


def row(ours: Given, *, kind: str | None = None, **others: Given) -> Row:
    """Write a row: our name, then every other column's.

    A column that is based on another (`Column.base`) takes the other's name where it gives none; None says
    that it does not have the tensor.
    """
    return Row({OURS: ours, **others}, kind)


@dataclass(frozen=True)
class Column:
    """One naming scheme.

    Attributes:
        producers: Who writes files with these names.
        source: Where the names were read.
        base: The column whose names it takes where a row gives none.
        changes: What is written otherwise in the names of `base`: (there, here).
        prefix: What stands before the names in a file that has a classifier, too.
        head: The classifier's last layer, behind the prefix; `^` before it: beside the prefix.
        head_dist: The same for the head of the distillation token.
        separator: What stands between the segments of a name in a file.
        positions: The tokens before the patches that have a position, by our names; None: any.
        tested: What its names were compared with.
    """

    producers: str
    source: str
    base: str | None = None
    changes: tuple[tuple[str, str], ...] = ()
    prefix: str = ""
    head: Given = None
    head_dist: Given = None
    separator: str = "."
    positions: tuple[str, ...] | None = None
    tested: str = ""


@dataclass(frozen=True)
class Place:
    """Where a key stands in a table: behind a prefix, in a row, with these indices, as a part of an entry."""

    prefix: str
    row: Row
    indices: tuple[str, ...]
    part: int = 0


@dataclass(frozen=True)
class Table:
    """The names of one architecture family in all schemes.

    Attributes:
        name: The family.
        title: The family in words.
        columns: Scheme -> who writes it.
        rows: The tensors.
    """

    name: str
    title: str
    columns: Mapping[str, Column]
    rows: tuple[Row, ...]
    _expanded: tuple[Row, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rows = tuple(expanded for one in self.rows for expanded in _expand(_derive(one, self.columns)))
        object.__setattr__(self, "_expanded", rows)

    @cached_property
    def _index(self) -> dict[str, list[_Spot]]:
        """Pattern with its numbers left open -> the columns and rows that write it so."""
        index: dict[str, list[_Spot]] = {}
        for one in self._expanded:
            for column, entry in one.names.items():
                for part, name in enumerate(_stored_names(entry)):
                    spot = _Spot(column, one, part, _slots(name))
                    index.setdefault(_open(name), []).append(spot)
        return index

    @cached_property
    def _spots(self) -> dict[str, tuple[tuple[int, list[_Spot]], ...]]:
        """Key with its numbers left open -> where its endings stand in the index. Filled as keys are seen."""
        return {}

    def locate(self, key: str, column: str) -> Place | None:
        """Find the row of a key in a scheme, behind the shortest prefix, or None."""
        return self.locate_all(key).get(column)

    def locate_all(self, key: str) -> dict[str, Place]:
        """Find the row of a key in every scheme that has it, each behind its shortest prefix."""
        segments = key.split(".")
        found: dict[str, Place] = {}
        every = tuple(_NUMBER.findall(key))
        for start, spots in self._spots_of(_NUMBER.sub("{}", key)):
            numbers = every[len(every) - len(spots[0].slots) :]
            prefix = ".".join([*segments[:start], ""]) if start else ""
            for spot in spots:
                if spot.column in found:
                    continue
                indices = numbers if spot.takes_all else spot.read(numbers)
                if indices is not None:
                    found[spot.column] = Place(prefix, spot.row, indices, spot.part)
        return found

    def _spots_of(self, opened: str) -> tuple[tuple[int, list[_Spot]], ...]:
        """List the endings of an open key that are in the index, the longest first."""
        known = self._spots.get(opened)
        if known is None:
            segments = opened.split(".")
            endings = ((start, self._index.get(".".join(segments[start:]))) for start in range(len(segments)))
            known = tuple((start, spots) for start, spots in endings if spots is not None)
            if len(self._spots) < MAX_OPEN_KEYS:
                self._spots[opened] = known
        return known

    def render(self, place: Place, column: str) -> Stored | None:
        """Write the names of a row in a scheme, without prefix; None where the scheme does not have it.

        An index that is not ours is written `*`.
        """
        entry = place.row.names.get(column)
        if isinstance(entry, str):
            return _fill(entry, place.indices)
        if not isinstance(entry, Operation):
            return None
        names = [_fill(name, place.indices) for name in entry.names]
        return replace(entry, names=tuple(n for n in names if n)) if all(names) else None


@dataclass(frozen=True)
class _Slot:
    """A place for an index i, written as `factor * i + shift`."""

    factor: int = 1
    shift: int = 0

    def read(self, number: str) -> str | None:
        index, rest = divmod(int(number) - self.shift, self.factor)
        return None if rest or index < 0 else str(index)

    def write(self, index: str) -> str | None:
        number = self.factor * int(index) + self.shift
        return None if number < 0 else str(number)


#: An index that is written as it is.
PLAIN = _Slot()


@dataclass(frozen=True)
class _Spot:
    """Where a pattern is written: `slots` has a number that must stand there, a slot, or None for any."""

    column: str
    row: Row
    part: int
    slots: tuple[str | _Slot | None, ...]

    @cached_property
    def takes_all(self) -> bool:
        return all(slot is PLAIN for slot in self.slots)

    @cached_property
    def _fixed(self) -> tuple[tuple[int, str], ...]:
        return tuple((at, slot) for at, slot in enumerate(self.slots) if isinstance(slot, str))

    def read(self, numbers: tuple[str, ...]) -> tuple[str, ...] | None:
        for at, number in self._fixed:
            if numbers[at] != number:
                return None
        indices = []
        for slot, number in zip(self.slots, numbers, strict=True):
            if isinstance(slot, _Slot):
                index = number if slot is PLAIN else slot.read(number)
                if index is None:
                    return None
                indices.append(index)
        return tuple(indices)


_NUMBER = re.compile(r"\d+")
_SLOT = re.compile(r"\{(?P<any>\*)?(?:(?P<factor>\d+)n)?(?P<shift>[+-]\d+)?\}|\d+")


@cache
def _open(pattern: str) -> str:
    """Leave every number of a pattern open."""
    return _SLOT.sub("{}", pattern)


@cache
def _slots(pattern: str) -> tuple[str | _Slot | None, ...]:
    """Return what stands in the open places of a pattern, in order."""
    return tuple(_slot(match) for match in _SLOT.finditer(pattern))


def _slot(match: re.Match[str]) -> str | _Slot | None:
    if match.group()[0] != "{":
        return match.group()
    if match["any"]:
        return None
    slot = _Slot(int(match["factor"] or 1), int(match["shift"] or 0))
    return PLAIN if slot == PLAIN else slot


@cache
def _pieces(pattern: str) -> tuple[tuple[str, ...], tuple[str | _Slot | None, ...]]:
    """Return the text between the open places of a pattern, and what stands in these."""
    text, start = [], 0
    for match in _SLOT.finditer(pattern):
        text.append(pattern[start : match.start()])
        start = match.end()
    return (*text, pattern[start:]), _slots(pattern)


@cache
def _plain(pattern: str) -> tuple[str, int]:
    """Return a pattern with `%s` for each index, and how many; '' where not all are written as they are."""
    slots = [slot for slot in _slots(pattern) if not isinstance(slot, str)]
    if "%" in pattern or any(slot is not PLAIN for slot in slots):
        return "", 0
    return pattern.replace("{}", "%s"), len(slots)


def _fill(pattern: str, indices: Sequence[str]) -> str | None:
    """Write indices into a pattern; None where one is missing, or is none of this scheme's."""
    if "{" not in pattern:
        return pattern
    plain, count = _plain(pattern)
    if plain and len(indices) == count:
        return plain % tuple(indices)
    texts, slots = _pieces(pattern)
    written = [texts[0]]
    given = iter(indices)
    for slot, text in zip(slots, texts[1:], strict=True):
        index = next(given, None) if isinstance(slot, _Slot) else None
        number = slot.write(index) if isinstance(slot, _Slot) and index is not None else slot
        if isinstance(number, _Slot) or (number is None and isinstance(slot, _Slot)):
            return None
        written += [WILD if number is None else number, text]
    return "".join(written)


def _derive(one: Row, columns: Mapping[str, Column]) -> Row:
    """Give every column that is based on another its names."""
    names = dict(one.names)
    for name, column in columns.items():
        if column.base is not None and name not in names:
            names[name] = _changed(names.get(column.base), column.changes)
    return Row(names, one.kind)


def _changed(entry: Given, changes: Sequence[tuple[str, str]]) -> Given:
    if entry is None or not changes:
        return entry
    if isinstance(entry, Mapping):
        return {leaf: changed for leaf, one in entry.items() if (changed := _changed_names(one, changes))}
    return _changed_names(entry, changes)


def _changed_names(entry: Stored, changes: Sequence[tuple[str, str]]) -> Stored:
    names = []
    for name in _stored_names(entry):
        for there, here in changes:
            name = name.replace(there, here)
        names.append(name)
    return names[0] if isinstance(entry, str) else replace(entry, names=tuple(names))


def _expand(one: Row) -> Iterator[Row]:
    """Write a row that ends in `.*` out, one row per leaf."""
    leaves = LEAVES if any(_is_layer(entry) for entry in one.names.values()) else ("",)
    for leaf in leaves:
        names = {column: stored for column, entry in one.names.items() if (stored := _with_leaf(entry, leaf))}
        yield Row(names, one.kind if leaf in ("weight", "") else None)


def _is_layer(entry: Given) -> bool:
    if isinstance(entry, Mapping):
        return True
    return entry is not None and _stored_names(entry)[0].endswith(".*")


def _with_leaf(entry: Given, leaf: str) -> Stored | None:
    if isinstance(entry, Mapping):
        return entry.get(leaf)
    if entry is None or not _is_layer(entry):
        return entry
    if isinstance(entry, str):
        return entry[:-1] + leaf
    return replace(entry, names=tuple(name[:-1] + leaf for name in entry.names))


def _stored_names(entry: Given) -> tuple[str, ...]:
    assert not isinstance(entry, Mapping)
    return () if entry is None else names_of(entry)


def leaves_of(entry: Given) -> dict[str, Stored]:
    """Write out an entry that ends in `.*`: leaf -> name or operation."""
    return {leaf: stored for leaf in ("weight", "bias") if (stored := _with_leaf(entry, leaf))}
