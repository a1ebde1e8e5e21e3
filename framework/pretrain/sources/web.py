"""Files behind `http://` and `https://`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin

import requests
from urllib3.exceptions import MaxRetryError

from framework.pretrain.errors import (
    DownloadError,
    NotAllowedError,
    NotFoundError,
    OfflineError,
)
from framework.pretrain.sources import address, cache, digest, weights
from framework.pretrain.sources.transfer import Stream, TransientError

TIMEOUT = (10.0, 60.0)  # seconds to connect, seconds without a byte
_CHUNK = 1 << 16
_FOR_NOW = {408, 425, 429, 500, 502, 503, 504}


def fetch(url: str, promise: str | None) -> Path:
    """Return the cached file of a URL; for the index of a sharded checkpoint, its shards are fetched too.

    A file that is in the cache is not asked for again: published weights keep their address.

    Raises:
        SourceError: it cannot be had; the subclass says why.
    """
    path = _fetch_one(url, promise)
    if path.name.endswith(weights.INDEX_SUFFIX):
        for name in weights.shards_of(path, address.shown(url)):
            _fetch_one(urljoin(url, name), None, folder_of=url)
    return path


def _fetch_one(url: str, promise: str | None, folder_of: str | None = None) -> Path:
    entry = cache.entry_for(url, folder_of)
    promise = promise or digest.promised_by_name(entry.path.name)
    return cache.obtain(entry, lambda start, validator: _open(url, start, validator), promise)


@contextmanager
def _open(url: str, start: int, validator: str) -> Iterator[Stream]:
    """Open a URL at a position, or at its start if the rest is of another version or not to be had alone."""
    what = address.shown(url)
    with requests.Session() as session:
        response = get(session, url, {"Range": f"bytes={start}-", "If-Range": validator} if start else {})
        if start and not _goes_on(response, start, validator):
            response.close()
            response = get(session, url, {})
        with response:
            check_status(response, what)
            begin = start if response.status_code == 206 else 0
            yield Stream(begin, _total(response, begin), _validator(response), _chunks(response, what))


def get(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    """Ask for a URL; the body is not read yet."""
    own = {"Accept-Encoding": "identity", "User-Agent": "framework"}
    with as_our_errors(address.shown(url)):
        return session.get(url, headers=own | headers, stream=True, timeout=TIMEOUT)


def _goes_on(response: requests.Response, start: int, validator: str) -> bool:
    """Tell whether a response to a range continues what is here. A whole file (200) is in order too."""
    if response.status_code == 206:
        begins = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        return begins and _validator(response) in ("", validator)
    return response.status_code != 416


def check_status(response: requests.Response, what: str) -> None:
    """Raise the error that a status means; 200 and 206 mean none."""
    status = response.status_code
    if status in (200, 206):
        return
    answer = f"{what} cannot be fetched: the server answers {status} {response.reason}"
    if status in (404, 410):
        raise NotFoundError(f"{what} does not exist: the server answers {status} {response.reason}")
    if status in (401, 403, 407):
        raise NotAllowedError(f"{answer}; {_how_to_get_in(what)}")
    if status in _FOR_NOW:
        raise TransientError(answer)
    raise DownloadError(answer)


def _how_to_get_in(what: str) -> str:
    if "huggingface.co" in what:
        return "hf://organisation/name/file sends your token, which a private or gated repository needs"
    return "it wants a login (~/.netrc is read), or the file is not there: storage hosts hide what is missing"


def _validator(response: requests.Response) -> str:
    """Return a strong ETag or the date; only these are allowed in `If-Range` (RFC 9110, 13.1.5)."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return ""  # positions in the encoded bytes are none in the file
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _total(response: requests.Response, begin: int) -> int | None:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    length = response.headers.get("Content-Length", "")
    return begin + int(length) if length.isdecimal() else None


def _chunks(response: requests.Response, what: str) -> Iterator[bytes]:
    with as_our_errors(what):
        yield from response.iter_content(_CHUNK)


@contextmanager
def as_our_errors(what: str) -> Iterator[None]:
    """Raise our errors in place of requests'."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise DownloadError(
            f"{what} cannot be fetched: its certificate is refused ({error}); behind a proxy that signs for "
            "others, REQUESTS_CA_BUNDLE names the file with its certificates"
        ) from error
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        if error.args and isinstance(error.args[0], MaxRetryError):
            raise OfflineError(_no_connection(what, error.args[0])) from error
        raise TransientError(f"{what} broke off: {error}") from error
    except requests.RequestException as error:
        raise DownloadError(f"{what} cannot be fetched: {error}") from error


def _no_connection(what: str, error: MaxRetryError) -> str:
    return (
        f"{what} cannot be reached: {error.reason}. Without a network, name a local path; "
        "a mirror is set with url_mapping= or FRAMEWORK_URL_MAPPING='regex=>replacement'"
    )
