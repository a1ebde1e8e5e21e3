"""A remote file that stays where it is: of it, the parts that are asked for are fetched and kept."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from framework.pretrain.errors import DamagedCheckpointError
from framework.pretrain.formats.blob import Blob, PartBlob
from framework.pretrain.sources import address

if TYPE_CHECKING:
    import requests

#: Parts are fetched in whole blocks of this many bytes.
BLOCK = 1 << 16

Fetch = Callable[[int, int], bytes]


def _nothing() -> None:
    """Do nothing."""


class RemoteBlob(Blob):
    """The bytes of a remote file.

    Attributes:
        size: Number of bytes.
        where: The address, for people to read.
        bytes_read: How many bytes came over the network so far.
    """

    def __init__(self, where: str, size: int, fetch: Fetch, close: Callable[[], None] = _nothing) -> None:
        """Name the file.

        Args:
            where: The address, for people to read.
            size: Number of bytes.
            fetch: Returns the bytes from a position up to another one.
            close: Gives up the connection.
        """
        self.where = where
        self.size = size
        self.bytes_read = 0
        self.close = close
        self._fetch = fetch
        self._blocks: dict[int, bytes] = {}
        self._lock = threading.Lock()

    @property
    def distant(self) -> bool:
        """Each look at another part is a request."""
        return True

    def read_into(self, view: memoryview, start: int) -> None:
        """Copy from the blocks, fetching those that are missing in as few requests as there are gaps."""
        first, last = start // BLOCK, (start + max(len(view), 1) - 1) // BLOCK
        with self._lock:
            self._complete(first, last)
            data = b"".join(self._blocks[number] for number in range(first, last + 1))
        view[:] = memoryview(data)[start - first * BLOCK :][: len(view)]

    def _complete(self, first: int, last: int) -> None:
        missing = [number for number in range(first, last + 1) if number not in self._blocks]
        while missing:
            count = next((i for i, n in enumerate(missing) if n != missing[0] + i), len(missing))
            begin, end = missing[0] * BLOCK, min((missing[0] + count) * BLOCK, self.size)
            data = self._fetch(begin, end)
            self.bytes_read += len(data)
            if len(data) != end - begin:
                raise DamagedCheckpointError(
                    f"{self.where}: bytes {begin} to {end} were asked for, {len(data)} came"
                )
            for number in missing[:count]:
                at = number * BLOCK - begin
                self._blocks[number] = data[at : at + BLOCK]
            missing = missing[count:]

    def _part(self, start: int, size: int) -> Blob:
        return PartBlob(self, start, size)


def open_remote(uri: str) -> RemoteBlob | None:
    """Open a remote file for looks at parts of it.

    Args:
        uri: An address that `framework.pretrain.source.located` returned.

    Returns:
        The file, or None where its parts cannot be had: a local path, a hub's repository, a folder, or a
        server that does not know ranges.

    Raises:
        SourceError: It is not there, not allowed, or there is no network.
    """
    scheme = address.scheme_of(uri)
    if scheme in (None, "file", "local", "hf", "hf-hub", "hf_hub") or address.offline():
        return None
    return _open_http(uri) if scheme in ("http", "https") else _open_storage(uri)


def _open_http(url: str) -> RemoteBlob | None:
    import requests

    session = requests.Session()
    start, total, validator = _http_range(session, url, 0, BLOCK)
    if total is None:
        session.close()
        return None

    def fetch(begin: int, end: int) -> bytes:
        if begin == 0 and end <= len(start):
            return start[:end]
        data, size, version = _http_range(session, url, begin, end)
        if (size, version) != (total, validator):
            raise DamagedCheckpointError(f"{address.shown(url)} was changed while it was being read")
        return data

    return RemoteBlob(address.shown(url), total, fetch, session.close)


def _http_range(session: requests.Session, url: str, begin: int, end: int) -> tuple[bytes, int | None, str]:
    """Return the bytes, the size of the whole, and its version; no size where the server gives no ranges."""
    from framework.pretrain.sources import web

    what = address.shown(url)
    with web.get(session, url, {"Range": f"bytes={begin}-{end - 1}"}) as response:
        if response.status_code == 416:
            return b"", None, ""
        web.check_status(response, what)
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
        encoded = response.headers.get("Content-Encoding", "identity") != "identity"
        if response.status_code != 206 or found is None or int(found[1]) != begin or encoded:
            return b"", None, ""
        with web.as_our_errors(what):
            return response.content, int(found[3]), response.headers.get("ETag", "")


def _open_storage(uri: str) -> RemoteBlob | None:
    from framework.pretrain.sources import storage

    with storage.as_our_errors(address.shown(uri)):
        filesystem, path = storage.driver(uri)
        info = filesystem.info(path)
    size = info.get("size")
    if info.get("type") == "directory" or not isinstance(size, int):
        return None

    def fetch(begin: int, end: int) -> bytes:
        with storage.as_our_errors(address.shown(uri)):
            data: bytes = filesystem.cat_file(path, start=begin, end=end)
        return data

    return RemoteBlob(address.shown(uri), size, fetch)
