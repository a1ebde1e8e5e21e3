"""Addresses as text: their scheme, the mirror that replaces them, the name that they give a file."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

from framework.pretrain.errors import SpecError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)(?:://|::.*://)|(hf[-_]hub):", re.IGNORECASE)
_LONGEST_NAME = 120
_SECRET = re.compile(
    r"(?P<name>[^?&=]*(?:token|sig|key|secret|credential|password|auth|jwt|access|code)[^?&=]*)=[^&]*",
    re.IGNORECASE,
)


def scheme_of(text: str) -> str | None:
    """Return what stands before `://` (or before fsspec's chaining `::`) in lower case; None for a path."""
    found = _SCHEME.match(text)
    return (found[1] or found[2]).lower() if found else None


def rewrite(text: str, url_mapping: tuple[str, str] | None) -> str:
    """Replace every match of the mapping's regular expression, as `re.sub` does.

    Args:
        text: The address.
        url_mapping: (regular expression, replacement). None reads the environment variable
            `FRAMEWORK_URL_MAPPING`, spelt `regex=>replacement`.

    Raises:
        SpecError: the mapping is no such pair, or its regular expression is wrong.
    """
    mapping = _from_environment() if url_mapping is None else url_mapping
    if mapping is None:
        return text
    if not isinstance(mapping, tuple | list) or [type(part) for part in mapping] != [str, str]:
        raise SpecError(f"url_mapping must be a pair (regular expression, replacement), got {mapping!r}")
    pattern, replacement = mapping
    try:
        return re.sub(pattern, replacement, text)
    except (re.error, IndexError) as error:
        raise SpecError(f"url_mapping {pattern!r} => {replacement!r} cannot be applied: {error}") from error


def _from_environment() -> tuple[str, str] | None:
    value = os.environ.get("FRAMEWORK_URL_MAPPING", "")
    if not value:
        return None
    pattern, arrow, replacement = value.partition("=>")
    if not arrow:
        raise SpecError(f"FRAMEWORK_URL_MAPPING must read 'regex=>replacement', got {value!r}")
    return pattern.strip(), replacement.strip()


def offline() -> bool:
    """Tell whether the environment variable `FRAMEWORK_OFFLINE` forbids the use of a network."""
    return os.environ.get("FRAMEWORK_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def basename(text: str) -> str:
    """Return the last part of an address or path as a name that every file system takes."""
    link = next((link for link in text.split("::") if "://" in link), text)
    path = re.split(r"[?#]", link.partition("://")[2] or link)[0]
    name = unquote(path).rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^\w.+@=-]", "_", name)[-_LONGEST_NAME:]
    return "file" if name in ("", ".", "..") else name


def shown(text: str) -> str:
    """Return an address for people to read: without user name, password and signatures."""
    without_user = re.sub(r"(?<=://)[^/?#@]*@", "", text)
    head, mark, query = without_user.partition("?")
    return head + mark + _SECRET.sub(r"\g<name>=...", query)
