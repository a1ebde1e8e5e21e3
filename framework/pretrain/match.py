"""Which name of a file is which name of a module: every key votes, roles decide ties.

Pure: names and shapes in, an alignment out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from framework.pretrain.alignment import Alignment, identical
from framework.pretrain.dialect import Given, Place, Table
from framework.pretrain.dialects.common import (
    DISTILLED_HEADS,
    HEADS,
    PROJECTING,
)
from framework.pretrain.heads import find_head, head_entries
from framework.pretrain.inventory import Inventory
from framework.pretrain.operation import Entry, Operation, Part, Shape, View, names_of
from framework.pretrain.reading import Reading, equal_readings, read_names
from framework.pretrain.roles import role
from framework.pretrain.spelling import Spelled, spell

#: Alignments whose score is at least this share of the best one's are equals, and roles decide.
TIE = 0.97

#: A key whose shape differs votes with this part of its weight: its name decides where no shape fits.
MISFIT_VOTE = 1e-3

#: An alignment that scores less than this share of the module is chance, and none at all.
MINIMUM = 2e-4

#: A scheme is voted on if the file has any of this many names, spread over the module, in it.
PROBES = 32

#: A scheme with fewer than this share of the best one's probes in the file shares a few names by chance.
CHANCE = 0.25

#: A tail that ends more keys than this is too common to tell anything (`weight`).
COMMON_TAIL = 64


@dataclass(frozen=True)
class _Candidate:
    """A naming scheme and a pair of prefixes; `places` are the module's keys in the scheme's table."""

    column: str | None
    model_prefix: str
    file_prefix: str


def align(
    wanted: Mapping[str, Shape], file: Inventory, tables: Sequence[Table], dialect: str | None = None
) -> Alignment | None:
    """Find the alignment that fills most of a module.

    Args:
        wanted: The module's names (without wrappers) and shapes.
        file: The file's names.
        tables: The dialect tables.
        dialect: The file's scheme where the user names it.

    Returns:
        The alignment, or None where next to nothing of the file is called like something in the module.
    """
    sizes = {name: prod(shape) for name, shape in wanted.items()}
    if not any(sizes.values()):
        return None
    same = identical(wanted, sizes, file) if dialect is None else None
    if same is not None:
        return same
    reading = read_names(sizes, tables)
    spelled = spell(file)
    found = _align(reading, wanted, sizes, spelled, dialect)
    if reading is None or found is None or len(found.pairs) == len(wanted):
        return found
    readings = equal_readings(reading, sizes, tables)
    others = [_align(other, wanted, sizes, spelled, dialect) for other in readings]
    return max((found, *filter(None, others)), key=lambda one: one.score)


def _align(
    reading: Reading | None,
    wanted: Mapping[str, Shape],
    sizes: Mapping[str, int],
    spelled: Spelled,
    dialect: str | None,
) -> Alignment | None:
    """Find the alignment that fills most of a module whose names were read in one table, or in none."""
    votes: dict[_Candidate, float] = {}
    present = _present(reading, spelled, dialect) if reading else []
    own = reading is None or (dialect in reading.table.columns and dialect not in present)
    if dialect is None or own:
        votes.update(_vote_same_names(wanted, sizes, spelled))
    for column in present:
        if reading is not None:
            votes.update(_vote_dialect(reading, column, wanted, sizes, spelled))
    if max(votes.values(), default=0) < MINIMUM * sum(sizes.values()):
        return None
    chosen, others, equals = _elect(votes)
    pairs = _pairs(chosen, reading, wanted, spelled)
    if chosen.column is None and len(pairs) < len(wanted):  # a scheme may know names outside of the prefix
        for other in _same_place(chosen, votes):
            chosen, pairs = max((chosen, pairs), (other, _pairs(other, reading, wanted, spelled)), key=_count)
    # what lacks parts that the chosen one has is another network: the text tower beside the vision tower
    rivals = dict.fromkeys(
        c.file_prefix for c in equals if len(_pairs(c, reading, wanted, spelled)) >= len(pairs)
    )
    kinds = (
        {name: place.row.kind for name, place in reading.places.items() if place.row.kind} if reading else {}
    )
    return Alignment(
        dialect=chosen.column,
        model_prefix=chosen.model_prefix,
        file_prefix=chosen.file_prefix,
        score=votes[chosen],
        alternatives=_untouched(others, pairs, spelled.file),
        undecided=_untouched([*rivals], pairs, spelled.file),
        pairs=pairs,
        kinds=kinds,
    )


def _weigh(shape: Shape, other: Shape | None, size: int) -> float:
    fits = shape == other or _pointwise(shape, other) is not None
    return max(size, 1) * (1.0 if fits else MISFIT_VOTE)


def _pointwise(shape: Shape, other: Shape | None) -> View | None:
    """Return how a linear layer becomes a convolution of one pixel, or back; None where this is not it."""
    if other is None:
        return None
    if shape == (*other, 1, 1) and len(other) == 2:
        return View("o i -> o i 1 1")
    return View("o i 1 1 -> o i") if other == (*shape, 1, 1) and len(shape) == 2 else None


def _vote_same_names(
    wanted: Mapping[str, Shape],
    sizes: Mapping[str, int],
    spelled: Spelled,
) -> dict[_Candidate, float]:
    """Let every key vote for the prefixes under which file and module use the same names."""
    votes: dict[_Candidate, float] = {}
    short: dict[str, list[str]] = {}  # names of one segment propose no prefixes, but vote for proposed ones
    for model_prefix in _model_prefixes(sizes):
        for name in wanted:
            tail = name[len(model_prefix) :]
            prefixes = spelled.tails.get(tail, ()) if name.startswith(model_prefix) else ()
            if prefixes and model_prefix and "." not in tail:
                short.setdefault(model_prefix, []).append(name)
                continue
            if len(prefixes) > COMMON_TAIL:
                continue
            for prefix in prefixes:
                candidate = _Candidate(None, *_without_common_end(model_prefix, prefix))
                if candidate.model_prefix != model_prefix:
                    continue  # the shorter pair of prefixes collects this vote
                shape = spelled.file.tensors[prefix + tail].tensor.shape
                votes[candidate] = votes.get(candidate, 0) + _weigh(wanted[name], shape, sizes[name])
    for candidate in votes:
        for name in short.get(candidate.model_prefix, ()):
            one = spelled.file.tensors.get(candidate.file_prefix + name[len(candidate.model_prefix) :])
            if one is not None:
                votes[candidate] += _weigh(wanted[name], one.tensor.shape, sizes[name])
    return votes


def _model_prefixes(sizes: Mapping[str, int]) -> list[str]:
    """Return '' and the prefixes of those parts that hold a twentieth of the module or more."""
    totals: dict[str, int] = {}
    for name, size in sizes.items():
        start = name.find(".") + 1
        while start:
            totals[name[:start]] = totals.get(name[:start], 0) + size
            start = name.find(".", start) + 1
    floor = sum(sizes.values()) / 20
    large = [prefix for prefix, total in totals.items() if total >= floor]
    return ["", *sorted(large, key=lambda p: p.count("."))[:24]]


def _without_common_end(first: str, second: str) -> tuple[str, str]:
    """Take the last segments that two prefixes share off both."""
    one, two = first.split(".")[:-1], second.split(".")[:-1]
    while one and two and one[-1] == two[-1]:
        one.pop()
        two.pop()
    return ".".join([*one, ""]) if one else "", ".".join([*two, ""]) if two else ""


def _present(reading: Reading, spelled: Spelled, dialect: str | None) -> list[str]:
    """Return the schemes that call the module's tensors otherwise, and of which the file has some names."""
    places = list(reading.places.values())
    sample = places[:: len(places) // PROBES + 1]
    rows = {id(place.row): place.row.names for place in places}.values()
    own = reading.column
    others = [c for c in reading.table.columns if any(n.get(c) not in (None, n[own]) for n in rows)]
    if dialect is not None:
        return [column for column in others if column == dialect]
    hits = {c: sum(_probe(reading, place, c, spelled) for place in sample) for c in others}
    most = max(hits.values(), default=0)
    return [column for column, count in hits.items() if count > 0 and count >= CHANCE * most]


def _probe(reading: Reading, place: Place, column: str, spelled: Spelled) -> bool:
    entry = reading.table.render(place, column)
    return entry is not None and names_of(entry)[0] in spelled.tails


def _vote_dialect(
    reading: Reading,
    column: str,
    wanted: Mapping[str, Shape],
    sizes: Mapping[str, int],
    spelled: Spelled,
) -> dict[_Candidate, float]:
    """Let every key vote for the prefix under which the file has it in this scheme."""
    votes: dict[_Candidate, float] = {}
    for name, place in reading.places.items():
        entry = _entry(reading, place, column)
        if entry is None:
            continue
        for prefix in spelled.tails.get(names_of(entry)[0], ()):
            found = spelled.find(entry, prefix)
            shape = None if found is None else entry_shape(found, spelled.file)
            candidate = _Candidate(column, reading.prefix, prefix)
            votes[candidate] = votes.get(candidate, 0) + _weigh(wanted[name], shape, sizes[name])
    return votes


def _entry(reading: Reading, place: Place, column: str) -> Entry | None:
    """Return what the scheme has for a key of the module, as the module has it."""
    source = reading.table.render(place, column)
    own = place.row.names[reading.column]
    return Part(source, own, place.part) if source is not None and isinstance(own, Operation) else source


def entry_shape(entry: Entry, file: Inventory) -> Shape | None:
    """Return the shape that an entry's tensors give together, or None where they misfit."""
    shapes = [file.tensors[name].tensor.shape for name in names_of(entry)]
    return shapes[0] if isinstance(entry, str) else entry.shape(shapes)


def _elect(votes: Mapping[_Candidate, float]) -> tuple[_Candidate, list[str], list[_Candidate]]:
    """Take the best candidate; among equals the preferred role, then the same names, then the shortest.

    Returns:
        The candidate, the prefixes of its equals, and those equals that have no other role than it, and are
        not further in.
    """
    best = max(votes.values())
    equals = [c for c, score in votes.items() if score >= TIE * best]
    order = {candidate: position for position, candidate in enumerate(votes)}
    prefixes = list(dict.fromkeys(c.file_prefix for c in equals))
    roles = {prefix: role(prefix, prefixes) for prefix in prefixes}

    def rank(candidate: _Candidate) -> tuple[float, ...]:
        depth = candidate.model_prefix.count(".") + candidate.file_prefix.count(".")
        named = candidate.column is not None
        return *roles[candidate.file_prefix], -votes[candidate], named, depth, order[candidate]

    chosen, *others = sorted(equals, key=rank)
    left = list(dict.fromkeys(c.file_prefix for c in others))
    beside = [c for c in others if not c.file_prefix.startswith(chosen.file_prefix)]
    return chosen, left, [c for c in beside if roles[c.file_prefix] == roles[chosen.file_prefix]]


def _same_place(chosen: _Candidate, votes: Mapping[_Candidate, float]) -> Iterator[_Candidate]:
    """Yield the schemes that do as well behind the same prefixes."""
    place = (chosen.model_prefix, chosen.file_prefix)
    for other, score in votes.items():
        equal = score >= TIE * votes[chosen] and (other.model_prefix, other.file_prefix) == place
        if equal and other.column is not None:
            yield other


def _count(one: tuple[_Candidate, Mapping[str, Entry]]) -> int:
    return len(one[1])


def _untouched(prefixes: Sequence[str], pairs: Mapping[str, Entry], file: Inventory) -> tuple[str, ...]:
    """Return the prefixes behind which nothing was taken, not even under a second name."""
    taken = {file.tensors[name].tensor.identity for entry in pairs.values() for name in names_of(entry)}

    def touched(prefix: str) -> bool:
        behind = (one for name, one in file.tensors.items() if name.startswith(prefix))
        return any(one.tensor.identity in taken for one in behind)

    return tuple(prefix for prefix in prefixes if not touched(prefix))


def _pairs(
    chosen: _Candidate, reading: Reading | None, wanted: Mapping[str, Shape], spelled: Spelled
) -> dict[str, Entry]:
    """Pair every name of the module that the file has under the chosen alignment, heads included."""
    pairs: dict[str, Entry] = {}
    for name in wanted:
        entry = next(_entries(name, chosen, reading, spelled), None)
        if entry is not None:
            pairs[name] = _fitted(entry, wanted[name], spelled.file)
    if _projects(chosen.file_prefix):
        heads = tuple(f"{chosen.file_prefix}{stem}." for stem in HEADS)
        return {name: e for name, e in pairs.items() if not names_of(e)[0].startswith(heads)}
    inner = _inner(chosen, reading)
    column = reading.table.columns[chosen.column] if reading and chosen.column else None
    head, head_dist = (column.head, column.head_dist) if column else (None, None)
    for given, stems in ((head, HEADS), (head_dist, DISTILLED_HEADS)):
        pairs.update(_head_pairs(inner, pairs, wanted, spelled, given, stems))
    return pairs


def _inner(chosen: _Candidate, reading: Reading | None) -> tuple[str, str]:
    """Return what stands before the network in module and file, segments that both have included."""
    own = reading.prefix if reading else ""
    if chosen.column or not own.startswith(chosen.model_prefix):
        return chosen.model_prefix, chosen.file_prefix
    return own, chosen.file_prefix + own[len(chosen.model_prefix) :]


def _fitted(entry: Entry, shape: Shape, file: Inventory) -> Entry:
    """Let a linear layer fill a convolution of one pixel, and the other way round."""
    change = _pointwise(shape, entry_shape(entry, file)) if isinstance(entry, str) else None
    return entry if change is None else Operation(names_of(entry), change)


def _projects(prefix: str) -> bool:
    """Tell whether what is called a head behind this prefix is a projector, not a classifier."""
    return any(segment in PROJECTING for segment in prefix.split("."))


def _entries(name: str, chosen: _Candidate, reading: Reading | None, spelled: Spelled) -> Iterator[Entry]:
    """Yield what the file has for a name: by the scheme, by the same name, by the same name further out."""
    place = reading.places.get(name) if reading and chosen.column else None
    if place is not None and reading is not None and chosen.column is not None:
        entry = _in_file(reading, place, chosen.column, chosen.file_prefix, spelled)
        if entry is not None:
            yield entry
        return
    model_root, file_root = _without_common_end(chosen.model_prefix, chosen.file_prefix)
    for model_prefix, file_prefix in ((chosen.model_prefix, chosen.file_prefix), (model_root, file_root)):
        if name.startswith(model_prefix) and file_prefix + name[len(model_prefix) :] in spelled.file.tensors:
            yield file_prefix + name[len(model_prefix) :]


def _in_file(reading: Reading, place: Place, column: str, prefix: str, spelled: Spelled) -> Entry | None:
    """Find a scheme's entry behind the prefix, or else behind a longer or shorter one that alone has it.

    transformers 5 writes ViTMSN's layers without the prefix that its embeddings have.
    """
    entry = _entry(reading, place, column)
    if entry is None:
        return None
    found = spelled.find(entry, prefix)
    others = spelled.tails.get(names_of(entry)[0], ())
    if found is not None or len(others) != 1 or not _nested(prefix, others[0]):
        return found
    there = reading.table.locate(others[0] + names_of(entry)[0], column)
    return spelled.find(entry, others[0]) if there is not None and there.row is place.row else None


def _nested(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _head_pairs(
    prefixes: tuple[str, str],
    pairs: Mapping[str, Entry],
    wanted: Mapping[str, Shape],
    spelled: Spelled,
    given: Given,
    stems: Sequence[str],
) -> dict[str, Entry]:
    """Pair the classifiers' last layers, which every library calls otherwise."""
    taken = {name for entry in pairs.values() for name in names_of(entry)}
    model_prefix, file_prefix = prefixes
    ours = find_head(model_prefix, {n: s for n, s in wanted.items() if n not in pairs}, stems)
    shapes = {n: t.tensor.shape for n, t in spelled.file.tensors.items() if n not in taken}
    theirs = head_entries(file_prefix, given, stems, shapes)
    if ours is None:
        return {}
    return {f"{ours}.{leaf}": e for leaf, e in theirs.items() if f"{ours}.{leaf}" in wanted}
