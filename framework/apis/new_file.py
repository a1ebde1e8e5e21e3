"""Files that are written whole or not at all, and over no other by accident."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from framework.pretrain.errors import SpecError


def check_new(target: Path, overwrite: bool) -> None:
    """Refuse to write over a file.

    Raises:
        SpecError: There is such a file, and `overwrite` does not say that it may go.
    """
    if target.is_dir():
        raise SpecError(f"'{target}' is a folder: name a file to write")
    if not overwrite and target.exists():
        raise SpecError(f"'{target}' is there already: name another file, or say --overwrite to replace it")


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write to; if there is no error, it becomes `target` at the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{os.getpid()}.part{target.suffix}")
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
