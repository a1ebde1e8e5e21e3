"""Text for a terminal: nothing that a file says can move the cursor, and colours stand on terminals alone."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TextIO

#: Control, format (right-to-left and other invisible marks), surrogate, private, unassigned characters, and
#: separators of lines and paragraphs.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

#: Characters of the widest cell that others are aligned with.
WIDEST = 120

_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def printable(text: str) -> str:
    r"""Return a text in which each character that a terminal would obey is written out: `\x1b`, `\u202e`."""
    if text.isprintable():
        return text
    return "".join(_written_out(character) for character in text)


def _written_out(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape").decode("ascii")


class Style:
    """Colours, or none."""

    def __init__(self, stream: TextIO, environment: Mapping[str, str] = os.environ) -> None:
        """Use colours if the stream is a terminal that has them (https://no-color.org).

        Args:
            stream: Where text goes.
            environment: `NO_COLOR` (not empty) and `TERM=dumb` ask for none.
        """
        asked_not_to = bool(environment.get("NO_COLOR")) or environment.get("TERM") == "dumb"
        self.coloured = stream.isatty() and not asked_not_to

    def __call__(self, text: str, name: str) -> str:
        """Return a text in a colour: bold, dim, red, green, yellow or cyan."""
        return f"\x1b[{_CODES[name]}m{text}\x1b[0m" if self.coloured else text


def size(count: int) -> str:
    """Write a number of bytes: `1.2 GiB`."""
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"


def amount(count: int) -> str:
    """Write a number of parameters: `304.3 M`."""
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "K")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return str(count)


def counted(count: int, what: str) -> str:
    """Write a number of things: `1 tensor`, `2 tensors`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def columns(rows: Sequence[tuple[str, ...]], indent: str = "  ") -> list[str]:
    """Write rows with aligned columns; the last one is as long as it is. All text is made printable.

    A cell beyond `WIDEST` is written whole, but does not push the columns of the other rows aside.
    """
    clean = [tuple(printable(cell) for cell in row) for row in rows]
    widths = [
        max((len(row[i]) for row in clean if len(row[i]) <= WIDEST), default=0)
        for i in range(len(clean[0]) - 1 if clean else 0)
    ]
    lines = []
    for row in clean:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append(f"{indent}{'  '.join([*cells, row[-1]])}".rstrip())
    return lines
