"""Initialisation that waits, so that what will be loaded is never drawn; and a guard for what was.

A constructor fills its parameters by in-place operations on memory that no one has touched yet. Within
`noted_init` such operations on large tensors are only noted. Whoever reads the tensor there gets the values
first, as any other operation on it replays the notes. What is still noted when the block of `deferred_init`
around it ends is done then, in the order of the notes, by the very operations that the constructor asked for.
What was loaded meanwhile is not filled again by a constructor that initialises all of its parts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _python_dispatch
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

#: Ways to a tensor's memory that torch does not dispatch.
DIRECT = frozenset(
    {"numpy", "__array__", "tolist", "data_ptr", "untyped_storage", "_typed_storage", "share_memory_"}
    | {"__dlpack__", "__reduce_ex__"}
)

_CURRENT: ContextVar[_DeferredInit | None] = ContextVar("deferred_init", default=None)


class _DeferredInit(TorchDispatchMode):
    """Notes fills per storage, and replays them before anything else touches it."""

    def __init__(self) -> None:
        super().__init__()
        self._seed = torch.default_generator.initial_seed()
        self._loaded: dict[int, Tensor] = {}
        self._notes: dict[int, list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]] = {}
        self.is_active = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Tell torch not to wrap `__torch_dispatch__`, which would double its cost."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        takes, fills, views = _traits(func)
        if not takes:
            return func(*args, **kwargs)
        if fills and not any(isinstance(value, Tensor) for value in (*args[1:], *kwargs.values())):
            if self.is_loaded(args[0]):
                return args[0]
            if self.may_wait(args[0]):
                self.note(func, args, kwargs)
                return args[0]
        if self._notes and not views:
            for tensor in _tensors((args, kwargs)):
                self.settle(tensor)
        return func(*args, **kwargs)

    def note(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Put off an operation that only writes to its first argument."""
        memory = args[0].detach()  # whatever `.data = ...` makes of the tensor itself meanwhile
        self._notes.setdefault(_storage(memory), []).append((func, (memory, *args[1:]), kwargs))

    def may_wait(self, tensor: Tensor) -> bool:
        """Tell whether filling a tensor can be put off.

        Not where memory belongs to someone else (numpy, another process), and not where the constructor has
        seeded the generator, as the values must then come from that seed.
        """
        if tensor.numel() < SMALL or torch.default_generator.initial_seed() != self._seed:
            return False
        storage = _storage_of(tensor)
        return storage.resizable() and not storage.is_shared()

    def is_loaded(self, tensor: Tensor) -> bool:
        """Tell whether the memory of a tensor holds values from a file."""
        return _storage(tensor) in self._loaded

    def settle(self, tensor: Tensor) -> None:
        """Do what was noted for the memory of a tensor."""
        if not self._notes or tensor.layout is not torch.strided:
            return
        notes = self._notes.pop(_storage(tensor), None)
        if notes is None:
            return
        with torch.no_grad(), _python_dispatch._disable_current_modes():
            for func, args, kwargs in notes:
                func(*args, **kwargs)

    def count(self, tensor: Tensor) -> int:
        """Return how many notes there are for the memory of a tensor."""
        return len(self._notes.get(_storage(tensor), ()))

    def drop(self, tensor: Tensor) -> None:
        """Forget what was noted for the memory of a tensor: its values come from elsewhere."""
        self._notes.pop(_storage(tensor), None)

    def keep(self, tensor: Tensor) -> None:
        """Let no initialiser of this block fill the memory of a tensor any more."""
        self._loaded[_storage(tensor)] = tensor.detach()  # held, so that the memory is not given to another

    def settle_all(self) -> None:
        """Do all that was noted, in the order in which the tensors were first filled."""
        with torch.no_grad():
            for notes in list(self._notes.values()):
                for func, args, kwargs in notes:
                    func(*args, **kwargs)
        self._notes.clear()


class _Watch(TorchFunctionMode):
    """Replays the notes of a tensor before its memory is read past torch's dispatch."""

    def __init__(self, mode: _DeferredInit) -> None:
        super().__init__()
        self._mode = mode

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in DIRECT and args and isinstance(args[0], Tensor):
            self._mode.settle(args[0])
        return func(*args, **(kwargs or {}))


@contextmanager
def deferred_init() -> Iterator[None]:
    """Do what is noted in the block when the outermost such block ends; an error in the block forgets it."""
    if _CURRENT.get() is not None:
        yield
        return
    mode = _DeferredInit()
    token = _CURRENT.set(mode)
    try:
        yield
    finally:
        _CURRENT.reset(token)
    mode.settle_all()


@contextmanager
def noted_init() -> Iterator[None]:
    """Note the initialisation in the block, for the `deferred_init` around it.

    Apart from that, because torch calls the notes' keeper for every operation, which what comes after the
    construction need not pay for.
    """
    mode = _CURRENT.get()
    if mode is None or mode.is_active:
        yield
        return
    mode.is_active = True
    try:
        with _whole_initialisers_noted(), _Watch(mode), mode:
            yield
    finally:
        mode.is_active = False


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
        if mode is not None and mode.is_loaded(tensor):
            return tensor
        if mode is None or not mode.may_wait(tensor):
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


def will_be_changed(tensors: Iterable[Tensor]) -> None:
    """Say that parts of the memory of these tensors are about to be written, over what was noted for it."""
    mode = _CURRENT.get()
    if mode is not None:
        for tensor in tensors:
            mode.settle(tensor)


def were_loaded(tensors: Iterable[Tensor]) -> None:
    """Say that these tensors hold values from a file, which no constructor of the block may fill again."""
    mode = _CURRENT.get()
    if mode is not None:
        for tensor in tensors:
            mode.keep(tensor)


class _Protected(TorchDispatchMode):
    """Drops every in-place write to the memory of some tensors."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        self._storages = {_storage(tensor) for tensor in tensors}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if not _writes_first(func):
            return func(*args, **(kwargs or {}))
        if isinstance(args[0], Tensor):
            return args[0] if self._has(args[0]) else func(*args, **(kwargs or {}))
        kept = [(tensor, tensor.clone()) for tensor in args[0] if self._has(tensor)]  # torch._foreach_...
        func(*args, **(kwargs or {}))
        for tensor, values in kept:
            tensor.copy_(values)
        return None

    def _has(self, tensor: Tensor) -> bool:
        return _storage(tensor) in self._storages


@contextmanager
def protected(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Let no in-place operation of the block change these tensors."""
    with _Protected(tensors):
        yield


def is_sole_view(tensor: Tensor) -> bool:
    """Tell whether a tensor has its memory to itself: no other tensor or process sees any of it."""
    storage = _storage_of(tensor)
    mode = _CURRENT.get()
    notes = mode.count(tensor) if mode is not None else 0
    others = torch._C._storage_Use_Count(storage._cdata) - notes - 2  # the tensor, and `storage` here
    whole = storage.nbytes() == tensor.numel() * tensor.element_size()
    return others <= 0 and whole and not storage.is_shared()


def _storage_of(tensor: Tensor) -> torch.UntypedStorage:
    with torch._C.DisableTorchFunction():
        return tensor.untyped_storage()


def _storage(tensor: Tensor) -> int:
    return _storage_of(tensor)._cdata


@cache
def _traits(func: Any) -> tuple[bool, bool, bool]:
    """Tell of an operation whether it takes tensors, whether it fills one, whether it only views one."""
    arguments = func._schema.arguments
    takes = any("Tensor" in str(argument.type) for argument in arguments)
    alias = arguments[0].alias_info if arguments else None
    return takes, func._schema.name in FILLS, alias is not None and not alias.is_write


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
