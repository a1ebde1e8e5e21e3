"""Loaded values stay: no `init_weights` of a module, a parent or a runner changes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from framework.pretrain.deferred import protected
from framework.pretrain.report import LoadReport

#: Attribute of a module with the names of all that was ever loaded into it.
LOADED_NAMES = "pretrain_loaded"


def remember(module: nn.Module, report: LoadReport) -> None:
    """Keep the report on the module, and with it the names of what is loaded, earlier loads included."""
    earlier = vars(module).get(LOADED_NAMES, frozenset())
    setattr(module, LOADED_NAMES, earlier.union(report.loaded))
    module.pretrain_report = report  # type: ignore[assignment]


def guard_init(module: nn.Module) -> None:
    """Make every `init_weights` in a module leave loaded values alone."""
    for part in module.modules():
        method = getattr(part, "init_weights", None)
        if callable(method) and not isinstance(method, _GuardedInit) and _holds_loaded(part):
            part.init_weights = _GuardedInit(part)  # type: ignore[assignment]


@contextmanager
def protect_loaded(module: nn.Module) -> Iterator[None]:
    """Let nothing in the block change the values that came from files.

    A parameter that the block replaces by another one is the block's affair.
    """
    loaded = _loaded(module)
    before = {name: tensor.data for name, tensor in loaded.items()}
    with protected(loaded.values()):
        yield
    for name, tensor in _loaded(module).items():
        if tensor is loaded.get(name) and tensor.data_ptr() != before[name].data_ptr():
            tensor.data = before[name]


class _GuardedInit:
    """Stands in for a module's `init_weights`."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with protect_loaded(self._module):
            method: Any = getattr(type(self._module), "init_weights")  # noqa: B009  a Module may have none
            return method(self._module, *args, **kwargs)


def _holds_loaded(module: nn.Module) -> bool:
    return any(vars(part).get(LOADED_NAMES) for part in module.modules())


def _loaded(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors in a module that came from files, by their names in it."""
    found: dict[str, Tensor] = {}
    for prefix, part in module.named_modules():
        names = vars(part).get(LOADED_NAMES, ())
        state = part.state_dict(keep_vars=True) if names else {}
        found.update({f"{prefix}.{name}": state[name] for name in names if name in state})
    return found
