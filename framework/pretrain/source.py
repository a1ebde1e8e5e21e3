"""From the address of a checkpoint to a file or folder on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from framework.pretrain.errors import SpecError
from framework.pretrain.sources import digest, local


def fetch(
    uri: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    url_mapping: tuple[str, str] | None = None,
) -> Path:
    """Return a local file or folder for `uri`.

    Args:
        uri: A local path or `file://` address.
        sha256: Full or leading hexadecimal digits that the file's SHA-256 must have.
        url_mapping: (regular expression, replacement) applied to the address first.

    Raises:
        SpecError: the address or another argument makes no sense.
        SourceError: the file cannot be had; the subclass says why.
    """
    if not isinstance(uri, str | os.PathLike):
        raise SpecError(f"the path of a checkpoint must be a string or a path, got {type(uri).__name__}")
    return local.fetch(os.fspath(uri), digest.parse_sha256(sha256))
