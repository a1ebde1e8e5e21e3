"""A local file that is opened only while it is read."""

from __future__ import annotations

import mmap
import os
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path, PurePosixPath

from framework.pretrain.errors import CheckpointError, DamagedCheckpointError, NotAllowedError, NotFoundError


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
        self._name = os.fspath(path)
        if "\0" in self._name:
            raise NotFoundError(f"no file can have the name {self._name!r}")
        with _os_errors_named(path):
            status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError("not a regular file")
        self.size = status.st_size
        self._stamp = _stamp(status)
        self._mapping: weakref.ref[mmap.mmap] | None = None

    @contextmanager
    def open(self) -> Iterator[FileIO]:
        """Open the file without buffering, for the length of a `with` block."""
        with _os_errors_named(self.path), FileIO(self._name, "rb") as handle:
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


def file_beside(folder: Path, name: str) -> Path:
    """Return the path of a file that an index in `folder` names.

    Args:
        folder: Where the index is.
        name: As the index says it.

    Raises:
        DamagedCheckpointError: It is not a name relative to the folder, and below it.
        CheckpointError: There is no such file.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or set(name) & set("\\:\0") or not path.parts:
        raise DamagedCheckpointError(f"the index names {name!r}, which is not a file of its folder")
    if not os.path.isfile(folder / path):
        raise CheckpointError(f"the index names the file '{name}', which is not in the folder: fetch it too")
    return folder / path


@contextmanager
def naming(path: Path | None) -> Iterator[None]:
    """Put the path, if there is one, in front of the errors of a `with` block.

    Args:
        path: The file that is read there.
    """
    try:
        yield
    except CheckpointError as error:
        if path is None:
            raise
        raise type(error)(f"'{path}': {error}") from error


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_size, status.st_mtime_ns)


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
