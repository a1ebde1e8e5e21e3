"""The functions of a pickle that are understood: each is replaced by one of ours that only takes notes.

A constructor gets the arguments as one tuple and returns what stands for the object. None copies what it is
given: a pickle can pass the same large list a million times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from framework.pretrain.errors import DamagedCheckpointError
from framework.pretrain.formats.arrays import NUMPY_CONSTRUCTORS
from framework.pretrain.formats.dtypes import ElementType, swap_unit
from framework.pretrain.formats.lazy import LazyTensor, StridedTensor
from framework.pretrain.formats.stubs import (
    Array,
    Global,
    Pairs,
    ShardedWrapper,
    Span,
    Storage,
    Stub,
    whole_numbers,
)

Args: TypeAlias = tuple[object, ...]
Constructor: TypeAlias = Callable[[Args], object]


def _tensor(args: Args) -> object:
    """`torch._utils._rebuild_tensor`, `_v2`, `_v3`: only the storage, the view and the type matter."""
    match args:
        case (Storage() as storage, int(offset), shape, strides, *rest):
            dtype = next((value for value in rest if isinstance(value, ElementType)), storage.dtype)
            view = (whole_numbers(strides), storage.start + offset)
            swap = swap_unit(dtype, foreign=storage.foreign)
            return StridedTensor(storage.blob, dtype, whole_numbers(shape), view, swap)
        case (Stub(), *_):
            return Stub("torch.Tensor")
    raise DamagedCheckpointError("a tensor is described by the wrong arguments")


def _first(args: Args) -> object:
    """For wrappers whose first argument is the thing itself."""
    return args[0] if args else Stub("nothing")


def _parameter(args: Args) -> object:
    return args[0] if args else Stub("torch.nn.Parameter")


def _wrapper(args: Args) -> object:
    """`torch._utils._rebuild_wrapper_subclass(cls, dtype, shape, ...)`."""
    return ShardedWrapper(whole_numbers(args[2])) if len(args) > 2 else Stub("torch.Tensor", args)


def _typed_tensor(args: Args) -> object:
    """`torch._tensor._rebuild_from_type_v2(function, cls, args, state)`: the tensor without its subclass."""
    match args:
        case (Global() as function, Global() as cls, tuple(inner), *rest) if function.name in _PLAIN_REBUILDS:
            made = _PLAIN_REBUILDS[function.name](inner)
            return _unwrapped(made, rest, cls.name) if isinstance(made, ShardedWrapper) else made
        case (Global(), Global() as cls, *_):
            return Stub(cls.name, args)
    raise DamagedCheckpointError("a tensor subclass is described by the wrong arguments")


def _unwrapped(wrapper: ShardedWrapper, state: list[object], name: str) -> object:
    """Return the local tensor of a DTensor, if it is all of it."""
    for part in state[0] if state and isinstance(state[0], tuple) else state:
        if isinstance(part, Pairs):
            for key, value in zip(part[::2], part[1::2], strict=False):
                if key == "_local_tensor" and isinstance(value, LazyTensor) and value.shape == wrapper.shape:
                    return value
    return Stub(name, ())


def _from_device(args: Args) -> object:
    """A tensor of an accelerator without storage, saved as an array or a CPU tensor of the same type."""
    match args:
        case (LazyTensor() as tensor, *_):
            return tensor
        case (Array(tensor=StridedTensor() as tensor), ElementType() as kind, *_) if tensor.kind == kind:
            return tensor
    return Stub("torch.Tensor", args)


def _pairs(args: Args) -> object:
    """`OrderedDict()`, `OrderedDict([[key, value], ...])`, `dict(...)`, `Counter({...})`."""
    return args[0] if args and isinstance(args[0], Pairs) else Pairs(args[0] if args else None)


def _defaultdict(args: Args) -> object:
    return _pairs(args[1:])


def _sequence(args: Args) -> object:
    """`list(...)`, `set([...])`, `deque([...], maxlen)`."""
    values = args[0] if args else None
    return values if values and isinstance(values, (list, tuple)) and not isinstance(values, Pairs) else []


def _encode(args: Args) -> object:
    """`_codecs.encode(text, 'latin1')`, by which protocol 2 writes bytes: the text stands for them."""
    match args:
        case (str() as text, "latin1" | "latin-1" | "iso-8859-1"):
            return text
        case (Span() as span, *_):
            return span
    return Stub("_codecs.encode", args)


def _bytes(args: Args) -> object:
    """`bytes()` and `bytearray(...)`, for data that is there as such."""
    return args[0] if args and isinstance(args[0], (bytes, str, Span)) else b""


def _reconstructor(args: Args) -> object:
    """`copyreg._reconstructor(cls, base, state)`, protocols 0 and 1."""
    match args:
        case (Global() as cls, Global() as base, state):
            stub = Stub(cls.name)
            if base.name == "builtins.dict" and isinstance(state, Pairs):
                stub.pairs = state
            elif base.name == "builtins.list" and isinstance(state, list):
                stub.items = state
            return stub
    return Stub("copyreg._reconstructor", args)


_PLAIN_REBUILDS: dict[str, Constructor] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "torch._utils._rebuild_wrapper_subclass": _wrapper,
    "torch._utils._rebuild_device_tensor_from_numpy": _from_device,
    "torch._utils._rebuild_xla_tensor": _from_device,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _from_device,
}

CONSTRUCTORS: dict[str, Constructor] = {
    **_PLAIN_REBUILDS,
    **NUMPY_CONSTRUCTORS,
    "torch._tensor._rebuild_from_type_v2": _typed_tensor,
    "torch._tensor._rebuild_from_type": _typed_tensor,
    "torch.Size": _first,
    "torch.device": _first,
    "torch.jit._pickle.build_intlist": _first,
    "torch.jit._pickle.build_doublelist": _first,
    "torch.jit._pickle.build_boollist": _first,
    "torch.jit._pickle.build_tensorlist": _first,
    "torch.jit._pickle.restore_type_tag": _first,
    "collections.OrderedDict": _pairs,
    "collections.Counter": _pairs,
    "collections.defaultdict": _defaultdict,
    "collections.deque": _sequence,
    "builtins.dict": _pairs,
    "builtins.list": _sequence,
    "builtins.tuple": _sequence,
    "builtins.set": _sequence,
    "builtins.frozenset": _sequence,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "_codecs.encode": _encode,
    "copyreg._reconstructor": _reconstructor,
}
"""By qualified name; everything else becomes a `Stub`."""
