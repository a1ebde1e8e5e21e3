"""In which order a network uses its parameters: found out by running it without values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from torch import Tensor, nn

from framework.errors import ConfigError
from framework.models.blocks import LISTS, repeated_blocks


@dataclass(frozen=True)
class LayerOrder:
    """Where the parts of a network stand between input and output.

    Attributes:
        depths: Name of a module that was run, or is part of a block -> 0 for what comes before the blocks,
            i + 1 for block i and for what runs between it and the block before, and the number of blocks + 1
            for what runs after the last.
        blocks: Names of the blocks, in the order of execution.
        stage_ends: Depth of the last block of each stage. A stage is a run of blocks whose outputs have one
            shape; where all blocks give the same shape, each block is a stage.
    """

    depths: dict[str, int]
    blocks: tuple[str, ...]
    stage_ends: tuple[int, ...]

    def depth_of(self, name: str) -> int:
        """Return the depth of a parameter, by the innermost part that was run.

        Raises:
            ConfigError: No part that it belongs to was run, except for the network as a whole.
        """
        own = owner = name.rpartition(".")[0]
        while owner and owner not in self.depths:
            owner = owner.rpartition(".")[0]
        if own and not owner:
            raise ConfigError(
                f"The parameter {name} fits no layer, as the network does not use it: freeze it, or "
                f"choose another constructor than LearningRateDecayOptimWrapperConstructor"
            )
        return self.depths[owner]


def find_layer_order(network: nn.Module, run: Callable[[], Any]) -> LayerOrder:
    """Return the order in which a network uses its parts.

    Args:
        network: Any network. Its blocks are those of `repeated_blocks`, else its parts after the first.
        run: Runs it once.
    """
    blocks = repeated_blocks(network) or _parts(network)
    inner = {
        f"{block}.{name}".rstrip("."): block for block in blocks for name, _ in blocks[block].named_modules()
    }
    entered: list[str] = []
    before: dict[str, int] = {}
    shapes: dict[str, Any] = {}

    def enter(name: str) -> None:
        if name in blocks and name not in entered:
            entered.append(name)
        before.setdefault(name, len(entered))

    def leave(name: str, output: Any) -> None:
        shapes.setdefault(name, _shape(output))

    handles = [
        part.register_forward_pre_hook(lambda part, args, name=name: enter(name))
        for name, part in network.named_modules()
    ]
    handles += [
        block.register_forward_hook(lambda part, args, output, name=name: leave(name, output))
        for name, block in blocks.items()
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    number = {block: i + 1 for i, block in enumerate(entered)}
    depths = {name: _depth(count) for name, count in before.items() if name not in inner}
    depths |= {name: number[block] for name, block in inner.items() if block in number}
    return LayerOrder(depths, tuple(entered), _stage_ends([shapes[block] for block in entered]))


def _depth(entered: int) -> int:
    """Return the depth of what runs outside of the blocks, after `entered` of them have begun."""
    return 0 if entered == 0 else entered + 1


def _stage_ends(shapes: list[Any]) -> tuple[int, ...]:
    if len(set(shapes)) <= 1:
        return tuple(range(1, len(shapes) + 1))
    ends, depth = [], 0
    for _, stage in groupby(shapes):
        depth += len(list(stage))
        ends.append(depth)
    return tuple(ends)


def _shape(output: Any) -> Any:
    while isinstance(output, list | tuple) and output:
        output = output[0]
    return tuple(output.shape) if isinstance(output, Tensor) else None


def _parts(network: nn.Module) -> dict[str, nn.Module]:
    """Return the children with parameters, those of lists instead of the lists, without the first."""
    parts: dict[str, nn.Module] = {}
    for name, child in network.named_children():
        inner = child.named_children() if isinstance(child, LISTS) else ()
        parts |= {f"{name}.{part}": member for part, member in inner} or {name: child}
    learning = {name: part for name, part in parts.items() if any(True for _ in part.parameters())}
    return dict(list(learning.items())[1:])
