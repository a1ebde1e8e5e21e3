"""Files and folders that are already on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from framework.errors import did_you_mean
from framework.pretrain.errors import NotAllowedError, NotFoundError
from framework.pretrain.sources import digest


def fetch(text: str, promise: str | None) -> Path:
    """Return the path as it is written (`~` expanded) if there is something readable at it.

    Args:
        text: A path, or a `file://` address.
        promise: Leading hexadecimal digits that the file's SHA-256 must have.

    Raises:
        NotFoundError: there is nothing at that path.
        NotAllowedError: it cannot be read.
        HashError: the digest is another.
    """
    path = Path(_path_of(text)).expanduser()
    _check_readable(path, text)
    if promise is not None:
        _verify(path, promise)
    return path


def _path_of(text: str) -> str:
    if not text.lower().startswith(("file://", "local://")):
        return text
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost", "~", ".", ".."):
        raise NotFoundError(
            f"{text} names a file on the host {parts.netloc!r}; a file of this machine has three slashes: "
            f"file:///{parts.netloc}{parts.path}"
        )
    folder = "" if parts.netloc == "localhost" else parts.netloc
    return folder + url2pathname(parts.path)


def _check_readable(path: Path, text: str) -> None:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(_nothing_at(path, text)) from error
    except PermissionError as error:
        raise NotAllowedError(f"{path.absolute()} cannot be reached: {error.strerror}") from error
    except (OSError, ValueError) as error:
        raise NotFoundError(f"{text!r} is no path of a file: {error}") from error
    if not os.access(path, os.R_OK):
        raise NotAllowedError(f"{path.absolute()} exists, but you have no permission to read it")


def _nothing_at(path: Path, text: str) -> str:
    if re.match(r"[a-z][a-z0-9+-]+:/[^/]", text):
        return f"{text} is not there; pathlib.Path takes a slash out of an address, so give it as a string"
    place = path.absolute()
    if place.is_symlink():
        return f"{place} is a link to {os.readlink(place)}, which does not exist"
    folder = next(parent for parent in place.parents if parent.exists())
    missing = place.relative_to(folder).parts[0]
    if not folder.is_dir():
        return f"{place} does not exist: {folder} is a file"
    try:
        near = did_you_mean(missing, os.listdir(folder))
    except PermissionError:
        near = ""
    where = "" if folder == place.parent else f" ({folder} has no {missing!r})"
    return f"{place} does not exist{where}{near}"


def _verify(path: Path, promise: str) -> None:
    if path.is_dir():
        digest.refuse_for_folder(promise, str(path))
    actual = digest.sha256_of(path)
    if not digest.keeps(actual, promise):
        raise digest.broken_promise(str(path.absolute()), actual, promise)
