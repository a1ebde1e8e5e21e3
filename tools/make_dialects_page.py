#!/usr/bin/env python
"""Write the tables of `docs/dialects.md` from the naming tables: `python tools/make_dialects_page.py`."""

from __future__ import annotations

from pathlib import Path

from framework.pretrain.dialect import Column, Table
from framework.pretrain.dialects import TABLES, WHOLE

PAGE = Path(__file__).parents[1] / "docs" / "dialects.md"
START, END = "<!-- tables: python tools/make_dialects_page.py -->", "<!-- end of tables -->"
HEADER = (
    "| `dialect` | who writes it | read | write | compared with | names read in |\n|---|---|---|---|---|---|"
)


def page(text: str) -> str:
    """Return the page with the tables as they are now."""
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    return "\n\n".join([before + START, *map(section, (*TABLES, *WHOLE)), END + after])


def section(table: Table) -> str:
    """Return the table of one family, or of the models around a backbone of one, which are only read."""
    write = "no" if table in WHOLE else "yes"
    rows = [line(name, column, write) for name, column in table.columns.items()]
    return "\n".join([f"### {table.title}\n", HEADER, *rows])


def line(name: str, column: Column, write: str) -> str:
    """Return the line of one scheme."""
    return f"| `{name}` | {column.producers} | yes | {write} | {column.tested} | {column.source} |"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
