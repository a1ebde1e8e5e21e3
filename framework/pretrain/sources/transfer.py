"""The transfer of one file: resumed where it broke off, shown by a bar, checked for its length."""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from framework.pretrain.errors import DownloadError, OfflineError, SourceError

# Seconds to wait before each new attempt; progress starts the row anew.
PAUSES = (0.5, 1.0, 2.0)
# What a host sends in place of a file: how it starts (blanks and case aside), and what it is.
NOT_A_FILE = {
    b"<!doctype html": "an HTML page",
    b"<html": "an HTML page",
    b"version https://git-lfs.github.com": "a Git LFS pointer",
}


class TransientError(DownloadError):
    """A transfer that broke off or could not start for now; a new attempt may go better."""


@dataclass(frozen=True)
class Stream:
    """The bytes of a remote file from `start` on.

    Attributes:
        start: Position of the first byte; 0 where the host cannot start later.
        total: Length of the whole file; None where the host does not tell.
        validator: What stays equal as long as the file does, such as a strong ETag; '' where there is none.
        chunks: The bytes. Raises `TransientError` where they break off.
    """

    start: int
    total: int | None
    validator: str
    chunks: Iterable[bytes]


# Called with the position to start at and the validator of the bytes before it.
Opener = Callable[[int, str], AbstractContextManager[Stream]]


@dataclass(frozen=True)
class Part:
    """What has arrived of a file, with a record of the version that it belongs to."""

    path: Path

    @property
    def _record_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def length(self) -> int:
        """Return the number of bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self) -> tuple[str, int | None]:
        """Return the validator and the full length, ('', None) where nothing is known."""
        try:
            known = json.loads(self._record_path.read_bytes())
            return str(known["validator"]), known["total"]
        except (OSError, ValueError, KeyError, TypeError):
            return "", None

    def begin(self, stream: Stream) -> None:
        """Note the version that the bytes to come belong to. Bytes of another one are dropped."""
        if stream.start == 0:
            self.discard()
        self._record_path.write_text(json.dumps({"validator": stream.validator, "total": stream.total}))

    def discard(self) -> None:
        """Forget what has arrived."""
        self.path.unlink(missing_ok=True)
        self._record_path.unlink(missing_ok=True)

    def land(self, final: Path) -> None:
        """Put the complete file in its place in one step, safe against a loss of power."""
        with open(self.path, "rb") as file:
            os.fsync(file.fileno())
        os.replace(self.path, final)
        self._record_path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not every system can sync a folder
            folder = os.open(final.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def download(part: Part, opener: Opener, what: str) -> str:
    """Fill the part, in several attempts where needed, and return the validator of what it holds.

    Args:
        part: Where the bytes go. What it holds of the same version is kept.
        opener: Opens a stream from a position on.
        what: The address, for messages.

    Raises:
        DownloadError: the transfer broke off again and again, or gave something else than a file.
        SourceError: the opener's own errors: not there, not allowed, offline.
    """
    furthest, failures = part.length(), 0
    while True:
        try:
            return _attempt(part, opener, what)
        except (TransientError, OfflineError) as error:
            failures = 1 if part.length() > furthest else failures + 1
            furthest = max(furthest, part.length())
            never_began = isinstance(error, OfflineError) and failures == 1
            if never_began or failures > len(PAUSES):
                raise _gave_up(part, error) from error
        time.sleep(PAUSES[failures - 1])


def _gave_up(part: Part, error: SourceError) -> SourceError:
    kind = OfflineError if isinstance(error, OfflineError) else DownloadError
    arrived = part.length()
    return kind(
        f"{error}; {arrived} bytes are kept, and the next call goes on from there" if arrived else str(error)
    )


def _attempt(part: Part, opener: Opener, what: str) -> str:
    length, (validator, total) = part.length(), part.version()
    if length and not validator:
        part.discard()  # nothing tells whether the rest of it would be of the same version
        length = 0
    if length and length == total:
        return validator
    with opener(length, validator) as stream:
        try:
            part.begin(stream)
            _check_space(part, stream, what)
            _write(part, stream, what)
        except OSError as error:
            hint = " (no space left)" if error.errno == errno.ENOSPC else ""
            raise SourceError(f"{what} cannot be written to {part.path}{hint}: {error}") from error
        finally:
            arrived = part.length()
            if not arrived:
                part.discard()
    if stream.total is not None and arrived != stream.total:
        raise TransientError(f"{what} broke off after {arrived} of {stream.total} bytes")
    if not arrived:
        raise DownloadError(f"{what} gives an empty file")
    return stream.validator


def _check_space(part: Part, stream: Stream, what: str) -> None:
    free = shutil.disk_usage(part.path.parent).free
    missing = (stream.total or 0) - stream.start
    if missing > free:
        raise SourceError(
            f"{what} needs {missing / 1e6:.0f} MB more, but {part.path.parent} has {free / 1e6:.0f} MB left; "
            "FRAMEWORK_HOME can name another place"
        )


def _write(part: Part, stream: Stream, what: str) -> None:
    bar = tqdm(
        desc=part.path.stem, total=stream.total, initial=stream.start, unit="B", unit_scale=True, disable=None
    )
    with bar, open(part.path, "ab") as file:
        for chunk in stream.chunks:
            if file.tell() == 0:
                _check_is_file(chunk, what)
            file.write(chunk)
            bar.update(len(chunk))


def _check_is_file(head: bytes, what: str) -> None:
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()[:64].lower()
    for mark, name in NOT_A_FILE.items():
        if start.startswith(mark):
            raise DownloadError(f"{what} gives {name} instead of the file{_hint(what)}")


def _hint(what: str) -> str:
    if "/blob/" in what:
        raw = "/resolve/" if "huggingface" in what else "/raw/"
        return f"; the file itself is at {what.replace('/blob/', raw)}"
    return "; open the address in a browser to see what the host wants"
