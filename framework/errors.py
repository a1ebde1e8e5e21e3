"""Errors of configs and builds, and the search for the nearest name that they offer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A config names something that does not exist, or leaves out something that is needed."""


class SaveError(OSError):
    """A checkpoint or a log cannot be written."""


class TrainingError(RuntimeError):
    """A training cannot go on, and what to do about it."""


def nearest(name: str, choices: Iterable[str], count: int = 3) -> list[str]:
    """Return up to `count` of `choices` that look most like `name`, the nearest first, case ignored."""
    by_lower = {choice.lower(): choice for choice in choices}
    return [by_lower[m] for m in difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.5)]


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return ': did you mean A, B?' for the nearest of `choices`, or '' where none is near."""
    near = nearest(name, choices)
    return f": did you mean {', '.join(near)}?" if near else ""
