"""`metrics.jsonl`: every number that a run logs, one JSON object per line."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from framework.engine.checkpoint import explained, write_text
from framework.errors import ConfigError

FILE_NAME = "metrics.jsonl"


class MetricsFile:
    """The lines of one run, across all the times that it was resumed.

    A line holds `mode` ('train', 'val' or 'test'), `step` (iterations done), `epoch`, and numbers by name.
    What is not finite is null.

    Args:
        folder: The work dir.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder, FILE_NAME)
        self._there: set[tuple[str, int]] = set()

    def begin(self, step: int, name: str) -> None:
        """Start the file, or go on with it.

        Args:
            step: Iterations that are done. Lines beyond them, of a run that was killed after its last
                checkpoint, are dropped. At 0 an older run's file is kept as `metrics_before_<name>.jsonl`.
            name: Name of the run that begins.
        """
        if not self.path.is_file():
            return
        if step == 0:
            self.path.replace(self.path.with_name(f"metrics_before_{name}.jsonl"))
            return
        text = self.path.read_text(encoding="utf-8")
        lines = [line for line in _lines(text) if line["step"] <= step]
        self._there = {(line["mode"], line["step"]) for line in lines}
        kept = "".join(f"{json.dumps(line)}\n" for line in lines)
        if kept != text:
            write_text(self.path, kept)

    def write(self, mode: str, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        """Append one line, unless a run that this one resumes wrote it already.

        Raises:
            SaveError: It cannot be written, e.g. as the disk is full.
        """
        if (mode, step) in self._there:
            return
        found = {name: _number(value) for name, value in values.items() if isinstance(value, numbers.Real)}
        line = json.dumps({"mode": mode, "step": step, "epoch": epoch, **found})
        with explained(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """Read the lines of a run.

    Args:
        run: A work dir, or a `metrics.jsonl`.

    Raises:
        ConfigError: There is no such file, or nothing in it.
    """
    path = Path(run)
    path = path / FILE_NAME if path.is_dir() else path
    if not path.is_file():
        raise ConfigError(f"There is no {path}; expected is the work dir of a run, or its {FILE_NAME}")
    lines = list(_lines(path.read_text(encoding="utf-8")))
    if not lines:
        raise ConfigError(f"{path} has no numbers in it yet")
    return lines


def _lines(text: str) -> Iterator[dict[str, Any]]:
    """Yield the lines; the last one may have been cut off by a kill."""
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict) and {"mode", "step"} <= entry.keys():
            yield entry


def _number(value: Any) -> int | float | None:
    number = value if isinstance(value, int) else float(value)
    return number if math.isfinite(number) else None
