#!/usr/bin/env python
"""Write the tables of `docs/dialects.md` from the naming tables: `python tools/make_dialects_page.py`."""

from __future__ import annotations

from pathlib import Path

from framework.pretrain.dialect import Column, Table
from framework.pretrain.dialects import TABLES

PAGE = Path(__file__).parents[1] / "docs" / "dialects.md"
START, END = "<!-- tables: python tools/make_dialects_page.py -->", "<!-- end of tables -->"
HEADER = (
    "| `dialect` | who writes it | read | write | compared with | names read in |\n|---|---|---|---|---|---|"
)


def page(text: str) -> str:
    """Return the page with the tables as they are now."""
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    return "\n\n".join([before + START, *map(section, TABLES), END + after])


def section(table: Table) -> str:
    """Return the table of one family."""
    rows = [line(name, column) for name, column in table.columns.items()]
    return "\n".join([f"### {table.title}\n", HEADER, *rows])


def line(name: str, column: Column) -> str:
    """Return the line of one scheme."""
    return f"| `{name}` | {column.producers} | yes | yes | {column.tested} | {column.source} |"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
