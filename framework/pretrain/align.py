"""A guess where no names agree: the same shapes, in the same order, with the likest names.

It is never applied by itself: an error shows it as `revise_keys`, and `dialect='align'` asks for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from framework.pretrain.dialects.common import BOOKKEEPING, COMPUTED
from framework.pretrain.inventory import Inventory
from framework.pretrain.operation import Shape

#: The name of this guess among the dialects.
ALIGN = "align"

#: A guess that fills less of the module than this is not worth a word.
WORTH = 0.5

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Proposal:
    """A guessed mapping.

    Attributes:
        pairs: Name in the module -> name in the file.
        rules: The same as `revise_keys`: (regex, replacement).
        coverage: Share of the module's elements that it fills.
    """

    pairs: Mapping[str, str]
    rules: tuple[tuple[str, str], ...]
    coverage: float


@dataclass(frozen=True)
class _Group:
    """The tensors whose names differ in their numbers alone, in the order of these numbers."""

    template: str
    names: tuple[str, ...]
    numbers: tuple[tuple[int, ...], ...]
    shapes: tuple[Shape, ...]

    @property
    def kind(self) -> tuple[object, ...]:
        """What two groups must share: the last segment and all shapes."""
        return self.template.rsplit(".", 1)[-1], self.shapes


def propose(wanted: Mapping[str, Shape], file: Inventory) -> Proposal:
    """Guess which tensor of a file is which of a module, by order and shapes, and by names where these tie.

    Args:
        wanted: The module's names and shapes.
        file: What the file holds.
    """
    entry = _largest_entry(file)
    theirs = {n: one.tensor.shape for n, one in file.tensors.items() if one.entry == entry}
    ours_by_kind = _by_kind(wanted)
    theirs_by_kind = _by_kind(theirs)
    matched = [
        pair for kind, ours in ours_by_kind.items() for pair in _match(ours, theirs_by_kind.get(kind, []))
    ]
    pairs = {a: b for one, other in matched for a, b in zip(one.names, other.names, strict=True)}
    rules = tuple(rule for one, other in matched for rule in _rules(one, _raw(other, file), other))
    sizes = {name: math.prod(shape) for name, shape in wanted.items()}
    filled = sum(sizes[name] for name in pairs)
    return Proposal(pairs, rules, filled / max(sum(sizes.values()), 1))


def describe(proposal: Proposal) -> str:
    """Return a proposal in words, ready to paste; '' where it is not worth a word."""
    if proposal.coverage < WORTH:
        return ""
    lines = [f"    ({pattern!r}, {replacement!r})," for pattern, replacement in proposal.rules]
    return "\n".join(
        [
            f"By order and shapes these rules would fill {proposal.coverage:.1%} of the module. They are a "
            "guess: check them, then give them, or dialect='align', which does the same:",
            "  revise_keys=[",
            *lines,
            "  ]",
        ]
    )


def _largest_entry(file: Inventory) -> str:
    """Return the container with most elements."""
    sizes: dict[str, int] = {}
    for one in file.tensors.values():
        sizes[one.entry] = sizes.get(one.entry, 0) + math.prod(one.tensor.shape)
    return max(sizes, key=sizes.__getitem__)


def _by_kind(shapes: Mapping[str, Shape]) -> dict[tuple[object, ...], list[_Group]]:
    """Group names that differ in numbers alone, and these groups by what they must share."""
    templates: dict[str, list[str]] = {}
    for name in shapes:
        if name.rsplit(".", 1)[-1] not in BOOKKEEPING | COMPUTED:
            templates.setdefault(_NUMBER.sub("{}", name), []).append(name)
    kinds: dict[tuple[object, ...], list[_Group]] = {}
    for template, names in templates.items():
        names.sort(key=_numbers)
        group = _Group(
            template, tuple(names), tuple(map(_numbers, names)), tuple(shapes[name] for name in names)
        )
        kinds.setdefault(group.kind, []).append(group)
    return kinds


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, _NUMBER.findall(name)))


def _match(ours: Sequence[_Group], theirs: Sequence[_Group]) -> list[tuple[_Group, _Group]]:
    """Pair groups of one kind: the likest names first, in the order of both sides where they are equal."""
    if len(ours) == len(theirs) == 1:
        return [(ours[0], theirs[0])]
    ranked = sorted(
        (
            (-_likeness(one.template, other.template), abs(i - j), i, j)
            for i, one in enumerate(ours)
            for j, other in enumerate(theirs)
        ),
    )
    free_ours, free_theirs = set(range(len(ours))), set(range(len(theirs)))
    pairs = []
    for _, _, i, j in ranked:
        if i in free_ours and j in free_theirs:
            free_ours.remove(i)
            free_theirs.remove(j)
            pairs.append((ours[i], theirs[j]))
    return pairs


def _likeness(one: str, other: str) -> float:
    """Return how many last segments two names share, and how like their rest is."""
    first, second = one.split("."), other.split(".")
    common = 0
    while common < min(len(first), len(second)) and first[-1 - common] == second[-1 - common]:
        common += 1
    return common + SequenceMatcher(None, one, other, autojunk=False).ratio()


def _raw(group: _Group, file: Inventory) -> list[str]:
    """Return a group's keys as they are within their container, wrappers included."""
    tensors = [file.tensors[name] for name in group.names]
    return [one.key[len(one.entry) + 1 :] if one.entry else one.key for one in tensors]


def _rules(ours: _Group, keys: Sequence[str], theirs: _Group) -> list[tuple[str, str]]:
    """Write a pair of groups as rules on the file's keys."""
    if len(keys) > 1 and ours.numbers == theirs.numbers == tuple(map(_numbers, keys)):
        numbers = iter(range(1, len(ours.numbers[0]) + 1))
        pattern = re.escape(_NUMBER.sub("{}", keys[0])).replace(r"\{\}", r"(\d+)")
        replacement = _NUMBER.sub(lambda match: rf"\g<{next(numbers)}>", ours.names[0])
        return [(f"^{pattern}$", replacement)]
    return [(f"^{re.escape(key)}$", name) for name, key in zip(ours.names, keys, strict=True)]
