"""The page of the commands lists every command and every option."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from framework.inspection.cli import _parser

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
EVERYWHERE = {"-h", "--help", "--json"}


def commands() -> dict[str, argparse.ArgumentParser]:
    (action,) = (one for one in _parser()._actions if isinstance(one, argparse._SubParsersAction))
    return dict(action.choices)


def test_every_command_has_a_row_and_a_section() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.split("\n## ")[0], re.MULTILINE)
    assert rows == list(commands()) == re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)


def test_every_option_is_in_the_table_of_its_command() -> None:
    for name, parser in commands().items():
        options = {flag for one in parser._actions for flag in one.option_strings} - EVERYWHERE
        section = PAGE.split(f"\n## {name}\n")[1].split("\n## ")[0]
        cells = re.findall(r"^\| (`-[^|]+) \|", section, re.MULTILINE)
        assert {flag for cell in cells for flag in re.findall(r"`(-{1,2}[\w-]+)", cell)} == options, name
