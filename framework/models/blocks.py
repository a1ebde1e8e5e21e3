"""The blocks that a network repeats, told by its structure."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import nn

LISTS = (nn.Sequential, nn.ModuleList)


def repeated_blocks(network: nn.Module) -> dict[str, nn.Module]:
    """Return the blocks that a network is made of, such as the layers of a transformer, by name, in order.

    A class counts as a block if somewhere two members of one list are of that class and have parameters of
    the same names and shapes, in more than one layer; and if it is no part of another class of blocks.
    """
    kinds = {kind for part in network.modules() if isinstance(part, LISTS) for kind in _repeated_kinds(part)}
    inner = {
        type(part)
        for block in network.modules()
        if type(block) in kinds
        for part in block.modules()
        if type(part) is not type(block)
    }
    blocks: dict[str, nn.Module] = {}
    for name, part in network.named_modules():
        if type(part) in kinds - inner and not any(name.startswith(f"{outer}.") for outer in blocks):
            blocks[name] = part
    return blocks


def _repeated_kinds(members: nn.Module) -> set[type[nn.Module]]:
    counts: Counter[tuple[type[nn.Module], Any]] = Counter(
        (type(member), tuple((name, tuple(p.shape)) for name, p in member.named_parameters()))
        for member in members.children()
        if not isinstance(member, LISTS) and len(_layers(member)) > 1
    )
    return {kind for (kind, _), count in counts.items() if count > 1}


def _layers(module: nn.Module) -> set[str]:
    return {name.rpartition(".")[0] for name, _ in module.named_parameters()}
