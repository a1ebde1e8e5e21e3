"""Which tokens before the patches have a position: schemes differ, sums of tokens and positions do not."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from framework.pretrain.errors import MismatchError

#: The tokens before the patches, in order, by our names.
PREFIX = ("cls_token", "dist_token", "reg_token")


def placed(
    weights: Mapping[str, Tensor], positioned: Collection[str], patches: int | None = None
) -> dict[str, Tensor]:
    """Give positions to some of the tokens before the patches, and to no others.

    A position that a scheme has no place for is added to its token; one that is missing is zero. Both leave
    the sum of the two as it was.

    Args:
        weights: By our names; looked at are `pos_embed` (1, tokens, channels) and the tokens.
        positioned: The tokens that the scheme has positions for.
        patches: The number of patches, where it is known. Otherwise the grid is taken for a square.

    Returns:
        What changes.

    Raises:
        MismatchError: The grid is no square, so that the positions do not tell whose they are.
    """
    tokens = {name: weights[name] for name in PREFIX if name in weights}
    positions = weights.get("pos_embed")
    if positions is None:
        return {}
    counts = {name: token.shape[1] for name, token in tokens.items()}
    have = _positioned(positions.shape[1], counts, patches)
    if have is None:
        if positioned and set(tokens) <= set(positioned):
            return {}  # as in most models that are no squares
        raise MismatchError(
            f"pos_embed has {positions.shape[1]} positions, which does not tell which of {', '.join(tokens)} "
            "have one. Resize the positions to a square grid first"
        )
    slots, grid = positions.tensor_split([sum(counts[name] for name in have)], dim=1)
    own = dict(zip(have, slots.split([counts[name] for name in have], dim=1), strict=True))
    changed = {name: tokens[name] + slot for name, slot in own.items() if name not in positioned}
    kept = [own.get(name, torch.zeros_like(token)) for name, token in tokens.items() if name in positioned]
    return {**changed, "pos_embed": torch.cat((*kept, grid), dim=1)}


def _positioned(count: int, tokens: Mapping[str, int], patches: int | None) -> list[str] | None:
    """Return the tokens that have one of `count` positions, where the rest is the grid; else None."""
    names = list(tokens)
    for end in range(len(names), -1, -1):
        rest = count - sum(tokens[name] for name in names[:end])
        if rest == patches or (patches is None and rest > 0 and math.isqrt(rest) ** 2 == rest):
            return names[:end]
    return None
