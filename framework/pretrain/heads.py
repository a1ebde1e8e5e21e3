"""Where a classifier's last layer is, which every library calls otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from framework.pretrain.dialect import Given, leaves_of
from framework.pretrain.operation import Entry, Shape, names_of, with_names


def head_entries(
    prefix: str, given: Given, stems: Sequence[str], shapes: Mapping[str, Shape]
) -> dict[str, Entry]:
    """Return the leaves of a classifier's last layer: where the scheme says it is, or where heads are."""
    return _given_head(given, prefix, shapes) or _named_head(find_head(prefix, shapes, stems), shapes)


def _given_head(given: Given, prefix: str, shapes: Mapping[str, Shape]) -> dict[str, Entry]:
    """Return the leaves of the head where the scheme says it is, as far as the file has them."""
    found: dict[str, Entry] = {}
    for leaf, entry in leaves_of(given).items():
        names = [head_name(name, prefix) for name in names_of(entry)]
        if all(name in shapes for name in names):
            found[leaf] = with_names(entry, names)
    return found


def _named_head(stem: str | None, shapes: Mapping[str, Shape]) -> dict[str, Entry]:
    return {leaf: f"{stem}.{leaf}" for leaf in ("weight", "bias") if f"{stem}.{leaf}" in shapes}


def find_head(prefix: str, shapes: Mapping[str, Shape], stems: Sequence[str]) -> str | None:
    """Return the stem of the classifier's last layer, looked for beside the aligned part and inside it."""
    for root in dict.fromkeys((outer(prefix), prefix)):
        for stem in stems:
            if len(shapes.get(f"{root}{stem}.weight", ())) == 2:
                return root + stem
    return None


def outer(prefix: str) -> str:
    """Return a prefix without its last segment."""
    return prefix[: prefix.rfind(".", 0, -1) + 1]


def head_name(name: str, prefix: str) -> str:
    """Write the name of a classifier's tensor: `^` before it says that it stands beside the prefix."""
    return outer(prefix) + name[1:] if name.startswith("^") else prefix + name
