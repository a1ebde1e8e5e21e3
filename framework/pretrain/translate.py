"""Weights in another library's names: the tables read backwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from framework.errors import did_you_mean
from framework.pretrain.dialect import OURS, WILD, Column, Place, Stored, leaves_of
from framework.pretrain.dialects import TABLES
from framework.pretrain.dialects.common import BOOKKEEPING, COMPUTED, DISTILLED_HEADS, HEADS
from framework.pretrain.errors import MismatchError, SpecError
from framework.pretrain.fold import fold
from framework.pretrain.heads import find_head, head_name
from framework.pretrain.inventory import Inventory, unwrapped
from framework.pretrain.operation import Operation, names_of
from framework.pretrain.positions import PREFIX, placed
from framework.pretrain.reading import Reading, read_names
from framework.pretrain.recognise import groups, recognise

#: What stands before the names of ours that are whole, as the tensor is not in the backbone but beside it.
BESIDE = "neck."

#: Tells the number of attention heads of the layer that a name belongs to, or None.
Heads = Callable[[str], int | None]


def export(model: nn.Module, dialect: str) -> dict[str, Tensor]:
    """Write a model's weights in another library's names and shapes.

    Args:
        model: A model or backbone of a family that has a table, in any of its naming schemes.
        dialect: The scheme to write.

    Returns:
        Name -> a copy of the tensor, contiguous, on the tensor's device. What the other library computes by
        itself (index buffers) is left out.

    Raises:
        SpecError: The family has no such scheme.
        MismatchError: The model is of no family that has a table, or has tensors with no place in the scheme.
    """
    state = {unwrapped(k): v.detach() for k, v in model.state_dict().items() if isinstance(v, Tensor)}
    counts = {unwrapped(name): getattr(part, "num_heads", None) for name, part in model.named_modules()}

    def heads(name: str) -> int | None:
        owner = name
        while owner:
            owner = owner.rpartition(".")[0]
            if isinstance(counts.get(owner), int):
                return counts[owner]
        return None

    return rename(state, dialect, heads, _patches(model))


def _patches(model: nn.Module) -> int | None:
    """Return the number of patches that the positions of a Vision Transformer are for."""
    for part in model.modules():
        grid = getattr(getattr(part, "patch_embed", None), "grid_size", None)
        if grid is not None and isinstance(getattr(part, "pos_embed", None), Tensor):
            return math.prod(grid)
    return None


def rename(
    state: Mapping[str, Tensor],
    dialect: str,
    heads: Heads = lambda name: None,
    patches: int | None = None,
) -> dict[str, Tensor]:
    """Write tensors in another scheme's names and shapes; as `export`, for tensors without a model.

    Args:
        state: The tensors of one network, by the names of any scheme.
        dialect: The scheme to write.
        heads: The number of attention heads by name, for schemes that have an axis for it.
        patches: The number of patches of a Vision Transformer, if its grid is no square.
    """
    reading = read_names({name: tensor.numel() for name, tensor in state.items()}, TABLES)
    if reading is None:
        raise _unknown("The model")
    columns = reading.table.columns
    if dialect not in columns:
        hint = did_you_mean(dialect, columns)
        raise SpecError(
            f"{reading.table.title} has no dialect '{dialect}'{hint or '.'} It has: {', '.join(columns)}"
        )
    written = _Written(columns[dialect])
    used = _write_heads(state, reading, written)
    beside = any(_ours(place).startswith(BESIDE) for place in reading.places.values())
    prefix = columns[dialect].prefix if used or beside else ""
    moved = _positions(state, reading, columns[dialect].positions, patches)
    for keys, place in groups(reading):
        entry = reading.table.render(place, dialect)
        if entry is not None:
            whole = moved.get(_ours(place), _whole(state, keys, place, reading))
            before = "" if _ours(place).startswith(BESIDE) else prefix
            written.add(entry, whole, before, keys[0], heads(keys[0]))
            used.update(keys)
    left = [n for n in state if n not in used and n.rpartition(".")[2] not in COMPUTED | BOOKKEEPING]
    if left:
        raise MismatchError(
            f"'{dialect}' has no place for {', '.join(fold(left))}. Take these parts off the model, or "
            f"choose another dialect of {reading.table.title}: {', '.join(columns)}"
        )
    return written.tensors


def read_weights(file: Inventory, dialect: str | None = None) -> tuple[dict[str, Tensor], list[str]]:
    """Read the weights of one network of a file, without a model, by our names.

    Args:
        file: What the file holds.
        dialect: Its scheme, where it is known.

    Returns:
        The tensors, and the file's keys that are none of them.

    Raises:
        MismatchError: The file is of no family that has a table.
    """
    found = recognise(file, dialect)
    if found is None:
        raise _unknown("The file")
    values = {}
    for name, entry in found.alignment.pairs.items():
        parts = [file.tensors[n].tensor.map() for n in names_of(entry)]
        values[name] = parts[0] if isinstance(entry, str) else entry.forward(parts)
    used = {name for entry in found.alignment.pairs.values() for name in names_of(entry)}
    return values, [one.key for name, one in file.tensors.items() if name not in used]


def _unknown(what: str) -> MismatchError:
    known = ", ".join(table.title for table in TABLES)
    return MismatchError(f"{what} is of no family that has a table of names. There are tables for {known}")


def _ours(place: Place) -> str:
    return str(place.row.names[OURS])


def _whole(state: Mapping[str, Tensor], keys: list[str], place: Place, reading: Reading) -> Tensor:
    """Put our tensor together from the parts in which it is stored."""
    entry = place.row.names[reading.column]
    return entry.forward([state[key] for key in keys]) if isinstance(entry, Operation) else state[keys[0]]


def _positions(
    state: Mapping[str, Tensor], reading: Reading, positioned: tuple[str, ...] | None, patches: int | None
) -> dict[str, Tensor]:
    """Return what changes where a scheme has positions for other tokens than the model."""
    if positioned is None:
        return {}
    wanted = {*PREFIX, "pos_embed"}
    found = [(keys, place) for keys, place in groups(reading) if _ours(place) in wanted]
    weights = {_ours(place): _whole(state, keys, place, reading) for keys, place in found}
    return placed(weights, positioned, patches)


def _write_heads(state: Mapping[str, Tensor], reading: Reading, written: _Written) -> set[str]:
    """Write the classifiers' last layers, and return their keys."""
    shapes = {name: tuple(t.shape) for name, t in state.items() if name not in reading.places}
    used = set()
    for given, stems in ((written.column.head, HEADS), (written.column.head_dist, DISTILLED_HEADS)):
        stem = find_head(reading.prefix, shapes, stems)
        for leaf, entry in leaves_of(given).items() if stem else ():
            key = f"{stem}.{leaf}"
            if key in state:
                written.add(entry, state[key], written.column.prefix, key, None)
                used.add(key)
    return used


class _Written:
    """The tensors of a scheme, as they are written."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.tensors: dict[str, Tensor] = {}

    def add(self, entry: Stored, whole: Tensor, prefix: str, key: str, heads: int | None) -> None:
        """Store one tensor of ours under its name or names."""
        parts = [whole] if isinstance(entry, str) else _parts(entry, whole, key, heads)
        for name, part in zip(names_of(entry), parts, strict=True):
            name = head_name(name.replace(WILD, "0"), prefix).replace(".", self.column.separator)
            other = self.tensors.setdefault(name, part.clone(memory_format=torch.contiguous_format))
            if not torch.equal(other, part):
                raise MismatchError(f"'{name}' stands for {key} and others, but their values differ")


def _parts(entry: Operation, whole: Tensor, key: str, heads: int | None) -> list[Tensor]:
    names = ", ".join(entry.names)
    described = f"{key} {tuple(whole.shape)} cannot be written as {names} ({entry.described})"
    if entry.part_shape(tuple(whole.shape), heads) is None:
        hint = "" if heads else ". If it takes the number of attention heads, a config tells it"
        raise MismatchError(described + hint)
    parts = entry.inverse(whole, heads)
    if entry.zero_key and not torch.equal(entry.forward(parts), whole):
        raise MismatchError(f"{described}: the bias of its key is not zero")
    return parts
