"""Initialisation that waits, so that what will be loaded is never drawn; and a guard for what was.

A constructor fills its parameters by in-place operations on memory that no one has touched yet. While
`deferred_init` is active, such operations on large tensors are only noted. Whoever reads the tensor gets the
values first, as any other operation on it replays the notes. What is still noted when the block ends is done
then, in the order of the notes, by the very operations that the constructor asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

#: Tensors with fewer elements are filled at once: noting would cost as much.
SMALL = 4096

#: In-place operations on one tensor that constructors and `torch.nn.init` fill with.
FILLS = frozenset(
    f"aten::{name}_"
    for name in (
        *("normal", "uniform", "random", "bernoulli", "exponential", "log_normal", "cauchy", "geometric"),
        *("fill", "zero", "erfinv", "mul", "add", "sub", "div", "clamp", "clamp_min", "clamp_max", "neg"),
    )
)

#: Initialisers of `torch.nn.init` that look at the values they draw (rejection sampling in torch 2.15), so
#: that they have to be noted as a whole.
WHOLE = ("_no_grad_trunc_normal_",)

_CURRENT: ContextVar[_DeferredInit | None] = ContextVar("deferred_init", default=None)


class _DeferredInit(TorchDispatchMode):
    """Notes fills per storage, and replays them before anything else touches it."""

    def __init__(self) -> None:
        super().__init__()
        self._notes: dict[int, list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if _is_fill(func, args, kwargs):
            self.note(func, args, kwargs)
            return args[0]
        if self._notes and not _is_view(func):
            for tensor in _tensors((args, kwargs)):
                self.settle(tensor)
        return func(*args, **kwargs)

    def note(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Put off an operation that only writes to its first argument."""
        self._notes.setdefault(_storage(args[0]), []).append((func, args, kwargs))

    def settle(self, tensor: Tensor) -> None:
        """Do what was noted for the memory of a tensor."""
        for func, args, kwargs in self._notes.pop(_storage(tensor), ()):
            func(*args, **kwargs)

    def drop(self, tensor: Tensor) -> None:
        """Forget what was noted for the memory of a tensor: its values come from elsewhere."""
        self._notes.pop(_storage(tensor), None)

    def settle_all(self) -> None:
        """Do all that was noted, in the order in which the tensors were first filled."""
        with torch.no_grad():
            for notes in list(self._notes.values()):
                for func, args, kwargs in notes:
                    func(*args, **kwargs)
        self._notes.clear()


@contextmanager
def deferred_init() -> Iterator[None]:
    """Put initialisation off until the outermost block ends; an error in the block forgets it."""
    if _CURRENT.get() is not None:
        yield
        return
    mode = _DeferredInit()
    token = _CURRENT.set(mode)
    try:
        with _whole_initialisers_noted(), mode:
            yield
    finally:
        _CURRENT.reset(token)
    mode.settle_all()


_PATCH_LOCK = threading.Lock()
_PATCHED: dict[str, Callable[..., Tensor]] = {}
_PATCHES = [0]


@contextmanager
def _whole_initialisers_noted() -> Iterator[None]:
    """Note the initialisers in `WHOLE` while some thread is in the block; others are not affected."""
    with _PATCH_LOCK:
        _PATCHES[0] += 1
        for name in WHOLE if _PATCHES[0] == 1 else ():
            if hasattr(nn.init, name):
                _PATCHED[name] = getattr(nn.init, name)
                setattr(nn.init, name, _noting(_PATCHED[name]))
    try:
        yield
    finally:
        with _PATCH_LOCK:
            _PATCHES[0] -= 1
            while _PATCHED and not _PATCHES[0]:
                setattr(nn.init, *_PATCHED.popitem())


def _noting(initialise: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def note(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        mode = _CURRENT.get()
        if mode is None or tensor.numel() < SMALL:
            return initialise(tensor, *args, **kwargs)
        mode.note(initialise, (tensor, *args), kwargs)
        return tensor

    return note


def will_be_loaded(tensors: Iterable[Tensor]) -> None:
    """Say that all of these tensors get their values from elsewhere, so that no initial ones are drawn."""
    mode = _CURRENT.get()
    if mode is not None:
        for tensor in tensors:
            mode.drop(tensor)


class _Protected(TorchDispatchMode):
    """Drops every in-place write to the memory of some tensors."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        self._storages = {_storage(tensor) for tensor in tensors}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if _writes_first(func) and isinstance(args[0], Tensor) and _storage(args[0]) in self._storages:
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def protected(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Let no in-place operation of the block change these tensors."""
    with _Protected(tensors):
        yield


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _is_fill(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return (
        func._schema.name in FILLS
        and args[0].numel() >= SMALL
        and not any(isinstance(value, Tensor) for value in (*args[1:], *kwargs.values()))
    )


def _is_view(func: Any) -> bool:
    """Tell whether an operation only looks at memory from another side."""
    arguments = func._schema.arguments
    alias = arguments[0].alias_info if arguments else None
    return alias is not None and not alias.is_write


def _writes_first(func: Any) -> bool:
    arguments = func._schema.arguments
    alias = arguments[0].alias_info if arguments else None
    return alias is not None and alias.is_write


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.layout is torch.strided:  # others have no storage to note for
            yield value
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
