"""The cache of fetched files: where they lie, whether they are still whole, and who may write.

A file lies at `$FRAMEWORK_HOME/files/<digest of the address>/<name>`. Beside it are `<name>.json`, which
records its digest and the stamp it had, `<name>.lock`, and during a transfer `<name>.part` with a record.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from framework.pretrain.errors import HashError, OfflineError, SourceError
from framework.pretrain.sources import address, digest
from framework.pretrain.sources.transfer import Opener, Part, download

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """What is known of a file: its digest, and the stamp (size, mtime, inode) that vouches for it."""

    address: str
    sha256: str
    validator: str
    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path, where: str, sha256: str, validator: str) -> Record:
        """Make the record of a file as it is now."""
        size, mtime_ns, inode = _stamp(path)
        return cls(address.shown(where), sha256, validator, size, mtime_ns, inode)

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """Return the record in a file, None where there is none that can be read."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Write atomically. A cache that cannot be written to costs a new digest each time, no error."""
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(asdict(self), indent=1))
            os.replace(fresh, path)

    def fits(self, path: Path) -> bool:
        """Tell whether a file still has the stamp that was recorded."""
        return (self.size, self.mtime_ns, self.inode) == _stamp(path)


@dataclass(frozen=True)
class Entry:
    """The place of one address in the cache."""

    address: str
    path: Path

    @property
    def record_path(self) -> Path:
        """The JSON file beside the cached file."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def part(self) -> Part:
        """The place for what has arrived of an unfinished transfer."""
        return Part(self.path.with_name(f"{self.path.name}.part"))


def home() -> Path:
    """Return the folder of all cached things: `$FRAMEWORK_HOME`, or `~/.cache/framework`."""
    return Path(os.environ.get("FRAMEWORK_HOME") or "~/.cache/framework").expanduser()


def folder_for(where: str) -> Path:
    """Return the folder of an address in the cache."""
    return home().absolute() / "files" / hashlib.sha256(where.encode()).hexdigest()[:32]


def entry_for(where: str, folder_of: str | None = None) -> Entry:
    """Return the entry of an address, in the folder of another one (an index, for its shards) if given."""
    return Entry(where, folder_for(folder_of or where) / address.basename(where))


def names_in(folder: Path) -> list[str]:
    """Return the names of the fetched files in a folder of the cache."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    names = {name for name in names if not name.endswith((".lock", ".part", ".part.json"))}
    return sorted(name for name in names if not (name.endswith(".json") and name[: -len(".json")] in names))


def obtain(entry: Entry, opener: Opener, promise: str | None, current: str = "") -> Path:
    """Return the cached file, which is fetched first if it is missing, broken or not the wanted one.

    Args:
        entry: Its place.
        opener: Opens a stream of the file's bytes.
        promise: Leading digits of the digest that the file must have.
        current: The validator of the version to have; empty takes any.

    Raises:
        OfflineError: a fetch is needed, and forbidden or impossible.
        HashError: what is fetched does not keep the promise.
        SourceError: it cannot be fetched for another reason.
    """
    if holds(entry, promise, current):
        return entry.path
    if address.offline():
        raise no_network(entry, promise)
    with _sole_writer(entry):
        if not holds(entry, promise, current):
            _fetch(entry, opener, promise)
    return entry.path


def holds(entry: Entry, promise: str | None, current: str = "") -> bool:
    """Tell whether the cached file is whole and the wanted one; one put there by hand is taken up."""
    kept = Record.read(entry.record_path)
    try:
        if current and (kept is None or kept.validator != current):
            return False
        record = vouch(entry.path, entry.record_path, entry.address, kept.validator if kept else "")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unusable(entry.path, error) from error
    if kept is not None and kept.sha256 != record.sha256:
        _logger.warning("%s has changed since it was fetched, and will be fetched again", entry.path)
        return False
    if not digest.keeps(record.sha256, promise):
        return False
    if record != kept:
        record.write(entry.record_path)
    return True


def no_network(entry: Entry, promise: str | None) -> SourceError:
    """Word the error for a file that the cache does not hold, or not whole, where no network may be used."""
    what = address.shown(entry.address)
    rule = "FRAMEWORK_OFFLINE forbids to fetch it"
    kept = Record.read(entry.record_path)
    wanted = promise or (kept.sha256 if kept else None)
    if wanted is None or not entry.path.exists():
        return OfflineError(f"{what} is not in the cache, and {rule}; put the file at {entry.path}")
    error = digest.broken_promise(f"{entry.path} (from {what})", digest.sha256_of(entry.path), wanted)
    return HashError(f"{error}\n{rule} again; put the right file there, and remove {entry.record_path.name}.")


def vouch(path: Path, record_path: Path, where: str, validator: str = "") -> Record:
    """Return a record that fits the file: the one kept of it, or a new one, which costs reading the file."""
    kept = Record.read(record_path)
    if kept is not None and kept.fits(path):
        return kept
    return Record.of(path, where, digest.sha256_of(path), validator)


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _unusable(path: Path, error: OSError) -> SourceError:
    return SourceError(
        f"the cache cannot be used at {path}: {error}; set FRAMEWORK_HOME to a folder of yours"
    )


@contextlib.contextmanager
def _sole_writer(entry: Entry) -> Iterator[None]:
    """Hold the entry's lock, which the system takes back from a process that dies."""
    try:
        entry.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(entry.path.with_name(f"{entry.path.name}.lock"))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            _logger.info("waiting for another process that fetches %s", address.shown(entry.address))
            lock.acquire()
    except OSError as error:
        raise _unusable(entry.path.parent, error) from error
    try:
        yield
    finally:
        lock.release()


def _fetch(entry: Entry, opener: Opener, promise: str | None) -> None:
    """Download, verify and land the file. An earlier part that spoils the digest is dropped, once."""
    part, what = entry.part, address.shown(entry.address)
    resumed = part.length() > 0
    _logger.info("fetching %s to %s", what, entry.path)
    validator = download(part, opener, what)
    actual = digest.sha256_of(part.path)
    if not digest.keeps(actual, promise):
        part.discard()
        if resumed:
            return _fetch(entry, opener, promise)
        raise digest.broken_promise(what, actual, promise or "")
    part.land(entry.path)
    Record.of(entry.path, entry.address, actual, validator).write(entry.record_path)
