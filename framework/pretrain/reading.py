"""Which table and scheme a set of names follows, and where each name stands in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from framework.pretrain.dialect import Place, Table
from framework.pretrain.dialects.common import COMPUTED, DISTILLED_HEADS, HEADS
from framework.pretrain.inventory import last_of

#: A table is looked at in full if a scheme of it knows as many of this many largest tensors as any other.
SAMPLE = 16

#: Heads, which no table has as rows.
_BESIDE = frozenset({*HEADS, *DISTILLED_HEADS})


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
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:SAMPLE]
    hits: dict[int, int] = {}
    best: Reading | None = None
    for number, table in enumerate(tables):
        hits[number] = _hits(largest, table)
        if hits[number] == len(largest):
            best = _better(best, sizes, table)
            if best is not None and _is_whole(best, sizes):
                return best  # no other table can know more
    most = max(hits.values(), default=0)
    for number, count in hits.items():
        if len(largest) > count == most > 0:
            best = _better(best, sizes, tables[number])
    return best


def equal_readings(reading: Reading, sizes: Mapping[str, int], tables: Sequence[Table]) -> Iterator[Reading]:
    """Yield the readings in other tables that cover as much: families may name the same layers alike.

    Args:
        reading: What `read_names` found.
        sizes: The module's keys and their numbers of elements.
        tables: Where to look.
    """
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:SAMPLE]
    for table in tables:
        if table is not reading.table and _hits(largest, table) == len(largest):
            other = _better(None, sizes, table)
            if other is not None and other.places.keys() >= reading.places.keys():
                yield other


def _hits(largest: Sequence[str], table: Table) -> int:
    """Return how many of the largest tensors the best scheme of a table knows."""
    counts: dict[str, int] = {}
    for key in largest:
        for column in table.locate_all(key):
            counts[column] = counts.get(column, 0) + 1
    return max(counts.values(), default=0)


def _better(best: Reading | None, sizes: Mapping[str, int], table: Table) -> Reading | None:
    """Return the reading that covers most, of the best so far and those of a table."""

    def size(places: Mapping[str, Place]) -> int:
        return sum(sizes[key] for key in places)

    best_size = size(best.places) if best is not None else sum(sizes.values()) * 0.1
    for column, found in _located(sizes, table).items():
        if size(found) > best_size:
            reading = _reading(table, column, found, sizes)
            if size(reading.places) > best_size:
                best, best_size = reading, size(reading.places)
    return best


def _is_whole(reading: Reading, sizes: Mapping[str, int]) -> bool:
    """Tell whether the table knows all that is behind the prefix, but for heads and computed buffers."""
    inside = (key for key in sizes if key.startswith(reading.prefix) and key not in reading.places)
    return all(_stem(key, reading.prefix) in _BESIDE or last_of(key) in COMPUTED for key in inside)


def _stem(key: str, prefix: str) -> str:
    return key[len(prefix) :].rpartition(".")[0]


def _located(sizes: Mapping[str, int], table: Table) -> dict[str, dict[str, Place]]:
    """Find every key in every scheme."""
    places: dict[str, dict[str, Place]] = {column: {} for column in table.columns}
    for key in sizes:
        for column, place in table.locate_all(key).items():
            places[column][key] = place
    return places


def _reading(table: Table, column: str, found: Mapping[str, Place], sizes: Mapping[str, int]) -> Reading:
    """Read in a scheme, behind the prefix under which most of the module is."""
    votes: dict[str, int] = {}
    for key, place in found.items():
        votes[place.prefix] = votes.get(place.prefix, 0) + sizes[key]
    prefix = max(votes, key=votes.__getitem__)
    return Reading(table, column, prefix, _behind(prefix, found))


def _behind(prefix: str, found: Mapping[str, Place]) -> dict[str, Place]:
    """Return the places behind a prefix, and those further out or further in that are missing there.

    transformers writes the final norm of a masked BEiT beside the network, and the layers of some classifiers
    without the prefix that their embeddings have. A part further in that has anything that is there already
    is another network.
    """
    places = {key: place for key, place in found.items() if place.prefix == prefix}
    if len(places) == len(found):
        return places
    there = {_position(place) for place in places.values()}
    others = {place.prefix for place in found.values() if _position(place) in there} - {prefix}
    for key, place in found.items():
        further_out = len(place.prefix) < len(prefix) and prefix.startswith(place.prefix)
        further_in = place.prefix not in others and place.prefix.startswith(prefix)
        if (further_out or further_in) and _position(place) not in there:
            places[key] = place
    return places


def _position(place: Place) -> tuple[int, tuple[str, ...], int]:
    return id(place.row), place.indices, place.part
