"""Which table and scheme a set of names follows, and where each name stands in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from framework.pretrain.dialect import Place, Table

#: A table is looked at in full if a scheme of it knows as many of this many largest tensors as any other.
SAMPLE = 16


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
    for table in _promising(sizes, tables):
        for reading in _read(sizes, table):
            size = sum(sizes[key] for key in reading.places)
            if size > best_size:
                best, best_size = reading, size
    return best


def _promising(sizes: Mapping[str, int], tables: Sequence[Table]) -> list[Table]:
    """Return the tables of which a scheme knows most of the largest tensors."""
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:SAMPLE]
    hits = []
    for table in tables:
        counts: dict[str, int] = {}
        for key in largest:
            for column in table.locate_all(key):
                counts[column] = counts.get(column, 0) + 1
        hits.append(max(counts.values(), default=0))
    most = max(hits, default=0)
    return [table for table, count in zip(tables, hits, strict=True) if count >= most > 0]


def _read(sizes: Mapping[str, int], table: Table) -> Iterator[Reading]:
    """Yield the best reading of every scheme."""
    places: dict[str, dict[str, Place]] = {column: {} for column in table.columns}
    votes: dict[str, dict[str, int]] = {column: {} for column in table.columns}
    for key, size in sizes.items():
        for column, place in table.locate_all(key).items():
            places[column][key] = place
            votes[column][place.prefix] = votes[column].get(place.prefix, 0) + size
    for column, found in places.items():
        if found:
            prefix = max(votes[column], key=votes[column].__getitem__)
            yield Reading(table, column, prefix, _behind(prefix, found))


def _behind(prefix: str, found: Mapping[str, Place]) -> dict[str, Place]:
    """Return the places behind a prefix, and those further out that are missing there.

    transformers writes the final norm of a masked BEiT beside the network.
    """
    places = {key: place for key, place in found.items() if place.prefix == prefix}
    there = {(id(place.row), place.indices, place.part) for place in places.values()}
    for key, place in found.items():
        further_out = len(place.prefix) < len(prefix) and prefix.startswith(place.prefix)
        if further_out and (id(place.row), place.indices, place.part) not in there:
            places[key] = place
    return places
