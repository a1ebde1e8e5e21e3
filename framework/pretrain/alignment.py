"""How the names of a file go onto those of a module, and the two ways to it that need no vote.

Pure: names and shapes in, an alignment out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from framework.pretrain.align import ALIGN, propose
from framework.pretrain.inventory import Inventory
from framework.pretrain.operation import Entry, Shape


@dataclass(frozen=True)
class Alignment:
    """How a file's names go onto a module's.

    Attributes:
        dialect: The file's naming scheme; None where file and module use the same names.
        model_prefix: What stands before the aligned part in the module's names.
        file_prefix: What stands before it in the file's names.
        score: Number of elements matched in name and shape.
        alternatives: File prefixes that fit as well, and were left for their role or place.
        undecided: Those of them that nothing but their place tells from the one that was taken.
        pairs: Name in the module -> name or operation in the file.
        kinds: Name in the module -> how its shape may be adapted, as the table says.
    """

    dialect: str | None
    model_prefix: str
    file_prefix: str
    score: float
    alternatives: tuple[str, ...]
    undecided: tuple[str, ...]
    pairs: Mapping[str, Entry]
    kinds: Mapping[str, str]


def identical(wanted: Mapping[str, Shape], sizes: Mapping[str, int], file: Inventory) -> Alignment | None:
    """Align a module with a file that holds one network of just these names and shapes: the commonest case.

    No other alignment can fill more, so that there is nothing to vote on.
    """
    entry = next(iter(file.entries)) if len(file.entries) == 1 else None
    if entry is None or len(file.tensors) != len(wanted):
        return None
    prefix = f"{entry}." if entry else ""
    pairs: dict[str, Entry] = {}
    for name, shape in wanted.items():
        one = file.tensors.get(prefix + name)
        if one is None or one.tensor.shape != shape:
            return None
        pairs[name] = prefix + name
    return Alignment(None, "", prefix, sum(sizes.values()), (), (), pairs, {})


def guess(wanted: Mapping[str, Shape], file: Inventory) -> Alignment | None:
    """Align by order and shapes, whatever the names are; None where nothing goes together."""
    proposal = propose(wanted, file)
    score = proposal.coverage * sum(prod(shape) for shape in wanted.values())
    return Alignment(ALIGN, "", "", score, (), (), proposal.pairs, {}) if proposal.pairs else None
