"""SHA-256 digests: what an address or a user promises, and whether a file keeps it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from framework.pretrain.errors import HashError, SpecError

# `-<hex>` before one or two extensions; the last group of a UUID looks the same and is none.
_IN_NAME = re.compile(
    r"(?<![0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4})-(?P<hex>[0-9a-f]{8,64})(?:\.[A-Za-z]\w*){1,2}$"
)
_DATE = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:\d{4}|\d{6})?")
_CHUNK = 1 << 20


def parse_sha256(sha256: str | None) -> str | None:
    """Check the digits that a user gave, and return them in lower case.

    Raises:
        SpecError: they are not 1 to 64 hexadecimal digits.
    """
    if sha256 is None:
        return None
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-fA-F]{1,64}", sha256):
        raise SpecError(f"sha256 must be the leading 1 to 64 hexadecimal digits of a digest, got {sha256!r}")
    return sha256.lower()


def promised_by_name(name: str) -> str | None:
    """Return the leading digits of the SHA-256 that a file name carries, as in `resnet50-0676ba61.pth`.

    Eight or more digits between a dash and the extension count, unless they read as a date. So neither
    `checkpoint-799.pth` nor `vit.h.14-300e.pth.tar` promises anything.
    """
    found = _IN_NAME.search(name)
    if found is None or _DATE.fullmatch(found["hex"]):
        return None
    return found["hex"]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def keeps(actual: str, promise: str | None) -> bool:
    """Tell whether a full digest starts with the promised digits; no promise is always kept."""
    return promise is None or actual.startswith(promise)


def refuse_for_folder(promise: str | None, where: str) -> None:
    """Raise a SpecError where a digest is given for what is a folder."""
    if promise is not None:
        raise SpecError(f"sha256= is the digest of one file, but {where} is a folder")


def broken_promise(where: str, actual: str, promise: str) -> HashError:
    """Word the error for a file whose digest is not the promised one."""
    return HashError(
        f"{where} is not the promised file:\n"
        f"  sha256 promised: {promise}{'...' if len(promise) < 64 else ''}\n"
        f"  sha256 got:      {actual}\n"
        "If you trust this file all the same, give its own digest as sha256=."
    )
