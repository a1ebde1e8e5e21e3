"""Many keys in few words: `neck.* (129)`, `blocks.{0...11}.attn.qkv.bias`, `norm.{weight, bias}`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

#: A part of which fewer keys than this are named is written out.
FOLD_FROM = 5

_SEGMENT_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)")


def fold(names: Collection[str], others: Iterable[str] = ()) -> list[str]:
    """Write keys shortly.

    Args:
        names: The keys.
        others: Keys of the same side with another fate: a part that holds one of them is not folded whole.

    Returns:
        Phrases, in the order of the keys.
    """
    if not names:
        return []
    mixed = {prefix for other in others for prefix in _prefixes(other)}
    counts: dict[str, int] = {}
    for name in names:
        for prefix in _prefixes(name):
            counts[prefix] = counts.get(prefix, 0) + 1
    wholes: dict[str, int] = {}
    leaves: dict[str, list[str]] = {}
    for name in names:
        whole = next((p for p in _prefixes(name) if p not in mixed and counts[p] >= FOLD_FROM), None)
        if whole is not None:
            wholes[whole] = counts[whole]
            leaves.setdefault(f"{whole}.*", [])
        else:
            parent, _, leaf = name.rpartition(".")
            leaves.setdefault(parent, []).append(leaf)
    return _fold_numbers([_phrase(parent, parts, wholes) for parent, parts in leaves.items()])


def _prefixes(name: str) -> list[str]:
    """Return the dotted prefixes of a key, the shortest first."""
    return [name[:i] for i, c in enumerate(name) if c == "."]


def _phrase(parent: str, leaves: list[str], wholes: dict[str, int]) -> tuple[str, int]:
    if not leaves:
        return parent, wholes[parent[:-2]]
    if len(leaves) == 1:
        return (f"{parent}.{leaves[0]}" if parent else leaves[0]), 1
    listed = "{" + ", ".join(leaves) + "}"
    return (f"{parent}.{listed}" if parent else ", ".join(leaves)), len(leaves)


def _fold_numbers(phrases: list[tuple[str, int]]) -> list[str]:
    """Join phrases that differ in one number."""
    groups: dict[str, list[tuple[str, int]]] = {}
    for phrase, count in phrases:
        groups.setdefault(_SEGMENT_NUMBER.sub("#", phrase), []).append((phrase, count))
    return [text for group in groups.values() for text in _join(group)]


def _join(group: list[tuple[str, int]]) -> list[str]:
    numbers = [_SEGMENT_NUMBER.findall(phrase) for phrase, _ in group]
    varying = [i for i in range(len(numbers[0])) if len({n[i] for n in numbers}) > 1]
    total = sum(count for _, count in group)
    if len(group) == 1 or len(varying) != 1:
        return [_with_count(phrase, count) for phrase, count in group]
    slot = iter(range(len(numbers[0])))
    found = sorted(int(n[varying[0]]) for n in numbers)
    spelled = _spell(found)
    text = _SEGMENT_NUMBER.sub(lambda m: spelled if next(slot) == varying[0] else m.group(), group[0][0])
    return [_with_count(text, total)]


def _spell(numbers: list[int]) -> str:
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{{{numbers[0]}...{numbers[-1]}}}"
    return "{" + ", ".join(map(str, numbers)) + "}"


def _with_count(phrase: str, count: int) -> str:
    return f"{phrase} ({count})" if phrase.endswith(".*") else phrase


def layer_of(key: str) -> str:
    """Return the part of a key up to its first index, '' where it has none."""
    segments = key.split(".")
    at = next((i for i, segment in enumerate(segments[:-1]) if segment.isdigit()), None)
    return "" if at is None else ".".join(segments[: at + 1])
