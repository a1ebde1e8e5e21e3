"""Bytes with random access: a range of a file, of memory, or of a compressed zip member."""

from __future__ import annotations

import mmap
import os
import stat
import weakref
import zlib
from abc import ABC, abstractmethod
from collections.abc import Hashable
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from framework.pretrain.errors import CheckpointError, DamagedCheckpointError, NotAllowedError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFLATE_MAX_RATIO = 1032
_INFLATE_STEP = 1 << 20


class File:
    """A regular file as it stood when it was first looked at.

    No descriptor is kept: each use opens the file, checks that it is still the same one, and closes it.
    """

    def __init__(self, path: Path) -> None:
        """Take note of the file's size and stamp.

        Args:
            path: The file.

        Raises:
            NotFoundError: There is no such file.
            NotAllowedError: It may not be read.
            CheckpointError: It is something other than a regular file.
        """
        self.path = path
        with _os_errors_named(path):
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise CheckpointError(f"'{path}' is not a regular file")
        self.size = status.st_size
        self._stamp = _stamp(status)
        self._mapping: weakref.ref[mmap.mmap] | None = None

    @contextmanager
    def open(self) -> Iterator[FileIO]:
        """Open the file without buffering, for the length of a `with` block."""
        with _os_errors_named(self.path), FileIO(self.path, "rb") as handle:
            if _stamp(os.fstat(handle.fileno())) != self._stamp:
                raise DamagedCheckpointError(f"'{self.path}' was changed while it was being read")
            yield handle

    def mapping(self) -> mmap.mmap:
        """Return the private (copy-on-write) map of the whole file; one, for as long as somebody holds it."""
        mapped = self._mapping() if self._mapping is not None else None
        if mapped is None:
            with self.open() as handle:
                mapped = mmap.mmap(handle.fileno(), self.size, access=mmap.ACCESS_COPY)
            self._mapping = weakref.ref(mapped)
        return mapped


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
            raise DamagedCheckpointError(f"bytes {start} to {start + size} wanted, of {self.size}")
        buffer = bytearray(size)
        self.read_into(memoryview(buffer), start)
        return bytes(buffer)

    def part(self, start: int, size: int) -> Blob:
        """Return the bytes from `start` to `start + size` as a blob, without reading them.

        Args:
            start: Offset within this blob.
            size: Number of bytes.

        Raises:
            DamagedCheckpointError: The blob is shorter than that.
        """
        if start < 0 or size < 0 or start + size > self.size:
            raise DamagedCheckpointError(f"bytes {start} to {start + size} wanted, of {self.size}")
        return self._part(start, size)

    def _part(self, start: int, size: int) -> Blob:
        return MemoryBlob(self.read(start, size))


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

    def read_into(self, view: memoryview, start: int) -> None:
        """Read straight into `view`; other threads run meanwhile."""
        with self.file.open() as handle:
            handle.seek(self.start + start)
            _fill(handle, view)

    def _part(self, start: int, size: int) -> Blob:
        return FileBlob(self.file, self.start + start, size)


class MemoryBlob(Blob):
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        """Hold `data`."""
        self.data = data
        self.size = len(data)

    def read_into(self, view: memoryview, start: int) -> None:
        """Copy."""
        view[:] = memoryview(self.data)[start : start + len(view)]


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


class DeflatedBlob(Blob):
    """A compressed member of a zip archive."""

    def __init__(self, packed: Blob, size: int, crc: int) -> None:
        """Name the compressed bytes and what they promise.

        Args:
            packed: A raw deflate stream.
            size: Number of bytes that it unpacks to.
            crc: CRC-32 of those.

        Raises:
            DamagedCheckpointError: No deflate stream can unpack to that much.
        """
        if size > packed.size * DEFLATE_MAX_RATIO + 64:
            raise DamagedCheckpointError(f"{packed.size} compressed bytes claim to hold {size} bytes")
        self.packed = packed
        self.size = size
        self.crc = crc

    @property
    def key(self) -> Hashable:
        """That of the compressed bytes."""
        return self.packed.key

    @property
    def splits(self) -> bool:
        """A stream is unpacked from its beginning, whatever part of it is wanted."""
        return False

    def read_into(self, view: memoryview, start: int) -> None:
        """Unpack, and check length and CRC where everything is unpacked."""
        position, crc, end = 0, 0, start + len(view)
        for piece in self._inflate():
            crc = zlib.crc32(piece, crc)
            low, high = max(start, position), min(end, position + len(piece))
            if low < high:
                view[low - start : high - start] = piece[low - position : high - position]
            position += len(piece)
            if position >= end and end < self.size:
                return
            if position > self.size:
                break
        if position != self.size or crc != self.crc:
            raise DamagedCheckpointError("a compressed zip member does not unpack to what the archive says")

    def _inflate(self) -> Iterator[bytes]:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            for start in range(0, self.packed.size, _INFLATE_STEP):
                pending = self.packed.read(start, min(_INFLATE_STEP, self.packed.size - start))
                while pending and not stream.eof:
                    yield stream.decompress(pending, _INFLATE_STEP)
                    pending = stream.unconsumed_tail
            while not stream.eof and (piece := stream.decompress(b"", _INFLATE_STEP)):
                yield piece
        except zlib.error as error:
            raise DamagedCheckpointError(f"a compressed zip member cannot be unpacked: {error}") from error


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _fill(handle: FileIO, view: memoryview) -> None:
    done = 0
    while done < len(view):
        count = handle.readinto(view[done:])
        if not count:
            raise DamagedCheckpointError(f"'{handle.name!s}' ends {len(view) - done} bytes too early")
        done += count


@contextmanager
def _os_errors_named(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file '{path}'") from error
    except PermissionError as error:
        raise NotAllowedError(f"'{path}' may not be read: {error.strerror}") from error
    except OSError as error:
        raise CheckpointError(f"'{path}' cannot be read: {error.strerror or error}") from error
