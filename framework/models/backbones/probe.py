"""What a network of another library gives, without computing it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


def run_without_values(module: nn.Module, *shape: int) -> Any:
    """Return the output of a module for an input of a shape, on the meta device: shapes without values.

    The module's own tensors are neither read nor changed.

    Args:
        module: Any module.
        *shape: Of its one input.
    """
    state = {
        name: torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
    }
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            return functional_call(module, state, (torch.empty(shape, device="meta"),))
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def _hooked(module: nn.Module, names: Iterable[str], seen: Callable[[str, Any], None]) -> Any:
    def hook_of(name: str) -> Callable[..., None]:
        return lambda part, args, output: seen(name, output)

    handles = [module.get_submodule(name).register_forward_hook(hook_of(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def outputs_of(module: nn.Module, names: Iterable[str], run: Callable[[], Any]) -> dict[str, Any]:
    """Return what some parts of a module give while `run` runs it, by name in the order of execution."""
    found: dict[str, Any] = {}
    with _hooked(module, names, found.__setitem__):
        run()
    return found


def channels_of(feature: Tensor) -> int:
    """Return the channels of a feature: of maps the second dimension, of tokens and vectors the last."""
    return feature.shape[1] if feature.ndim == 4 else feature.shape[-1]
