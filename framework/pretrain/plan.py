"""Who gets what: every key of the module and of the file is put into exactly one list, on shapes alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from framework.errors import did_you_mean
from framework.pretrain.adapt import Adaptation
from framework.pretrain.align import ALIGN
from framework.pretrain.alignment import Alignment, guess
from framework.pretrain.dialects import TABLES, WHOLE
from framework.pretrain.dialects.common import BOOKKEEPING, COMPUTED
from framework.pretrain.errors import SpecError
from framework.pretrain.fit import Fitter
from framework.pretrain.inventory import Inventory, last_of, unwrapped, unwrapped_names
from framework.pretrain.match import align, entry_shape
from framework.pretrain.operation import Entry, Shape, names_of
from framework.pretrain.reading import read_names
from framework.pretrain.spec import PretrainSpec
from framework.pretrain.target import Wanted


@dataclass(frozen=True)
class Assignment:
    """One tensor of the module and where its values come from.

    Attributes:
        name: Key of the module.
        entry: Name (or operation on names) in the inventory.
        adaptation: What is done to its shape; `IDENTITY` for nothing.
    """

    name: str
    entry: Entry
    adaptation: Adaptation


@dataclass(frozen=True)
class Mismatch:
    """A tensor that the file has in a shape, or with a kind of numbers, that does not fit."""

    name: str
    shape: Shape
    source: Entry
    source_shape: Shape | None
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """What a load would do. Nothing is read or written yet.

    The module's keys are in one each of `assignments`, `fresh`, `mismatched`, `ignored`, `computed`; the
    keys of the file that are not in an assignment or a mismatch in one each of `unexpected`, `bookkeeping`,
    `elsewhere`.

    Attributes:
        alignment: How the names go together; None where nothing matched.
        assignments: What gets values from the file.
        fresh: In the module, not in the file.
        mismatched: In both, in shapes that do not go together.
        ignored: Left out by `ignore_keys` -> what the file has for it.
        computed: Buffers that the module computes, and counters that a file may lack.
        unexpected: Keys of the chosen part of the file that the module has no place for.
        bookkeeping: Keys there that are no weights: counters, queues, index buffers.
        elsewhere: Other entries of the file -> keys in them.
        idle_ignores: `ignore_keys` that matched nothing, with the nearest keys.
        idle_rules: `revise_keys` that matched nothing.
        loaded_size: Elements that come from the file.
        total_size: Elements of the module that could, ignored and computed ones left out.
        shapes: Every key of the module -> its shape.
    """

    alignment: Alignment | None
    assignments: tuple[Assignment, ...]
    fresh: tuple[str, ...]
    mismatched: tuple[Mismatch, ...]
    ignored: Mapping[str, Entry | None]
    computed: tuple[str, ...]
    unexpected: tuple[str, ...]
    bookkeeping: tuple[str, ...]
    elsewhere: Mapping[str, int]
    idle_ignores: tuple[str, ...]
    idle_rules: tuple[str, ...]
    loaded_size: int
    total_size: int
    shapes: Mapping[str, Shape]

    @property
    def coverage(self) -> float:
        """Share of the module's elements that come from the file, in [0, 1]."""
        return self.loaded_size / self.total_size if self.total_size else 0.0


def make_plan(wanted: Wanted, file: Inventory, spec: PretrainSpec) -> Plan:
    """Decide for every key of the module and of the file what becomes of it.

    Raises:
        SpecError: `spec.dialect` is not one that is known.
    """
    _check_dialect(spec.dialect)
    ignored, idle_ignores = _split_ignored(wanted.shapes, spec.ignore_keys)
    computed = [n for n in wanted.buffers if n not in ignored and last_of(n) in COMPUTED]
    bookkept = {n for n in wanted.buffers if last_of(n) in BOOKKEEPING}
    names = unwrapped_names([n for n in wanted.shapes if n not in computed])
    shapes = {short: wanted.shapes[name] for short, name in names.items()}
    alignment = _aligned(shapes, file, spec.dialect)
    pairs = _with_tied(alignment.pairs, wanted.tied) if alignment else {}
    ignored.update({name: pairs.get(short) for short, name in names.items() if name in ignored})
    taken = {names[short]: entry for short, entry in pairs.items() if names[short] not in ignored}
    assignments, mismatched = _judge(taken, wanted, file, alignment, spec)
    met = {a.name for a in assignments} | {m.name for m in mismatched}
    open_names = [n for n in names.values() if n not in ignored]
    missing = [n for n in open_names if n not in met]
    fresh = [n for n in missing if n not in bookkept]
    matched = [a.entry for a in assignments] + [m.source for m in mismatched]
    unexpected, bookkeeping, elsewhere = _split_rest(file, matched, [e for e in ignored.values() if e])
    sizes = {n: math.prod(s) for n, s in wanted.shapes.items()}
    return Plan(
        alignment=alignment,
        assignments=tuple(assignments),
        fresh=tuple(fresh),
        mismatched=tuple(mismatched),
        ignored=ignored,
        computed=(*computed, *(n for n in missing if n in bookkept)),
        unexpected=unexpected,
        bookkeeping=bookkeeping,
        elsewhere=elsewhere,
        idle_ignores=idle_ignores,
        idle_rules=file.idle_rules,
        loaded_size=sum(sizes[a.name] for a in assignments if a.name not in bookkept),
        total_size=sum(sizes[n] for n in open_names if n not in bookkept),
        shapes=wanted.shapes,
    )


def _check_dialect(dialect: str | None) -> None:
    known = sorted({ALIGN, *(column for table in (*TABLES, *WHOLE) for column in table.columns)})
    if dialect is not None and dialect not in known:
        hint = did_you_mean(dialect, known) or "."
        raise SpecError(f"dialect: there is no '{dialect}'{hint} Known: {', '.join(known)}")


def _aligned(shapes: Mapping[str, Shape], file: Inventory, dialect: str | None) -> Alignment | None:
    """Align by the families' tables, or by one of whole models where the module has parts of that."""
    if dialect == ALIGN:
        return guess(shapes, file)
    family = align(shapes, file, TABLES, dialect)
    filled = family.pairs.keys() if family else frozenset()
    if len(filled) == len(shapes):
        return family
    reading = read_names({name: math.prod(shape) for name, shape in shapes.items()}, WHOLE)
    if reading is None or reading.places.keys() <= filled:
        return family
    whole = align(shapes, file, WHOLE, dialect)
    return whole if whole and (family is None or whole.score > family.score) else family


def _split_ignored(
    shapes: Mapping[str, Shape], patterns: tuple[str, ...]
) -> tuple[dict[str, Entry | None], tuple[str, ...]]:
    """Return the keys that the patterns name, and the patterns that name none."""
    ignored: dict[str, Entry | None] = {}
    idle = []
    for pattern in patterns:
        hits = [name for name in shapes if _names(pattern, name)]
        ignored.update(dict.fromkeys(hits))
        if not hits:
            idle.append(pattern + did_you_mean(pattern, _name_parts(shapes)))
    return ignored, tuple(idle)


def _names(pattern: str, name: str) -> bool:
    prefix = pattern.rstrip(".")
    return name == prefix or name.startswith(f"{prefix}.") or fnmatchcase(name, pattern)


def _name_parts(shapes: Mapping[str, Shape]) -> set[str]:
    """Return all keys and their dotted prefixes."""
    parts = set(shapes)
    for name in shapes:
        segments = name.split(".")
        parts.update(".".join(segments[:i]) for i in range(1, len(segments)))
    return parts


def _judge(
    pairs: Mapping[str, Entry],
    wanted: Wanted,
    file: Inventory,
    alignment: Alignment | None,
    spec: PretrainSpec,
) -> tuple[list[Assignment], list[Mismatch]]:
    """Sort the pairs into those that fit and those that do not."""
    assignments: list[Assignment] = []
    mismatched: list[Mismatch] = []
    if alignment is None:
        return assignments, mismatched
    fitter = Fitter(wanted, file, alignment, spec.adapt)
    for name, entry in pairs.items():
        adaptation, reason = fitter.adaptation(name, entry), fitter.unlike(name, entry)
        if reason and last_of(name) in BOOKKEEPING:
            continue  # a counter that was made a half along with the weights
        if adaptation is None or reason:
            shape = entry_shape(entry, file)
            mismatched.append(Mismatch(name, wanted.shapes[name], entry, shape, reason))
        else:
            assignments.append(Assignment(name, entry, adaptation))
    return assignments, mismatched


def _with_tied(pairs: Mapping[str, Entry], tied: Sequence[Sequence[str]]) -> dict[str, Entry]:
    """Let every name of a tied tensor have what one of them has."""
    result = dict(pairs)
    for group in tied:
        names = [unwrapped(name) for name in group]
        entry = next((pairs[name] for name in names if name in pairs), None)
        if entry is not None:
            result.update({name: result.get(name, entry) for name in names})
    return result


def _split_rest(
    file: Inventory, matched: Sequence[Entry], ignored: Sequence[Entry]
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, int]]:
    """Sort the file's other keys: unexpected, bookkeeping, and those of other entries."""
    used = {name for entry in (*matched, *ignored) for name in names_of(entry)}
    scope = _scope({file.tensors[n].entry for n in used})
    identities = {file.tensors[n].tensor.identity for n in used}
    unexpected, bookkeeping, elsewhere = [], [], dict[str, int]()
    for name, one in file.tensors.items():
        if name in used:
            continue
        if used and not _within(one.entry, scope):
            elsewhere[one.entry] = elsewhere.get(one.entry, 0) + 1
        elif last_of(name) in BOOKKEEPING | COMPUTED or one.tensor.identity in identities:
            bookkeeping.append(one.key)
        else:
            unexpected.append(one.key)
    return tuple(unexpected), tuple(bookkeeping), elsewhere


def _scope(entries: set[str]) -> tuple[str, ...]:
    """Return the entries that hold the chosen network: those of its tensors, or their common start."""
    if len(entries) <= 1:
        return tuple(entries)
    split = [entry.split(".") for entry in entries]
    common = list(_common_start(split))
    if common:
        return (".".join(common),)
    return tuple({segments[0] for segments in split})


def _common_start(split: list[list[str]]) -> Iterator[str]:
    for segments in zip(*split, strict=False):
        if len(set(segments)) > 1:
            return
        yield segments[0]


def _within(entry: str, scope: tuple[str, ...]) -> bool:
    return any(entry == node or (node and entry.startswith(f"{node}.")) for node in scope)
