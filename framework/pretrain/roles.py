"""Which of several networks in a file is meant: what their places are called tells their roles.

Pure: prefixes in, a preference out. The words are in `dialects/common.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product

from framework.pretrain.dialects.common import (
    AVERAGED,
    FOLLOWING,
    NO_WEIGHTS,
    PREFERRED,
    PREFERRED_WORDS,
    TRAINING_WORDS,
    USUAL,
)

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


def role(prefix: str, equals: Sequence[str]) -> tuple[int, int, int]:
    """Return how far a prefix is from the one to take: the least of these is taken.

    Args:
        prefix: What stands before a network's names, with the entry of the file.
        equals: The prefixes of all networks that fit equally well.
    """
    segments = prefix.split(".")[:-1]
    state = sum(segment in NO_WEIGHTS or bool(_words(segment) & TRAINING_WORDS) for segment in segments)
    losses = sum(preferred(other, prefix) for other in equals)
    return state, losses, 0 if USUAL & set(segments) else 1


def preferred(first: str, second: str) -> bool:
    """Tell whether the first prefix has a role that is preferred to the second's."""
    one, two = first.split(".")[:-1], second.split(".")[:-1]
    only_one = [segment for segment in one if segment not in two]
    only_two = [segment for segment in two if segment not in one]
    if any(pair in PREFERRED for pair in product(only_one, only_two)):
        return True
    if any(pair in PREFERRED for pair in product(only_two, only_one)):
        return False
    words, others = _words(*only_one), _words(*only_two)
    if bool(words & AVERAGED) != bool(others & AVERAGED):
        return bool(words & AVERAGED)
    if any(win & (words - others) and lose & (others - words) for win, lose in PREFERRED_WORDS):
        return True
    if any(lose & (words - others) and win & (others - words) for win, lose in PREFERRED_WORDS):
        return False
    return bool(others & FOLLOWING) and not words & FOLLOWING


def _words(*segments: str) -> frozenset[str]:
    """Split names as in `model_ema` or `emaModel` into words."""
    return frozenset(word.lower() for segment in segments for word in _WORD.findall(segment))
