"""What a module has places for: names, shapes, dtypes, and how its tables of positions are laid out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from framework.pretrain.adapt import TokenLayout
from framework.pretrain.dialects.common import KINDS
from framework.pretrain.errors import SpecError
from framework.pretrain.operation import Shape


@dataclass(frozen=True)
class Wanted:
    """What a module has places for.

    Attributes:
        tensors: Key of its state dict -> the parameter or buffer.
        shapes: Key of its state dict -> shape.
        dtypes: Key -> dtype.
        buffers: Keys that are no parameters.
        layouts: Key of a table of positions -> how its rows are laid out, where the module tells.
        tied: Groups of keys that are one and the same tensor.
    """

    tensors: Mapping[str, Tensor]
    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, torch.dtype]
    buffers: frozenset[str]
    layouts: Mapping[str, TokenLayout]
    tied: Sequence[Sequence[str]] = ()


def wanted_by(module: nn.Module) -> Wanted:
    """List what a module has places for.

    Raises:
        SpecError: It is no module, or some of its tensors have no memory yet.
    """
    if not isinstance(module, nn.Module):
        raise SpecError(f"only a torch.nn.Module can load weights, not {type(module).__name__}")
    state = state_of(module)
    _check_memory(state)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    same: dict[int, list[str]] = {}
    for name, tensor in state.items():
        same.setdefault(id(tensor), []).append(name)
    return Wanted(
        tensors=state,
        shapes=shapes,
        dtypes={name: tensor.dtype for name, tensor in state.items()},
        buffers=frozenset(name for name, tensor in state.items() if not isinstance(tensor, nn.Parameter)),
        layouts=_layouts(module, shapes),
        tied=[names for names in same.values() if len(names) > 1],
    )


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and persistent buffers by name, without what a hook derives from them."""
    own = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    state = module.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if id(value) in own}


def _check_memory(state: dict[str, Tensor]) -> None:
    for name, tensor in state.items():
        if is_lazy(tensor):
            raise SpecError(f"{name} has no shape yet, as its layer is lazy: run the module once first")
        if tensor.is_meta:
            raise SpecError(f"{name} is on the meta device, which holds no values: use to_empty() first")


def _layouts(module: nn.Module, shapes: dict[str, tuple[int, ...]]) -> dict[str, TokenLayout]:
    layouts = {}
    for name, shape in shapes.items():
        owner, _, leaf = name.rpartition(".")
        layout = _layout(module.get_submodule(owner), KINDS[leaf], shape) if leaf in KINDS else None
        if layout is not None:
            layouts[name] = layout
    return layouts


def _layout(owner: nn.Module, kind: str, shape: tuple[int, ...]) -> TokenLayout | None:
    """Ask the owner of a table of positions for its grid: a patch embedding's, or the attention window."""
    if kind == "rel_pos_bias":
        grid = getattr(owner, "window_size", None)
        return TokenLayout(grid=tuple(grid)) if isinstance(grid, (tuple, list)) else None
    grids = (getattr(child, "grid_size", None) for child in owner.children())
    grid = next((tuple(g) for g in grids if isinstance(g, (tuple, list))), None)
    if grid is None or len(shape) < 2:
        return None
    return TokenLayout(grid=grid, num_prefix=shape[-2] - torch.Size(grid).numel())
