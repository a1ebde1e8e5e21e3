"""Modules that do not learn: `frozen=True` in the config of any module."""

from __future__ import annotations

from typing import Any

from torch import nn

from framework.errors import ConfigError


def freeze(module: Any, where: str = "frozen") -> Any:
    """Take the gradients of a module away and keep it in evaluation mode.

    Its normalisation layers keep their statistics and its dropout stays off, also when `train()` of the
    module, or of one that it is part of, is called. Copies are frozen, too.

    Args:
        module: The module.
        where: The place in the config, for messages.

    Returns:
        The same module.

    Raises:
        ConfigError: It is no module.
    """
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{where}: only a torch.nn.Module can be frozen, not {type(module).__name__}")
    module.requires_grad_(False)
    vars(module)["train"] = _StayInEval(module)  # parents call `train` of their children
    module.eval()
    return module


def is_frozen(module: nn.Module) -> bool:
    """Tell whether `freeze` was called on this very module."""
    return isinstance(vars(module).get("train"), _StayInEval)


class _StayInEval:
    """Stands in for a module's `train`."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self, mode: bool = True) -> nn.Module:
        method: Any = type(self._module).train
        return method(self._module, False)
