"""A pickle machine that runs nothing: what the pickle calls is written down instead.

It understands every opcode of protocols 0 to 5 (`pickletools` describes them), works on bytes where they are, leaves
long runs of bytes there, and is bounded: in steps, in lengths, in what one step can allocate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from framework.pretrain.errors import CheckpointError, DamagedCheckpointError, UnsafeCheckpointError
from framework.pretrain.formats.arrays import build_array, build_type
from framework.pretrain.formats.blob import Blob
from framework.pretrain.formats.constructors import CONSTRUCTORS, Constructor
from framework.pretrain.formats.dtypes import ML_DTYPES, STORAGES, TORCH
from framework.pretrain.formats.lazy import LazyTensor
from framework.pretrain.formats.refused import is_refused, qualified
from framework.pretrain.formats.stubs import Array, Global, NumpyType, Pairs, Span, Stub

MAX_STEPS = 8_000_000
MAX_NAME = 512
MAX_NAMES = 10_000
_WINDOW = 1 << 18
_LONG_RUN = 1024

Persistent = Callable[[object], object]


class Names:
    """What the pickles of one file call by name, and what becomes of it."""

    def __init__(self, constructors: Mapping[str, Constructor] = CONSTRUCTORS) -> None:
        """Start with nothing named.

        Args:
            constructors: The functions that are understood, by qualified name.
        """
        self.constructors = constructors
        self.replaced: set[str] = set()
        self.refused: set[str] = set()
        self._resolved: dict[tuple[str, str], object] = {}

    def resolve(self, module: object, name: object) -> object:
        """Return what stands for a global: a torch dtype, or its name.

        Args:
            module: As the pickle says it.
            name: As the pickle says it.
        """
        if not (isinstance(module, str) and isinstance(name, str) and len(module) + len(name) <= MAX_NAME):
            raise DamagedCheckpointError("the pickle names a global by something other than a name")
        key = (module, name)
        if key not in self._resolved:
            if len(self._resolved) >= MAX_NAMES:
                raise DamagedCheckpointError(
                    f"the pickle names more than {MAX_NAMES:,} classes and functions"
                )
            self._resolved[key] = self._judge(module, name)
        return self._resolved[key]

    def _judge(self, module: str, name: str) -> object:
        path = qualified(module, name)
        if path in TORCH:
            return TORCH[path]
        if is_refused(module, name):
            self.refused.add(path)
        elif path not in self.constructors and path not in STORAGES and path not in _HARMLESS:
            self.replaced.add(path)
        return Global(path)

    def check(self) -> None:
        """Raise if a refused name was met.

        Raises:
            UnsafeCheckpointError: The names.
        """
        if self.refused:
            raise UnsafeCheckpointError(
                f"the file names functions that run code, which no checkpoint needs: {', '.join(sorted(self.refused))}. "
                "Nothing was run. If you know who made it, trust_pickle=True reads it with Python's own pickle"
            )


class Machine:
    """Reads one pickle; afterwards `position` is where it ended."""

    def __init__(
        self, blob: Blob, names: Names, persistent: Persistent | None = None, start: int = 0
    ) -> None:
        """Get ready.

        Args:
            blob: Where the pickle is.
            names: What becomes of globals; shared by the pickles of one file.
            persistent: What stands for an object that the pickle refers to by a persistent id.
            start: Where in the blob the pickle begins.
        """
        self.names = names
        self.stack: list[object] = []
        self.marks: list[list[object]] = []
        self.memo: dict[int, object] = {}
        self._blob = blob
        self._persistent = persistent
        self._window = b""
        self._base = start
        self._next = 0

    @property
    def position(self) -> int:
        """Offset in the blob of the next byte to be read."""
        return self._base + self._next

    def run(self) -> object:
        """Read the pickle and return what stands for its object.

        Raises:
            DamagedCheckpointError: It is no pickle, or broken off, or beyond all measure.
            UnsafeCheckpointError: It names functions that run code.
        """
        from framework.pretrain.formats.opcodes import OPCODES  # opcodes.py is written in terms of this class

        try:
            return self._run(OPCODES)
        except (IndexError, KeyError, UnicodeDecodeError) as error:
            self.names.check()
            raise DamagedCheckpointError(f"the pickle is damaged near byte {self.position}") from error
        except CheckpointError:
            self.names.check()
            raise

    def _run(self, opcodes: Mapping[int, Callable[[Machine], None]]) -> object:
        for _ in range(MAX_STEPS):
            if self._next >= len(self._window):
                self._refill(1)
            code = self._window[self._next]
            self._next += 1
            if code == 0x2E:
                return self.stack.pop()
            operation = opcodes.get(code)
            if operation is None:
                raise DamagedCheckpointError(f"byte {self.position - 1} of the pickle is no opcode")
            operation(self)
        raise DamagedCheckpointError(f"the pickle has more than {MAX_STEPS:,} steps")

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes and go past them."""
        end = self._next + size
        if end > len(self._window):
            self._refill(size)
            end = size
        data = self._window[self._next : end]
        self._next = end
        return data

    def number(self, size: int) -> int:
        """Return the next `size` bytes as an unsigned number, and go past them."""
        return int.from_bytes(self.take(size), "little")

    def line(self) -> bytes:
        """Return the bytes up to the end of the line, and go past it."""
        size = 256
        while (end := self._window.find(b"\n", self._next)) < 0:
            left = self._blob.size - self.position
            if len(self._window) - self._next >= left:
                raise DamagedCheckpointError("the pickle breaks off in the middle of a line")
            size *= 4
            self._refill(min(size, left))
        data = self._window[self._next : end]
        self._next = end + 1
        return data

    def run_of_bytes(self, size: int) -> bytes | Span:
        """Return the next `size` bytes, as a `Span` if they are many, and go past them."""
        if size <= _LONG_RUN:
            return self.take(size)
        span = Span(self._blob.part(self.position, size))
        if self._next + size <= len(self._window):
            self._next += size
        else:
            self._base, self._next, self._window = self.position + size, 0, b""
        return span

    def pop_mark(self) -> list[object]:
        """Return what was pushed since the last mark."""
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def persistent(self, key: object) -> object:
        """Return what stands for the object with that persistent id."""
        if self._persistent is None:
            raise DamagedCheckpointError("the pickle refers to objects outside of itself")
        return self._persistent(key)

    def call(self, function: object, args: object) -> object:
        """Return what stands for `function(*args)`."""
        if not isinstance(args, tuple):
            raise DamagedCheckpointError("the pickle calls a function with something other than arguments")
        if isinstance(function, Global):
            make = self.names.constructors.get(function.name)
            return make(args) if make else Stub(function.name, args)
        if isinstance(function, Stub):
            return Stub(function.name, args)
        raise DamagedCheckpointError("the pickle calls something that is no function")

    def _refill(self, size: int) -> None:
        """Move the window so that it begins at the next byte and holds at least `size` bytes."""
        start = self.position
        left = self._blob.size - start
        if size > left:
            raise DamagedCheckpointError(
                f"the pickle breaks off: {size} bytes wanted at byte {start}, {left} are left"
            )
        self._window = self._blob.read(start, min(max(size, _WINDOW), left))
        self._base, self._next = start, 0


def build(target: object, state: object) -> None:
    """Give `target` its state, as far as it is of use."""
    if isinstance(target, Stub):
        target.state = state
    elif isinstance(target, Array):
        build_array(target, state)
    elif isinstance(target, NumpyType):
        build_type(target, state)
    elif isinstance(target, Pairs):
        target.attributes = state
    elif not isinstance(target, (LazyTensor, list)):
        raise DamagedCheckpointError("the pickle gives a state to something that has none")


_HARMLESS = frozenset(
    {
        "builtins.object",
        "builtins.int",
        "builtins.float",
        "builtins.str",
        "builtins.bool",
        "builtins.complex",
        "copyreg.__newobj__",
        "numpy.ndarray",
        "torch.Tensor",
        "torch.nn.parameter.Parameter",
        *(f"{module}.{name}" for module in ("ml_dtypes", "jax.numpy") for name in ML_DTYPES),
        *(f"numpy.{name}" for name in ("float64", "float32", "float16", "int64", "int32", "bool_")),
    }
)
"""Types that stand as arguments of constructors."""
