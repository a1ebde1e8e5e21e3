"""The `pretrain` field of a config, checked and frozen. No file is touched here."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from framework.errors import did_you_mean
from framework.pretrain.errors import SpecError

#: Ways to interpolate tables of positions; `geometric` is for relative position biases alone.
MODES = ("bicubic", "bilinear", "nearest", "nearest-exact", "area", "geometric")


@dataclasses.dataclass(frozen=True)
class PretrainSpec:
    """What a `pretrain` field asks for.

    Attributes:
        path: Where the weights are: a local path or a URI.
        sub_level: Take this part of the file's model, e.g. `'backbone'`. None: found from the keys.
        ignore_keys: Keys of the model that keep their initial values: exact, dotted prefix or glob.
        key: Entry of the file's container to take, a dotted path. None: found.
        revise_keys: (regex, replacement) pairs, applied to the file's keys before anything else.
        dialect: Name of the file's naming scheme. None: detected.
        adapt: Whether shapes may be adapted; a string says how positions are interpolated (`'bilinear'`).
        min_coverage: Least share of the module's parameters that must come from the file, in [0, 1].
        strict: Whether anything missing, unexpected or mismatched is an error.
        sha256: Leading hex digits of the file's hash, or all of them.
        mmap: Whether the weights may stay a private memory map of the file.
        trust_pickle: Whether the file may run code.
        url_mapping: (regex, replacement) for the address, where a mirror has the file.
    """

    path: str
    sub_level: str | None = None
    ignore_keys: tuple[str, ...] = ()
    key: str | None = None
    revise_keys: tuple[tuple[str, str], ...] = ()
    dialect: str | None = None
    adapt: bool | str = True
    min_coverage: float = 0.5
    strict: bool = False
    sha256: str | None = None
    mmap: bool = False
    trust_pickle: bool = False
    url_mapping: tuple[str, str] | None = None


FIELDS = tuple(field.name for field in dataclasses.fields(PretrainSpec))


def parse_spec(pretrain: Any, where: str = "pretrain") -> PretrainSpec:
    """Check a `pretrain` value.

    Args:
        pretrain: A path or URI, or a dict with `path` and any other field of `PretrainSpec`.
        where: The place in the config, for messages.

    Raises:
        SpecError: It has the wrong type, an unknown field, or a field with an impossible value.
    """
    if isinstance(pretrain, PretrainSpec):
        return pretrain
    if isinstance(pretrain, (str, os.PathLike)):
        pretrain = {"path": pretrain}
    if not isinstance(pretrain, Mapping):
        raise SpecError(
            f"{where}: expected a path, a URI or a dict with `path`, "
            f"got {type(pretrain).__name__}: {pretrain!r:.80}"
        )
    for name in pretrain:
        if name not in FIELDS:
            hint = did_you_mean(str(name), FIELDS)
            raise SpecError(f"{where}.{name}{hint or ' is not a field.'} Accepted: {', '.join(FIELDS)}")
    if "path" not in pretrain:
        raise SpecError(
            f"{where}: the dict has no `path`. Add path='file or URI'; got {dict(pretrain)!r:.80}"
        )
    return PretrainSpec(**{name: _CHECKS[name](value, f"{where}.{name}") for name, value in pretrain.items()})


def _path(value: Any, where: str) -> str:
    if isinstance(value, (str, os.PathLike)) and str(value).strip():
        return os.fspath(value)
    if value == "":
        raise SpecError(f"{where} is empty: it has to name the weights. pretrain=None is for none")
    raise SpecError(f"{where}: expected a path or URI, got {value!r:.80}")


def _text(value: Any, where: str) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise SpecError(f"{where}: expected a non-empty string or None, got {value!r:.80}")


def _part(value: Any, where: str) -> str | None:
    text = _text(value, where)
    return text.strip(".") if text else None


def _flag(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    raise SpecError(f"{where}: expected True or False, got {value!r:.80}")


def _mode(value: Any, where: str) -> bool | str:
    if isinstance(value, bool) or value in MODES:
        return value
    raise SpecError(f"{where}: expected True, False or one of {', '.join(MODES)}, got {value!r:.80}")


def _share(value: Any, where: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise SpecError(f"{where}: expected a number from 0 to 1, got {value!r:.80}")


def _patterns(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if value is None:
        return ()
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) and item for item in value):
        return tuple(value)
    raise SpecError(f"{where}: expected a key, a glob pattern or a list of them, got {value!r:.80}")


def _rules(value: Any, where: str) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise SpecError(f"{where}: expected a list of (regex, replacement), got {value!r:.80}")
    return tuple(_rule(item, f"{where}[{index}]") for index, item in enumerate(value))


def _rule(value: Any, where: str) -> tuple[str, str]:
    if not (isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(v, str) for v in value)):
        raise SpecError(f"{where}: expected (regex, replacement), got {value!r:.80}")
    pattern, replacement = value
    try:
        re.compile(pattern)
    except re.error as error:
        raise SpecError(f"{where}: '{pattern}' is not a regular expression: {error}") from error
    return pattern, replacement


def _mapping(value: Any, where: str) -> tuple[str, str] | None:
    return None if value is None else _rule(value, where)


def _digest(value: Any, where: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{8,64}", value):
        return value.lower()
    raise SpecError(f"{where}: expected 8 to 64 hex digits, got {value!r:.80}")


_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "path": _path,
    "sub_level": _part,
    "ignore_keys": _patterns,
    "key": _part,
    "revise_keys": _rules,
    "dialect": _text,
    "adapt": _mode,
    "min_coverage": _share,
    "strict": _flag,
    "sha256": _digest,
    "mmap": _flag,
    "trust_pickle": _flag,
    "url_mapping": _mapping,
}
