"""What `framework diff` and `framework show` say."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from framework.inspection.catalogue import Entry
from framework.inspection.compare import Comparison
from framework.inspection.dry_run import DryRun
from framework.inspection.facts import unnumbered
from framework.inspection.terminal import Style, columns, counted, printable
from framework.pretrain.fold import fold
from framework.pretrain.report import LoadReport

#: Pairs that are written before the rest is only counted.
MOST_PAIRS = 24

#: Columns of text.
WIDTH = 100


def describe_dry_run(run: DryRun, style: Style) -> list[str]:
    """Return what a load would do, each fate with its keys."""
    report = run.report
    lines = [style(printable(report.headline()), "bold")]
    for title, colour, phrases in _fates(report):
        if phrases:
            lines += [style(title, colour), *(f"  {printable(phrase)}" for phrase in phrases)]
    if run.rules:
        lines += _proposal(run, style)
    return lines if len(lines) > 1 else [*lines, style("nothing is missing, nothing is left over", "green")]


def _fates(report: LoadReport) -> Iterable[tuple[str, str, list[str]]]:
    taken = [*report.loaded, *report.mismatched, *report.ignored]
    mismatched = [
        f"{name}: {report.tensors[name].operation or f'{here} in the model, {there} in the file'}"
        for name, (here, there) in report.mismatched.items()
    ]
    sources = [key for record in report.tensors.values() for key in record.sources]
    inner = [key[len(report.entry) + 1 :] if report.entry else key for key in sources]
    yield "in the model, not in the file", "yellow", fold(report.fresh, taken)
    yield "in the file, not in the model", "yellow", fold(report.unexpected, inner)
    yield "in both, but they do not go together", "red", _capped(mismatched)
    yield "adapted", "cyan", _capped([f"{name}: {how}" for name, how in report.adapted.items()])
    yield "left out by ignore_keys", "dim", fold(report.ignored)
    yield "ignore_keys without effect", "yellow", list(report.idle_ignores)
    yield "revise_keys without effect", "yellow", list(report.idle_rules)
    yield "other entries of the file", "dim", _others(report)


def _capped(phrases: list[str]) -> list[str]:
    more = [f"and {len(phrases) - MOST_PAIRS} more"] if len(phrases) > MOST_PAIRS else []
    return [*phrases[:MOST_PAIRS], *more]


def _others(report: LoadReport) -> list[str]:
    counts: dict[str, int] = {}
    for name, count in report.elsewhere.items():
        container = unnumbered(name)
        counts[container] = counts.get(container, 0) + count
    return _capped([f"{name or 'the top level'} ({count})" for name, count in counts.items()])


def _proposal(run: DryRun, style: Style) -> list[str]:
    rules = [f"      ({pattern!r}, {replacement!r})," for pattern, replacement in run.rules]
    title = f"by order and shapes these rules look right; with them {run.gain:.1%} would come from the file"
    return [style(title, "cyan"), "  revise_keys=[", *map(printable, rules), "  ]"]


def describe_comparison(comparison: Comparison, style: Style) -> list[str]:
    """Return how two files differ."""
    counts: dict[str, int] = {}
    for pair in comparison.pairs:
        counts[pair.verdict] = counts.get(pair.verdict, 0) + 1
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    names = f" (the second in {comparison.dialect} names)" if comparison.dialect else ""
    lines = [style(f"{counted(len(comparison.pairs), 'tensor')} in both: {told or 'none'}{names}", "bold")]
    rows = [
        (one.key, one.verdict, _detail(one.verdict, one.shapes, one.dtypes, one.largest))
        for one in comparison.pairs
        if one.verdict != "equal"
    ]
    lines += columns(rows[:MOST_PAIRS])
    if len(rows) > MOST_PAIRS:
        lines.append(f"  and {len(rows) - MOST_PAIRS} more")
    for title, keys in (
        ("in the first file alone", comparison.first_only),
        ("in the second file alone", comparison.second_only),
    ):
        if keys:
            lines += [style(title, "yellow"), *(f"  {printable(phrase)}" for phrase in fold(keys))]
    return lines


def _detail(verdict: str, shapes: object, dtypes: tuple[str, str], largest: float | None) -> str:
    if verdict == "other shape":
        assert isinstance(shapes, tuple)
        return f"{shapes[0]} and {shapes[1]}"
    types = "" if dtypes[0] == dtypes[1] else f"{dtypes[0]} and {dtypes[1]}"
    gap = f"by up to {largest:.3g}" if largest else ""
    return ", ".join(filter(None, (gap, types)))


def describe_entry(entry: Entry, style: Style) -> list[str]:
    """Return the description of a class."""
    lines = [style(f"{entry.name}, one of the {entry.kind}", "bold"), f"  defined in {entry.where}", ""]
    lines += [printable(line) for line in entry.text.splitlines()]
    lines += ["", style("arguments", "bold")]
    for one in entry.arguments:
        default = "required" if one.default is None else f"= {one.default}"
        annotation = f": {one.annotation}" if one.annotation else ""
        lines.append(f"  {style(one.name, 'cyan')}{annotation}  {default}")
        lines += textwrap.wrap(one.text, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return [*lines, "", style("example", "bold"), f"  {entry.example}"]
