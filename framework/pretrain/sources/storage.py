"""Files of every other protocol (`s3://`, `gs://`, `oss://`, `memory://`, ...), through fsspec's drivers."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from framework.errors import did_you_mean
from framework.pretrain.errors import (
    DownloadError,
    NotAllowedError,
    NotFoundError,
    OfflineError,
    PretrainError,
    SourceError,
    SpecError,
)
from framework.pretrain.sources import address, cache, digest, weights
from framework.pretrain.sources.transfer import Stream, TransientError

_logger = logging.getLogger(__name__)
_CHUNK = 1 << 22
# What drivers call the thing that changes whenever a file does, the surest first.
_VERSIONS = (
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
    "LastModified",
    "last_modified",
    "updated",
    "mtime",
    "created",
)
# What their errors mean, children before parents: module, name, ours.
_MEANINGS = (
    ("builtins", "FileNotFoundError", NotFoundError),
    ("builtins", "PermissionError", NotAllowedError),
    ("builtins", "ConnectionError", OfflineError),
    ("builtins", "TimeoutError", OfflineError),
    ("socket", "gaierror", OfflineError),
    ("botocore.exceptions", "ParamValidationError", SpecError),
    ("botocore.exceptions", "NoCredentialsError", NotAllowedError),
    ("botocore.exceptions", "PartialCredentialsError", NotAllowedError),
    ("botocore.exceptions", "ConnectionError", OfflineError),
    ("botocore.exceptions", "HTTPClientError", OfflineError),
    ("botocore.exceptions", "BotoCoreError", DownloadError),
    ("aiohttp.client_exceptions", "ClientConnectionError", OfflineError),
    ("aiohttp.client_exceptions", "ClientError", DownloadError),
    ("google.auth.exceptions", "TransportError", OfflineError),
    ("google.auth.exceptions", "GoogleAuthError", NotAllowedError),
    ("gcsfs.retry", "HttpError", DownloadError),
    ("azure.core.exceptions", "ClientAuthenticationError", NotAllowedError),
    ("azure.core.exceptions", "ServiceRequestError", OfflineError),
    ("azure.core.exceptions", "AzureError", DownloadError),
    ("oss2.exceptions", "RequestError", OfflineError),
    ("oss2.exceptions", "OssError", DownloadError),
    ("builtins", "OSError", DownloadError),
    ("builtins", "ValueError", SpecError),
)
_HINTS: dict[type[PretrainError], str] = {
    NotAllowedError: "; the driver takes credentials from where its own command-line tool does",
    OfflineError: "; without a network, name a local path",
}


def fetch(uri: str, promise: str | None) -> Path:
    """Return the cached copy of a file or of a folder's weights, fetched again if the original has changed.

    Of a folder, the file of weights is fetched and returned (of shards: their index), but a folder of
    `torch.distributed.checkpoint` as a whole.

    Raises:
        SourceError: it cannot be had; the subclass says why.
        SpecError: no driver has this protocol.
    """
    if address.offline():
        return _cached(uri, promise, None)
    try:
        return _fetch_current(uri, promise)
    except OfflineError as error:
        path = _cached(uri, promise, error)
        _logger.warning("%s; the copy in the cache is used as it is: %s", error, path)
        return path


@dataclass(frozen=True)
class _Remote:
    """A file or folder behind a driver."""

    filesystem: Any
    path: str
    where: str
    info: dict[str, Any]

    @property
    def is_folder(self) -> bool:
        return bool(self.info.get("type") == "directory")

    @property
    def version(self) -> str:
        """What stays equal as long as the file does; '' where the driver does not tell."""
        mark = next((f"{name} {self.info[name]}" for name in _VERSIONS if self.info.get(name)), "")
        return mark and f"{mark}, {self.info.get('size')} bytes"

    def beside(self, name: str) -> _Remote:
        """Return another file of the same folder."""
        return _look(self.filesystem, self.path.rpartition("/")[0] + "/" + name, self.where)

    def below(self, name: str) -> _Remote:
        """Return a file of this folder."""
        return _look(self.filesystem, self.path.rstrip("/") + "/" + name, f"{self.where.rstrip('/')}/{name}")

    @contextlib.contextmanager
    def open(self, start: int, validator: str) -> Iterator[Stream]:
        """Open the file at a position, or at its start where the bytes before it are of another version."""
        with as_our_errors(self.where):
            file = self.filesystem.open(self.path, "rb", block_size=_CHUNK)
        with file:
            begin = start if validator == self.version and file.seekable() else 0
            if begin:
                file.seek(begin)
            yield Stream(begin, self.info.get("size"), self.version, _chunks(file, self.where))


def _fetch_current(uri: str, promise: str | None) -> Path:
    with as_our_errors(address.shown(uri)):
        filesystem, path = driver(uri)
        filesystem.invalidate_cache()
    remote = _look(filesystem, path, address.shown(uri))
    folder = cache.folder_for(uri)
    if remote.is_folder:
        names = _names(remote)
        if weights.DISTRIBUTED_MARK in names:
            digest.refuse_for_folder(promise, remote.where)
            for name in names:
                _obtain(remote.below(name), folder, None)
            return folder
        remote = remote.below(weights.choose(names, remote.where))
    local = _obtain(remote, folder, promise)
    if local.name.endswith(weights.INDEX_SUFFIX):
        for name in weights.shards_of(local, remote.where):
            _obtain(remote.beside(name), folder, None)
    return local


def driver(uri: str) -> tuple[Any, str]:
    """Return fsspec's driver for an address, and the path in it."""
    scheme = address.scheme_of(uri)
    try:
        filesystem, path = url_to_fs(uri)
    except ImportError as error:
        raise SourceError(f"{address.shown(uri)} needs a driver that is missing: {error}") from error
    except ValueError as error:
        known = fsspec.available_protocols()
        near = did_you_mean(scheme or "", known) if scheme not in known else ""
        raise SpecError(f"{address.shown(uri)} cannot be used: {error}{near}") from error
    return filesystem, path


def _look(filesystem: Any, path: str, where: str) -> _Remote:
    with as_our_errors(where):
        return _Remote(filesystem, path, where, filesystem.info(path))


def _names(folder: _Remote) -> list[str]:
    with as_our_errors(folder.where):
        entries = folder.filesystem.ls(folder.path, detail=True)
    names = [entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == "file"]
    return [name for name in names if weights.is_plain(name)]


def _obtain(remote: _Remote, folder: Path, promise: str | None) -> Path:
    name = address.basename(remote.path)
    promise = promise or digest.promised_by_name(name)
    entry = cache.Entry(remote.where, folder / name)
    return cache.obtain(entry, remote.open, promise, current=remote.version)


def _cached(uri: str, promise: str | None, error: OfflineError | None) -> Path:
    """Return what was fetched earlier, without a look at the original."""
    entry = cache.entry_for(uri)
    names = cache.names_in(entry.path.parent)
    if weights.DISTRIBUTED_MARK in names:
        digest.refuse_for_folder(promise, address.shown(uri))
        return entry.path.parent
    if names and entry.path.name not in names:
        entry = cache.Entry(uri, entry.path.parent / weights.choose(names, str(entry.path.parent)))
    promise = promise or digest.promised_by_name(entry.path.name)
    if cache.holds(entry, promise):
        return entry.path
    raise error or cache.no_network(entry, promise)


def _chunks(file: Any, where: str) -> Iterator[bytes]:
    while True:
        try:
            with as_our_errors(where):
                chunk = file.read(_CHUNK)
        except (OfflineError, DownloadError) as error:
            raise TransientError(str(error)) from error
        if not chunk:
            return
        yield chunk


@contextlib.contextmanager
def as_our_errors(where: str) -> Iterator[None]:
    """Raise our errors in place of the driver's."""
    try:
        yield
    except PretrainError:
        raise
    except tuple(_known_meanings()) as error:  # asked now, as the block may have imported the driver
        kind = next(ours for theirs, ours in _known_meanings().items() if isinstance(error, theirs))
        said = "there is nothing" if kind is NotFoundError else f"{type(error).__name__}: {error}"
        raise kind(f"{where} cannot be fetched: {said}{_HINTS.get(kind, '')}") from error


def _known_meanings() -> dict[type[Exception], type[PretrainError]]:
    """Return the table for those drivers that are in use; another's errors cannot occur."""
    return {
        theirs: ours
        for module, name, ours in _MEANINGS
        if module in sys.modules and (theirs := getattr(sys.modules[module], name, None))
    }
