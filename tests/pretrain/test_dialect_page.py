"""The page of naming schemes is made from the tables."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_shows_the_tables_as_they_are() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "make_dialects_page.py"))
    text = (ROOT / "docs" / "dialects.md").read_text()
    assert tool["page"](text) == text, "run: python tools/make_dialects_page.py"
