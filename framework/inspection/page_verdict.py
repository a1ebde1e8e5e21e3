"""Did the weights load? One word and one sentence, for the top of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from framework.inspection.facts import FileFacts
from framework.inspection.terminal import amount
from framework.pretrain.fold import fold
from framework.pretrain.report import LoadReport, percent

#: The part of a model that a checkpoint is for, where the model has one of that name.
MAIN = "backbone"

#: Phrases of a list that are written before the rest is only counted.
SHOWN = 3

#: Characters of such a phrase.
LONGEST = 90

#: Statuses whose tensors come from the file, and those that it was not asked for.
TAKEN, LEFT_OUT = ("loaded", "adapted"), ("ignored", "computed")


@dataclass(frozen=True)
class Verdict:
    """What the page says first.

    Attributes:
        tone: 'good', 'partly' or 'bad'; 'plain' where nothing is judged.
        word: The answer.
        sentence: The reason.
        share: Share of the model's elements that come from the file, in [0, 1]; None without a model.
    """

    tone: str
    word: str
    sentence: str
    share: float | None = None


def verdict_on(facts: FileFacts, report: LoadReport | None) -> Verdict:
    """Judge a load, or say what a file is where there is none."""
    return _describe(facts) if report is None else _judge(report)


def _describe(facts: FileFacts) -> Verdict:
    held = f"{_count(len(facts.tensors), 'tensor')} with {amount(facts.elements)} parameters"
    found = facts.architecture
    if found is None:
        return Verdict("plain", "", f"{facts.path} holds {held}. No table of names knows its architecture.")
    article = "an" if found.title[:1] in "AEIO" else "a"
    told = {name: value for name, value in found.figures.items() if f"num_{name}" not in found.assumed}
    figures = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items())
    network = f"{article} {found.title} ({figures})" if figures else f"{article} {found.title}"
    return Verdict("plain", "", f"{facts.path} holds {held}: {network} in {found.dialect} names.")


def _judge(report: LoadReport) -> Verdict:
    names = [name for name, one in report.tensors.items() if one.status not in LEFT_OUT]
    main = [name for name in names if name.startswith(f"{MAIN}.")]
    what = f"the {MAIN}" if main else "the model"
    share = _share(report, main or names)
    tone, word = _answer(share)
    if share == 1:
        sentence = f"All of {what} comes from {report.path}"
    elif share == 0:
        sentence = f"Nothing of {what} comes from {report.path}"
        sentence += ": a load would be refused" if report.coverage == 0 else ""
    else:
        sentence = f"{percent(share)} of {what} comes from {report.path}"
    inside = report.left_inside()
    if inside and share > 0:
        tone, word = ("partly", "Almost") if tone == "good" else (tone, word)
        have = "has" if len(inside) == 1 else "have"
        kept = f"{_count(len(inside), 'tensor')} of layers that were loaded {have} no place in it"
        sentence += f", but {kept}: its features change"
    return Verdict(tone, word, f"{sentence}.{_rest(report, names)}", report.coverage)


def _answer(share: float) -> tuple[str, str]:
    if share == 1:
        return "good", "Yes"
    if share == 0:
        return "bad", "No"
    if share >= 0.9:
        return "partly", "Mostly"
    return ("partly", "Only in part") if share >= 0.5 else ("bad", "Hardly")


def _share(report: LoadReport, names: Sequence[str]) -> float:
    """Return the share of elements that come from the file; by tensors where there are no elements."""
    sizes = {name: math.prod(report.tensors[name].shape) for name in names}
    taken = {name: size for name, size in sizes.items() if report.tensors[name].status in TAKEN}
    if len(taken) == len(sizes):
        return float(bool(sizes))
    return sum(taken.values()) / max(sum(sizes.values()), 1)


def _rest(report: LoadReport, names: Sequence[str]) -> str:
    """Say what keeps its initial values though it was not left out on purpose, and what was adapted."""
    initial = [name for name in names if report.tensors[name].status not in TAKEN]
    taken = [name for name in names if report.tensors[name].status in TAKEN]
    words = ""
    if initial and taken:
        size = sum(math.prod(report.tensors[name].shape) for name in initial)
        phrases = fold(initial, taken)
        more = f" and {len(phrases) - SHOWN} more" if len(phrases) > SHOWN else ""
        kept = f"{_count(len(initial), 'tensor')}, {amount(size)} parameters"
        words += f" Initial values: {', '.join(map(_cut, phrases[:SHOWN]))}{more} ({kept})."
    if report.adapted:
        words += f" {_count(len(report.adapted), 'tensor')} adapted in shape."
    return words


def _cut(phrase: str) -> str:
    """Return the start of a long list."""
    if len(phrase) <= LONGEST:
        return phrase
    return f"{phrase[:LONGEST].rpartition(', ')[0] or phrase[:LONGEST]}, ..."


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
