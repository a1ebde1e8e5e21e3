"""Every transform of `torchvision.transforms.v2` under its own name, with arguments that a config can hold.

`dict(type='Resize', size=256, interpolation='bicubic')` gives `v2.Resize(256, InterpolationMode.BICUBIC)`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torchvision.transforms import v2

from framework.errors import ConfigError, did_you_mean
from framework.registry import TRANSFORMS

Choice = TypeVar("Choice")

_INTERPOLATIONS = {mode.value: mode for mode in v2.InterpolationMode}
_POLICIES = {policy.value: policy for policy in v2.AutoAugmentPolicy}
_DTYPES = {str(d).removeprefix("torch."): d for d in vars(torch).values() if isinstance(d, torch.dtype)}


def _chooser(what: str, choices: Mapping[str, Choice]) -> Callable[[Any], Any]:
    """Return a function that replaces a name by what it stands for, and keeps everything else."""

    def choose(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        name = value.removeprefix("torch.").lower()
        if name not in choices:
            hint = did_you_mean(name, choices) or f". Known: {', '.join(choices)}"
            raise ConfigError(f"There is no {what} '{value}'{hint}")
        return choices[name]

    return choose


_dtype = _chooser("dtype", _DTYPES)


def _dtypes(value: Any) -> Any:
    return (
        {kind: _dtype(dtype) for kind, dtype in value.items()}
        if isinstance(value, Mapping)
        else _dtype(value)
    )


def _transforms(value: Any) -> Any:
    if isinstance(value, Mapping):
        return TRANSFORMS.build(value)
    return [_transforms(step) for step in value] if isinstance(value, (list, tuple)) else value


#: Arguments that are written differently in a config, by name.
_CONVERT: dict[str, Callable[[Any], Any]] = {
    "interpolation": _chooser("interpolation", _INTERPOLATIONS),
    "policy": _chooser("policy", _POLICIES),
    "dtype": _dtypes,
    "transforms": _transforms,
}


def _from_config(transform: type[v2.Transform]) -> Callable[..., v2.Transform]:
    """Return a function that builds `transform` from arguments as a config has them."""

    @functools.wraps(transform, updated=())
    def build(**arguments: Any) -> v2.Transform:
        return transform(**{name: _CONVERT.get(name, _same)(value) for name, value in arguments.items()})

    return build


def _same(value: Any) -> Any:
    return value


#: Names of the transforms that torchvision offers here.
TORCHVISION: tuple[str, ...] = tuple(
    name
    for name, member in vars(v2).items()
    if inspect.isclass(member) and issubclass(member, v2.Transform) and member is not v2.Transform
)

for _name in TORCHVISION:
    TRANSFORMS.register_module(name=_name, module=_from_config(getattr(v2, _name)))
