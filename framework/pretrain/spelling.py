"""The names of a file, ready to be looked up by their endings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from framework.pretrain.dialect import WILD
from framework.pretrain.inventory import Inventory
from framework.pretrain.operation import Entry, names_of, with_names


@dataclass(frozen=True)
class Spelled:
    """The names of a file, ready to be looked up.

    Attributes:
        file: What the file holds.
        tails: Every dotted ending of its names -> the prefixes it stands behind.
        wild: Its names with `*` for the first of two indices in a row -> the name.
    """

    file: Inventory
    tails: Mapping[str, Sequence[str]]
    wild: Mapping[str, str]

    def find(self, entry: Entry, prefix: str) -> Entry | None:
        """Return an entry on the file's names behind a prefix, or None where one of them is missing."""
        names = [self._name(prefix + name) for name in names_of(entry)]
        found = [name for name in names if name is not None]
        return with_names(entry, found) if len(found) == len(names) else None

    def _name(self, name: str) -> str | None:
        return name if name in self.file.tensors else self.wild.get(name)


def spell(file: Inventory) -> Spelled:
    """List the endings of a file's names."""
    wild = {}
    for name in file.tensors:
        match = _TWO_INDICES.search(name)
        if match:
            wild[f"{name[: match.start(1)]}{WILD}{name[match.end(1) :]}"] = name
    tails: dict[str, list[str]] = {}
    for name in (*file.tensors, *wild):
        start = 0
        while True:
            tails.setdefault(name[start:], []).append(name[:start])
            start = name.find(".", start) + 1
            if not start or (name in wild and WILD not in name[start:]):
                break
    return Spelled(file, tails, wild)


_TWO_INDICES = re.compile(r"(?:^|\.)(\d+)\.\d+\.")
