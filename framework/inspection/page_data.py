"""What the page of a checkpoint shows, as plain values for JSON. The page decides nothing by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from framework.inspection.facts import FileFacts, TensorFacts
from framework.inspection.histogram import Summary, summarise
from framework.inspection.page_verdict import verdict_on
from framework.inspection.terminal import printable, size
from framework.pretrain.checkpoint import LazyTensor
from framework.pretrain.report import LoadReport, percent

#: What can become of a tensor: its name, and what that means.
STATUSES = {
    "loaded": "Values come from the file.",
    "adapted": "Values come from the file and were changed in shape.",
    "fresh": "Not in the file: keeps its initial values.",
    "mismatched": "In the file, but in a shape that does not fit: keeps its initial values.",
    "ignored": "Left out by ignore_keys: keeps its initial values.",
    "computed": "The model computes it, or counts with it. No weight.",
    "unused": "In the file, and the model has no place for it.",
    "no weight": "In the file, but a counter, a queue or an index. Not needed.",
    "elsewhere": "In another entry of the file than the one that was taken.",
}

#: Parts of a file that have a colour of their own; the others share one.
PARTS = 6

#: Names are cut beyond this many characters.
LONGEST_NAME = 400

#: Digits of a quantised height in a histogram, lowest first.
HEIGHTS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

Values = Mapping[str, LazyTensor]


def page_data(facts: FileFacts, report: LoadReport | None, values: Values) -> dict[str, Any]:
    """Return what the page shows.

    Args:
        facts: The file.
        report: A load, or the plan of one; None shows the file alone.
        values: Key -> tensor of the file, of those whose values are to be summarised.

    Returns:
        Text, numbers, lists and dicts. Text is readable: control characters are spelled out.

    Raises:
        CheckpointError: The file cannot be read, or is not what it was.
    """
    verdict = verdict_on(facts, report)
    tensors = list(_of_file(facts) if report is None else _of_load(facts, report))
    kinds = _kinds(facts, report)
    return {
        "title": readable(f"{report.module} from {report.path}" if report else facts.path),
        "verdict": {
            "tone": verdict.tone,
            "word": verdict.word,
            "sentence": readable(verdict.sentence, limit=1000),
            "share": None if verdict.share is None else percent(verdict.share),
        },
        "kinds": kinds,
        "roots": _roots(report),
        "notes": [readable(line.strip(), limit=800) for line in (report.table() if report else [])],
        "headline": readable(report.headline(), limit=1000) if report else "",
        "facts": [[label, readable(text, limit=1000)] for label, text in _about(facts, report)],
        "tensors": tensors,
        "sources": _sources(facts, values),
    }


def readable(text: str, limit: int = LONGEST_NAME) -> str:
    """Spell out what cannot be seen or would turn the text around, and cut the middle of a long text."""
    if len(text) > limit:
        text = f"{text[: limit // 2]}…{text[-limit // 2 + 1 :]}"
    return printable(text)


def _roots(report: LoadReport | None) -> list[dict[str, Any]]:
    """Return the tops of the tree, and whether the map shows them at first."""
    if report is None:
        return [{"label": "the file", "shown": True}]
    return [
        {"label": readable(report.module), "shown": True},
        {"label": "only in the file", "shown": True},
        {"label": "other entries of the file", "shown": False},
    ]


def _of_load(facts: FileFacts, report: LoadReport) -> Iterator[dict[str, Any]]:
    number = {one.key: i for i, one in enumerate(facts.tensors)}
    status = {name: i for i, name in enumerate(STATUSES)}
    used: set[str] = set()
    for name, record in report.tensors.items():
        used.update(record.sources)
        sources = [number[key] for key in record.sources if key in number]
        how = readable(record.operation)
        yield _tensor(name, 0, status[record.status], record.shape) | {"how": how, "from": sources}
    rest = _fate(report)
    for i, one in enumerate(facts.tensors):
        if one.key not in used:
            fate = rest(one)
            root = 2 if fate == "elsewhere" else 1
            yield _tensor(one.key, root, status[fate], one.shape) | {"how": "", "from": [i]}


def _of_file(facts: FileFacts) -> Iterator[dict[str, Any]]:
    part, names = _parts(facts)
    for i, one in enumerate(facts.tensors):
        kind = names.index(part(one)) if part(one) in names else len(names)
        yield _tensor(one.key, 0, kind, one.shape) | {"how": "", "from": [i]}


def _tensor(name: str, root: int, kind: int, shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        "name": readable(name),
        "root": root,
        "kind": kind,
        "shape": list(shape),
        "size": math.prod(shape),
    }


def _fate(report: LoadReport) -> Callable[[TensorFacts], str]:
    """Return what tells the status of a tensor that only the file has."""
    start = len(report.entry) + 1 if report.entry else 0
    unexpected, bookkeeping = set(report.unexpected), set(report.bookkeeping)

    def fate(one: TensorFacts) -> str:
        if one.entry in report.elsewhere:
            return "elsewhere"
        if one.key in bookkeeping:
            return "no weight"
        return "unused" if one.key[start:] in unexpected else "elsewhere"

    return fate


def _kinds(facts: FileFacts, report: LoadReport | None) -> list[dict[str, str]]:
    """Return what the colours stand for, in the order of the numbers in the tensors."""
    if report is not None:
        return [
            {"label": name, "about": about, "tone": name.replace(" ", "-")}
            for name, about in STATUSES.items()
        ]
    names = _parts(facts)[1]
    kinds = [
        {"label": readable(n, 60) or "top level", "about": "", "tone": f"part-{i + 1}"}
        for i, n in enumerate(names)
    ]
    return [*kinds, {"label": "other parts", "about": "", "tone": f"part-{PARTS + 1}"}]


def _parts(facts: FileFacts) -> tuple[Callable[[TensorFacts], str], list[str]]:
    """Return what tells the part of a tensor, and the largest parts: entries, or what is in the only one."""
    several = len({one.entry for one in facts.tensors}) > 1

    def part(one: TensorFacts) -> str:
        inner = one.key if several or not one.entry else one.key[len(one.entry) + 1 :]
        return inner.replace("/", ".").split(".", 1)[0]

    sizes: dict[str, int] = {}
    for one in facts.tensors:
        sizes[part(one)] = sizes.get(part(one), 0) + one.elements
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:PARTS]
    return part, [name for name in sizes if name in largest]


def _sources(facts: FileFacts, values: Values) -> list[dict[str, Any]]:
    """Return the tensors of the file; those of the same storage are summarised once."""
    known: dict[str, dict[str, Any] | None] = {}
    sources = []
    for one in facts.tensors:
        first = one.same_as or one.key
        if first not in known:
            known[first] = _summary(summarise(values[first])) if first in values else None
        sources.append(
            {
                "key": readable(one.key),
                "shape": list(one.shape),
                "dtype": one.dtype,
                "values": known[first],
                "same": readable(one.same_as) if one.same_as else "",
            }
        )
    return sources


def _summary(summary: Summary) -> dict[str, Any]:
    top = max(summary.bars, default=0)
    heights = [HEIGHTS[math.ceil(bar * (len(HEIGHTS) - 1) / top)] for bar in summary.bars]
    figures = {name: _figure(getattr(summary, name)) for name in ("low", "high", "mean", "std")}
    counts = {name: getattr(summary, name) for name in ("elements", "finite", "nan", "zeros")}
    return figures | counts | {"bars": "".join(heights)}


def _figure(value: float) -> float:
    """Round to what a reader wants; the largest doubles would round up to infinity."""
    rounded = float(f"{value:.5g}")
    return rounded if math.isfinite(rounded) else value


def _about(facts: FileFacts, report: LoadReport | None) -> Iterator[tuple[str, str]]:
    """Yield label and text of what else is known of the file."""
    yield "File", facts.path
    yield "Format", facts.format
    yield "Size", size(facts.size)
    yield "Tensors", f"{len(facts.tensors):,} with {facts.elements:,} elements"
    yield "Types", ", ".join(f"{name} ({count:,})" for name, count in facts.dtypes.items())
    if facts.producer:
        yield "Written by", facts.producer
    if facts.architecture:
        yield "Architecture", f"{facts.architecture.title}, {facts.architecture.dialect} names"
    if len(facts.entries) > 1 or facts.entries[0].name:
        names = [f"{one.name or 'top level'} ({one.tensors:,})" for one in facts.entries]
        yield "Entries", ", ".join(names)
    if facts.wrappers:
        yield "Wrappers", ", ".join(facts.wrappers)
    if facts.sha256:
        yield "sha256", facts.sha256
    if facts.remark:
        yield "Note", facts.remark
    if facts.replaced:
        yield "Objects not made", ", ".join(facts.replaced)
    if report is not None and report.where:
        yield "Place in the config", report.where
