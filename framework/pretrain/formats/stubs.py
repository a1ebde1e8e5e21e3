"""What a pickle's objects become when it is read without running anything."""

from __future__ import annotations

from dataclasses import dataclass, field

from framework.pretrain.errors import DamagedCheckpointError
from framework.pretrain.formats.blob import Blob, MemoryBlob, TextBlob
from framework.pretrain.formats.dtypes import ElementType
from framework.pretrain.formats.lazy import LazyTensor, StridedTensor


@dataclass(frozen=True)
class Inert:
    """The place of an object that was not made, since making it would run code.

    Attributes:
        qualified_name: Module and name of its class, or of the function that would have made it.
        state: What the file says of it, as plain values; not to be relied on.
    """

    qualified_name: str
    state: object = field(default=None, repr=False)


class Global:
    """A class or function that the pickle names; the name only."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Pairs(list[object]):
    """A dict as it is being built: key, value, key, value, ...

    Nothing is hashed, since a file could choose keys whose hashes collide.
    """

    __slots__ = ("source",)

    def __init__(self, source: object = None) -> None:
        super().__init__()
        self.source = source


class Stub:
    """A recorded call: `name(*args)`, then a state, list items and dict items."""

    __slots__ = ("args", "items", "name", "pairs", "state")

    def __init__(self, name: str, args: object = ()) -> None:
        self.name = name
        self.args = args
        self.state: object = None
        self.items: list[object] | None = None
        self.pairs: Pairs | None = None


class Span:
    """A long run of bytes that stays in the file."""

    __slots__ = ("blob",)

    def __init__(self, blob: Blob) -> None:
        self.blob = blob


class Storage:
    """Memory that tensors share.

    It has a type, may begin at the `start`-th element, and may be in the other (`foreign`) byte order.
    """

    __slots__ = ("blob", "dtype", "foreign", "start")

    def __init__(self, blob: Blob, dtype: ElementType, start: int = 0, *, foreign: bool = False) -> None:
        self.blob = blob
        self.dtype = dtype
        self.start = start
        self.foreign = foreign


class NumpyType:
    """A numpy dtype: its spelling without byte order, and the byte order."""

    __slots__ = ("descr", "order")

    def __init__(self, descr: str) -> None:
        self.descr = descr
        self.order = "|"


class Array:
    """A numpy array; its tensor is known once its state is."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: StridedTensor | None = None) -> None:
        self.tensor = tensor


class ShardedWrapper:
    """A tensor subclass without data of its own, such as DTensor: only its shape is known."""

    __slots__ = ("shape",)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape


def as_blob(value: object) -> Blob | None:
    """Return the bytes that a pickle holds as bytes, as a long run, or as text (Python 2)."""
    if isinstance(value, Span):
        return value.blob
    if isinstance(value, bytes):
        return MemoryBlob(value)
    return TextBlob(value) if isinstance(value, str) else None


def text_items(pairs: object) -> dict[str, object]:
    """Return the items of a dict (or of an object's state) whose keys are text; none for anything else."""
    if not isinstance(pairs, Pairs):
        return {}
    return {key: value for key, value in zip(pairs[::2], pairs[1::2], strict=True) if isinstance(key, str)}


def tensor_of(value: object) -> LazyTensor | None:
    """Return the tensor of a torch tensor or numpy array, else None."""
    if isinstance(value, LazyTensor):
        return value
    return value.tensor if isinstance(value, Array) else None


def whole_numbers(value: object) -> tuple[int, ...]:
    """Return a shape or the strides of a tensor.

    Args:
        value: What the pickle has in that place.

    Raises:
        DamagedCheckpointError: It is no short tuple (or list) of whole numbers.
    """
    if not isinstance(value, (tuple, list)) or len(value) > 64 or not all(type(n) is int for n in value):
        raise DamagedCheckpointError("a tensor has a shape or strides that are not a few whole numbers")
    return tuple(value)
