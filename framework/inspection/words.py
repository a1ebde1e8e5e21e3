"""The facts of a file in words, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from framework.inspection.architecture import Architecture, config_line
from framework.inspection.facts import FileFacts, GroupFacts, TensorFacts
from framework.inspection.terminal import Style, amount, columns, counted, printable, size
from framework.pretrain.fold import fold

#: Rows of a list that are written before the rest is only counted.
MOST_ROWS = 16

#: Parts of a network that are named where no class here is like it.
MOST_PARTS = 4


def describe(facts: FileFacts, pretrain: object, style: Style) -> list[str]:
    """Return the lines of `framework inspect`.

    Args:
        facts: The file.
        pretrain: What the printed config gives as `pretrain`.
        style: Colours.
    """
    return [
        *_head(facts, style),
        *_entries(facts, style),
        *_parts(facts, style),
        *_others(facts, style),
        *_network(facts.architecture, style),
        *_how_to_load(facts, pretrain, style),
    ]


def _head(facts: FileFacts, style: Style) -> list[str]:
    numbers = f"{counted(len(facts.tensors), 'tensor')}, {amount(facts.elements)} parameters and buffers"
    types = ", ".join(f"{name} ({count})" for name, count in facts.dtypes.items())
    read = "" if facts.bytes_read is None else f", of which {size(facts.bytes_read)} were fetched"
    rows = [
        ("format", f"{facts.format}, {size(facts.size)}{read}"),
        ("sha256", facts.sha256 or "not known: it takes the whole file"),
        ("holds", numbers),
        ("types", types),
        ("written by", facts.producer),
        ("wrapped in", ", ".join(facts.wrappers)),
        ("note", facts.remark),
    ]
    return [style(printable(facts.path), "bold"), *columns([row for row in rows if row[1]])]


def _entries(facts: FileFacts, style: Style) -> list[str]:
    if len(facts.entries) == 1 and not facts.entries[0].name:
        return []
    taken = facts.entry
    rows = [
        (*_group(one, "the top level"), "taken by a load" if one.name == taken else "")
        for one in facts.entries[:MOST_ROWS]
    ]
    return [style("entries", "bold"), *columns(rows), *_more(facts.entries)]


def _parts(facts: FileFacts, style: Style) -> list[str]:
    rows = [_group(one, "") for one in facts.parts[:MOST_ROWS]]
    inside = f"parts of {printable(facts.entry)}" if facts.entry else "parts"
    return [style(inside, "bold"), *columns(rows), *_more(facts.parts)]


def _group(one: GroupFacts, unnamed: str) -> tuple[str, ...]:
    return one.name or unnamed, counted(one.tensors, "tensor"), amount(one.elements), size(one.nbytes)


def _more(rows: Sequence[object]) -> list[str]:
    return [f"  and {len(rows) - MOST_ROWS} more"] if len(rows) > MOST_ROWS else []


def _others(facts: FileFacts, style: Style) -> list[str]:
    lines = []
    if facts.metadata:
        rows = [(name, str(value)) for name, value in facts.metadata.items()]
        lines += [style("also says", "bold"), *columns(rows[:MOST_ROWS]), *_more(rows)]
    if facts.replaced:
        lines += [
            style("objects of these classes were not made, as that would run code", "yellow"),
            *columns([(name,) for name in facts.replaced[:MOST_ROWS]]),
            *_more(facts.replaced),
        ]
    return lines


def _network(network: Architecture | None, style: Style) -> list[str]:
    if network is None:
        return ["", "of no architecture that has a table of names here (`framework list dialects`)"]
    rows = [
        ("family", network.title),
        ("names", network.dialect),
        ("behind", network.prefix.rstrip(".")),
        ("also there", ", ".join(network.alternatives)),
        *((name.replace("_", " "), _figure(value)) for name, value in network.figures.items()),
    ]
    return [style("network", "bold"), *columns([row for row in rows if row[1]])]


def _figure(value: Any) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _how_to_load(facts: FileFacts, pretrain: object, style: Style) -> list[str]:
    line = config_line(facts.architecture, pretrain) if facts.architecture else None
    if line is None:
        return ["", *_why_not(facts.architecture, style), f"load it with: pretrain={_quoted(pretrain)}"]
    assumed = facts.architecture.assumed if facts.architecture else ()
    notes = [f"# not in the file, so check: {', '.join(assumed)}"] if assumed else []
    return ["", *[style(note, "yellow") for note in notes], style(printable(line), "green")]


def _why_not(network: Architecture | None, style: Style) -> list[str]:
    """Say what keeps the class of a family from being the network."""
    if network is None or not network.unlike:
        return []
    others = f" and {len(network.unlike) - MOST_PARTS} more" if len(network.unlike) > MOST_PARTS else ""
    parts = printable(", ".join(network.unlike[:MOST_PARTS]))
    return [style(f"# no class here is just like it; one would differ in {parts}{others}", "yellow")]


def _quoted(pretrain: object) -> str:
    return printable(repr(pretrain))


def describe_keys(facts: FileFacts, pattern: str | None) -> list[str]:
    """Return the keys: those that differ in a number together, or each that a glob pattern matches."""
    if pattern is None:
        keys = [one.key for one in facts.tensors]
        return [f"  {printable(phrase)}" for phrase in fold(keys, keys)]
    rows = [_tensor(one) for one in facts.tensors if fnmatchcase(one.key, pattern)]
    return columns(rows) or [f"  no key matches {printable(pattern)}"]


def _tensor(one: TensorFacts) -> tuple[str, ...]:
    return one.key, str(one.shape), one.dtype, f"the same as {one.same_as}" if one.same_as else ""


def describe_stats(stats: Mapping[str, Any], style: Style) -> list[str]:
    """Return a table of what `stats_of` gives."""
    rows: list[tuple[str, ...]] = [("key", "mean", "std", "low", "high", "zeros", "NaN", "")]
    for key, one in stats.items():
        figures = ["-" if v is None else f"{v:.4g}" for v in (one.mean, one.std, one.low, one.high)]
        twin = f"equals {one.equals}" if one.equals else ""
        rows.append((key, *figures, f"{one.zero_share:.1%}", str(one.nan), twin))
    lines = columns(rows)
    return [style(lines[0], "bold"), *lines[1:]] if lines else []
