"""Bytes with random access: a range of a file or of memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from io import FileIO
from pathlib import Path

from framework.pretrain.errors import DamagedCheckpointError
from framework.pretrain.formats.file import File


class Blob(ABC):
    """Bytes of known size, readable from anywhere and from several threads at once."""

    size: int

    @property
    def key(self) -> Hashable:
        """What two blobs have in common if they are the same bytes."""
        return self

    @property
    def splits(self) -> bool:
        """Whether reading a part costs no more than that part."""
        return True

    @property
    def distant(self) -> bool:
        """Whether each look at another part takes long, so that only what is needed should be looked at."""
        return False

    @property
    def place(self) -> tuple[File, int] | None:
        """The file, and the offset in it, where these bytes are as such; None if they are nowhere."""
        return None

    @property
    def path(self) -> Path | None:
        """The file's path, for errors."""
        return self.place[0].path if self.place else None

    @abstractmethod
    def read_into(self, view: memoryview, start: int) -> None:
        """Fill `view` with the bytes from `start` on.

        Args:
            view: Writable bytes, at most `size - start` of them.
            start: Offset within this blob.

        Raises:
            DamagedCheckpointError: The bytes are not there.
        """

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes from `start` on.

        Args:
            start: Offset within this blob.
            size: Number of bytes.

        Raises:
            DamagedCheckpointError: The blob is shorter than that.
        """
        if start < 0 or size < 0 or start + size > self.size:
            raise DamagedCheckpointError(
                f"truncated: bytes {start} to {start + size} are wanted, there are {self.size}"
            )
        buffer = bytearray(size)
        self.read_into(memoryview(buffer), start)
        return bytes(buffer)

    def read_each(self, starts: Sequence[int], size: int) -> list[bytes]:
        """Return `size` bytes from each of `starts` on.

        Args:
            starts: Offsets within this blob.
            size: Number of bytes.

        Raises:
            DamagedCheckpointError: The blob is shorter than that.
        """
        return [self.read(start, size) for start in starts]

    def part(self, start: int, size: int) -> Blob:
        """Return the bytes from `start` to `start + size` as a blob, without reading them.

        Args:
            start: Offset within this blob.
            size: Number of bytes.

        Raises:
            DamagedCheckpointError: The blob is shorter than that.
        """
        if start < 0 or size < 0 or start + size > self.size:
            raise DamagedCheckpointError(
                f"truncated: bytes {start} to {start + size} are wanted, there are {self.size}"
            )
        return self._part(start, size)

    @abstractmethod
    def _part(self, start: int, size: int) -> Blob:
        """Return the part, which is within the bounds."""


class FileBlob(Blob):
    """A range of a file."""

    def __init__(self, file: File, start: int = 0, size: int | None = None) -> None:
        """Name the range.

        Args:
            file: Where the bytes are.
            start: Offset within the file.
            size: Number of bytes; the rest of the file by default.
        """
        self.file = file
        self.start = start
        self.size = file.size - start if size is None else size

    @property
    def key(self) -> Hashable:
        """File and range."""
        return (self.file.path, self.start, self.size)

    @property
    def place(self) -> tuple[File, int]:
        """The file and the beginning of the range."""
        return self.file, self.start

    def read_into(self, view: memoryview, start: int) -> None:
        """Read straight into `view`; other threads run meanwhile."""
        with self.file.open() as handle:
            handle.seek(self.start + start)
            _fill(handle, view)

    def read_each(self, starts: Sequence[int], size: int) -> list[bytes]:
        """Read them while the file is open once."""
        if starts and (min(starts) < 0 or max(starts) + size > self.size):
            raise DamagedCheckpointError(
                f"truncated: {max(starts) + size} bytes are wanted, there are {self.size}"
            )
        pieces = []
        with self.file.open() as handle:
            for start in starts:
                handle.seek(self.start + start)
                pieces.append(handle.read(size))
        return pieces

    def _part(self, start: int, size: int) -> Blob:
        return FileBlob(self.file, self.start + start, size)


class LateBlob(Blob):
    """Bytes of which the size is known at once, and the whereabouts (`inner`) only later."""

    def __init__(self, size: int) -> None:
        """Announce that many bytes."""
        self.size = size
        self.inner: Blob = MemoryBlob(b"")

    @property
    def key(self) -> Hashable:
        """That of the bytes."""
        return self.inner.key

    @property
    def splits(self) -> bool:
        """As the bytes do."""
        return self.inner.splits

    @property
    def place(self) -> tuple[File, int] | None:
        """That of the bytes."""
        return self.inner.place

    def read_into(self, view: memoryview, start: int) -> None:
        """Read from where the bytes are."""
        self.inner.read_into(view, start)

    def _part(self, start: int, size: int) -> Blob:
        return self.inner.part(start, size)


class MemoryBlob(Blob):
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        """Hold `data`."""
        self.data = data
        self.size = len(data)

    def read_into(self, view: memoryview, start: int) -> None:
        """Copy."""
        view[:] = memoryview(self.data)[start : start + len(view)]

    def _part(self, start: int, size: int) -> Blob:
        return PartBlob(self, start, size)


class TextBlob(Blob):
    """Bytes that an old pickle holds as text, one character (up to U+00FF) per byte."""

    def __init__(self, text: str) -> None:
        """Hold `text`; it is encoded only when read."""
        self.text = text
        self.size = len(text)

    def read_into(self, view: memoryview, start: int) -> None:
        """Encode as Latin-1."""
        try:
            view[:] = self.text[start : start + len(view)].encode("latin-1")
        except UnicodeEncodeError as error:
            raise DamagedCheckpointError("text where bytes are expected") from error

    def _part(self, start: int, size: int) -> Blob:
        return PartBlob(self, start, size)


class PartBlob(Blob):
    """A range of a blob that cannot be cut."""

    def __init__(self, whole: Blob, start: int, size: int) -> None:
        """Name the range.

        Args:
            whole: The blob.
            start: Offset within it.
            size: Number of bytes.
        """
        self.whole = whole
        self.start = start
        self.size = size

    @property
    def key(self) -> Hashable:
        """Whole and range."""
        return (self.whole.key, self.start, self.size)

    @property
    def splits(self) -> bool:
        """As the whole does."""
        return self.whole.splits

    def read_into(self, view: memoryview, start: int) -> None:
        """Read from the whole."""
        self.whole.read_into(view, self.start + start)

    def _part(self, start: int, size: int) -> Blob:
        return PartBlob(self.whole, self.start + start, size)


def _fill(handle: FileIO, view: memoryview) -> None:
    done = 0
    while done < len(view):
        count = handle.readinto(view[done:])
        if not count:
            raise DamagedCheckpointError(f"'{handle.name!s}' ends {len(view) - done} bytes too early")
        done += count
