"""Weights of a module and of its parts: the outer ones win, and parts that they fill fetch nothing."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from framework.pretrain.deferred import deferred_init, will_be_loaded
from framework.pretrain.load import build_pretrained, plan_pretrained
from framework.pretrain.sources.address import shown
from framework.pretrain.spec import parse_spec
from framework.pretrain.target import state_of

_LOG = logging.getLogger("framework")


@dataclass
class _Rehearsal:
    """A construction in which some parts leave their weights out.

    Attributes:
        withheld: Places of the fields that do not count; None: all.
        parts: Modules whose weights were left out, with the places of the fields.
    """

    withheld: frozenset[str] | None
    parts: list[tuple[str, nn.Module]] = field(default_factory=list)

    def leaves_out(self, where: str) -> bool:
        return self.withheld is None or where in self.withheld


_REHEARSAL: ContextVar[_Rehearsal | None] = ContextVar("rehearsal", default=None)


def build_nested(construct: Callable[[], Any], pretrain: Any, where: str) -> Any:
    """Construct a module and load its weights; those that parts of it name are fetched only if need be.

    Args:
        construct: Makes the module; parts of it may load weights of their own, through this function.
        pretrain: The module's own field, or None.
        where: The place of the field in the config.

    Raises:
        PretrainError: See `framework.pretrain.load_pretrained`.
    """
    rehearsal = _REHEARSAL.get()
    if pretrain is None:
        return build_pretrained(construct, None, where)
    if rehearsal is not None and rehearsal.leaves_out(where):
        module = construct()
        if isinstance(module, nn.Module):
            rehearsal.parts.append((where, module))
        return module
    return build_pretrained(lambda: build_below(construct, pretrain, where), pretrain, where)


def build_below(construct: Callable[[], Any], pretrain: Any, where: str) -> Any:
    """Construct a module whose weights will come from `pretrain`, without what these overwrite altogether.

    First it is constructed as if none of its parts named weights. If the outer weights leave something of
    such a part, or of a copy of it, without values, it is constructed again, and that part loads its own.

    Args:
        construct: Makes the module.
        pretrain: The weights that it will get, which are fetched, but not read.
        where: The place of that field in the config.

    Raises:
        PretrainError: Either weights cannot be had.
    """
    spec = parse_spec(pretrain, where)
    before = _random_state()
    with deferred_init():
        with _rehearsing(None) as rehearsal:
            module = construct()
        if not rehearsal.parts or not isinstance(module, nn.Module):
            return module
        needed = _needed(module, rehearsal.parts, spec, where)
        if needed:
            will_be_loaded(state_of(module).values())  # nothing is drawn for what is thrown away
            _restore_random_state(before)
            withheld = frozenset(place for place, _ in rehearsal.parts if place not in needed)
            with _rehearsing(withheld):
                module = construct()
    for place in dict.fromkeys(place for place, _ in rehearsal.parts if place not in needed):
        _LOG.info(f"{place} is not fetched, as {where}, {shown(spec.path)}, has all of it")
    return module


@contextmanager
def _rehearsing(withheld: frozenset[str] | None) -> Iterator[_Rehearsal]:
    rehearsal = _Rehearsal(withheld)
    token = _REHEARSAL.set(rehearsal)
    try:
        yield rehearsal
    finally:
        _REHEARSAL.reset(token)


def _needed(module: nn.Module, parts: list[tuple[str, nn.Module]], spec: Any, where: str) -> set[str]:
    """Return the places of the weights that the outer ones do not replace altogether."""
    report = plan_pretrained(module, spec, where=where)
    own = state_of(module)
    left = {name: tuple(own[name].shape) for name in own.keys() - {*report.loaded, *report.computed}}
    names = {id(part): name for name, part in module.named_modules(remove_duplicate=False)}
    return {
        place for place, part in parts if id(part) not in names or _is_needed(part, names[id(part)], left)
    }


def _is_needed(part: nn.Module, name: str, left: Mapping[str, tuple[int, ...]]) -> bool:
    """Tell whether a tensor of a part, or what looks like a copy of one elsewhere, is left without values."""
    prefix = f"{name}." if name else ""
    for local, tensor in state_of(part).items():
        copies = (key for key in left if key == prefix + local or key.endswith(f".{local}"))
        if any(left[key] == tuple(tensor.shape) for key in copies):
            return True
    return False


def _random_state() -> tuple[Any, Any, Any]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _restore_random_state(state: tuple[Any, Any, Any]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])
