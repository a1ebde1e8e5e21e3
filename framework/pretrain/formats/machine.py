"""The state of a pickle machine: its stack, its memo, and where in the bytes it is."""

from __future__ import annotations

from collections.abc import Callable

from framework.pretrain.errors import DamagedCheckpointError
from framework.pretrain.formats.blob import Blob
from framework.pretrain.formats.globals import Names
from framework.pretrain.formats.stubs import Span

_WINDOW = 1 << 18
_LONG_RUN = 1024

Persistent = Callable[[object], object]


class Machine:
    """What the opcodes work on."""

    def __init__(self, blob: Blob, names: Names, persistent: Persistent | None, start: int) -> None:
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
        self.window = b""
        self.next = 0
        self._blob = blob
        self._base = start
        self._persistent = persistent

    @property
    def position(self) -> int:
        """Offset in the blob of the next byte to be read."""
        return self._base + self.next

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes and go past them."""
        end = self.next + size
        if end > len(self.window):
            self.refill(size)
            end = size
        data = self.window[self.next : end]
        self.next = end
        return data

    def line(self) -> bytes:
        """Return the bytes up to the end of the line, and go past it."""
        size = _WINDOW
        while (end := self.window.find(b"\n", self.next)) < 0:
            left = self._blob.size - self.position
            if len(self.window) - self.next >= left:
                raise DamagedCheckpointError("the pickle breaks off in the middle of a line")
            self.refill(min(size, left))
            size *= 4
        data = self.window[self.next : end]
        self.next = end + 1
        return data

    def run_of_bytes(self, size: int) -> bytes | Span:
        """Return the next `size` bytes, as a `Span` if they are many, and go past them."""
        if size <= _LONG_RUN:
            return self.take(size)
        span = Span(self._blob.part(self.position, size))
        if self.next + size <= len(self.window):
            self.next += size
        else:
            self._base, self.next, self.window = self.position + size, 0, b""
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

    def refill(self, size: int) -> None:
        """Move the window so that it begins at the next byte and holds at least `size` bytes."""
        start = self.position
        left = self._blob.size - start
        if size > left:
            raise DamagedCheckpointError(
                f"truncated: the pickle wants {size} bytes from byte {start} on, {left} are left"
            )
        self.window = self._blob.read(start, min(max(size, _WINDOW), left))
        self._base, self.next = start, 0
