"""What a command line gives: fields of `pretrain`, and models as configs, files or text. No text is run."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from framework.errors import ConfigError, did_you_mean
from framework.pretrain.errors import PretrainError, SpecError
from framework.pretrain.spec import FIELDS

#: How a field of `pretrain` begins on the command line: `--pretrain.key teacher`.
FIELD = "--pretrain."


#: What the code of a config, and that of a class at a wrong value, raises.
_WRONG = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, RuntimeError)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Tell of whatever the code of a config or a class raises as a `ConfigError`.

    Args:
        what: What was tried, in words.

    Raises:
        ConfigError: Any such error. Those of this package, and of the operating system, stay as they are.
    """
    try:
        yield
    except (ConfigError, PretrainError):
        raise
    except (*_WRONG, TypeError, ValueError) as error:
        raise ConfigError(f"{what}: {type(error).__name__}: {error}") from error


def pretrain_of(path: str, fields: Mapping[str, Any]) -> Any:
    """Return the value of a `pretrain` field: the path alone where nothing else is given."""
    return {"path": path, **fields} if fields else path


def take_fields(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Take the fields of `pretrain` out of arguments.

    Returns:
        The fields (`{'key': 'teacher'}`), and the other arguments.

    Raises:
        SpecError: There is no such field, or it has no value.
    """
    fields: dict[str, Any] = {}
    rest = list(arguments)
    at = next((i for i, word in enumerate(rest) if word.startswith(FIELD)), None)
    while at is not None:
        name, equals, value = rest[at].removeprefix(FIELD).partition("=")
        if name not in FIELDS or name == "path":
            hint = did_you_mean(name, FIELDS) or f". There are: {', '.join(FIELDS[1:])}"
            raise SpecError(f"{FIELD}{name} is no field of pretrain{hint}")
        if not equals and at + 1 == len(rest):
            raise SpecError(f"{FIELD}{name} needs a value")
        fields[name] = value_of(value if equals else rest.pop(at + 1))
        del rest[at]
        at = next((i for i, word in enumerate(rest) if word.startswith(FIELD)), None)
    return fields, rest


def value_of(text: str) -> Any:
    """Read a value as Python would, `[('^a', 'b')]` or `True`; what is no such value is text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def is_config(text: str) -> bool:
    """Tell whether an argument means a model: a config file, or a config as text."""
    from framework.config import SUFFIXES

    if "dict(" in text:
        return True
    return Path(text).suffix in SUFFIXES and not text.endswith(".index.json")


def model_config(text: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the `model` of a config file, or of a text such as `backbone=dict(type='ResNet', depth=34)`.

    Raises:
        ConfigError: There is no such file or no model in it, or the text is more than dicts of plain values.
    """
    if "dict(" not in str(text):
        from framework.config import load_config

        with explained(f"the config {text} cannot be run"):
            model = load_config(text)["model"]
        return dict(model.to_dict() if hasattr(model, "to_dict") else model)
    value = _written(str(text))
    if "type" not in value and len(value) == 1:  # backbone=dict(...)
        value = next(iter(value.values()))
    if not isinstance(value, dict) or "type" not in value:
        raise ConfigError(f"{text!r:.80} is no config of a model: dict(type='ResNet', depth=34) would be one")
    return value


def _written(text: str) -> dict[str, Any]:
    source = text.strip().rstrip(",")
    try:
        tree = ast.parse(source if source.startswith("dict(") else f"dict({source})", mode="eval")
        value = _plain(tree.body)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ConfigError(f"{text!r:.80} cannot be read as a config: {error}") from error
    assert isinstance(value, dict), "it was put into a dict"
    return value


def _plain(node: ast.expr) -> Any:
    """Return the value of an expression of dicts, lists, tuples and plain values."""
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id != "dict" or node.args:
            raise ValueError("only dict(name=value, ...) is understood, no other call")
        return {str(one.arg): _plain(one.value) for one in node.keywords if _is_named(one)}
    if isinstance(node, ast.Dict):
        keys = [_plain(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_plain, node.values), strict=True))
    if isinstance(node, ast.List):
        return [_plain(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_plain(item) for item in node.elts)
    return ast.literal_eval(node)


def _is_named(one: ast.keyword) -> bool:
    if one.arg is None:
        raise ValueError("** is not understood")
    return True
