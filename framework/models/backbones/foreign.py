"""What backbones that hold a network of another library have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from torch import nn

from framework.models.backbones.base import BaseBackbone, check_frozen_stages
from framework.models.backbones.layer_order import LayerOrder, find_layer_order
from framework.models.backbones.probe import run_without_values


class ForeignBackbone(BaseBackbone):
    """Base of backbones that hold a network of another library, whose layers are found out by running it.

    Attributes:
        network_name: Name of the attribute that holds the network.
        frozen_stages: What does not learn: -1 nothing, 0 all that comes before the blocks, n the first n
            stages, too. See `LayerOrder` for stages.
    """

    network_name = "model"
    frozen_stages = -1

    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of an input that the network takes."""
        raise NotImplementedError

    def runnable(self) -> nn.Module:
        """Return what to call with such an input: the network, or a module around it."""
        return self.network

    @property
    def network(self) -> nn.Module:
        """The network."""
        return self.get_submodule(self.network_name)

    @cached_property
    def layer_order(self) -> LayerOrder:
        """The order of the network's parts."""
        return find_layer_order(
            self.network, lambda: run_without_values(self.runnable(), *self.input_shape())
        )

    def freeze_stages(self, frozen_stages: int) -> None:
        """Freeze stages; to be called once, by the constructor.

        Raises:
            ConfigError: There are not so many.
        """
        if frozen_stages != -1:
            count = len(self.layer_order.stage_ends)
            self.frozen_stages = check_frozen_stages(frozen_stages, count)
        self.freeze()

    def frozen_parts(self) -> Iterable[nn.Module | nn.Parameter]:
        """Return what `frozen_stages` names."""
        if self.frozen_stages < 0:
            return ()
        ends = (0, *self.layer_order.stage_ends)
        last = self.num_blocks() + 1 if self.frozen_stages == len(ends) - 1 else ends[self.frozen_stages]
        return list(_parts_up_to(last, "", self.network, self.layer_order.depths))

    def num_blocks(self) -> int:
        """Return the number of blocks."""
        return len(self.layer_order.blocks)

    def block_of(self, name: str) -> int:
        """Return 0 for what comes before the blocks, i + 1 for block i, and one more for what follows.

        What runs between two blocks counts as part of the second.

        Raises:
            ConfigError: The network does not use the parameter.
        """
        return self.layer_order.depth_of(name.removeprefix(f"{self.network_name}."))


def _parts_up_to(
    last: int, name: str, part: nn.Module, depths: dict[str, int]
) -> Iterator[nn.Module | nn.Parameter]:
    """Yield the modules of which all stands at depth `last` or before, and parameters of the others."""
    prefix = f"{name}." if name else ""
    inside = [depth for inner, depth in depths.items() if inner == name or inner.startswith(prefix)]
    if inside and max(inside) <= last:
        yield part
        return
    if depths.get(name, last + 1) <= last:
        own: Any = part._parameters.values()
        yield from (parameter for parameter in own if parameter is not None)
    for child_name, child in part.named_children():
        yield from _parts_up_to(last, f"{prefix}{child_name}", child, depths)
