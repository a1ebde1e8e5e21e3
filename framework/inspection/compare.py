"""Two files, tensor by tensor: names, shapes, types and values, one pair in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from framework.inspection.architecture import recognise
from framework.pretrain.checkpoint import open_checkpoint
from framework.pretrain.dialects import TABLES
from framework.pretrain.inventory import Inventory, take_inventory
from framework.pretrain.match import align
from framework.pretrain.operation import Entry, names_of
from framework.pretrain.source import fetch
from framework.pretrain.spec import PretrainSpec, parse_spec

if TYPE_CHECKING:
    from torch import Tensor

#: Values that differ by less than this share of the largest are close, by the coarser of the two types.
TOLERANCE = {"bfloat16": 1.6e-2, "float16": 1e-3, "float32": 1.3e-6, "float64": 1e-7}

#: Files that share this part of their names are compared name by name.
SAME_NAMES = 0.5


@dataclass(frozen=True)
class Pair:
    """A tensor of the first file, and what the second has for it.

    Attributes:
        key: In the first file.
        other: Keys in the second.
        verdict: 'equal', 'close', 'different', 'other shape' or 'other type' (equal but for the type).
        shapes: Both shapes; that of the second as the first would have it.
        dtypes: Both types.
        largest: The largest difference of two values; None where shapes differ, or torch cannot calculate
            with values of the type.
    """

    key: str
    other: tuple[str, ...]
    verdict: str
    shapes: tuple[tuple[int, ...], tuple[int, ...] | None]
    dtypes: tuple[str, str]
    largest: float | None


@dataclass(frozen=True)
class Comparison:
    """Two files.

    Attributes:
        pairs: What is in both.
        first_only: Keys that only the first has.
        second_only: Keys that only the second has.
        dialect: The second file's naming scheme, where names had to be translated.
    """

    pairs: tuple[Pair, ...]
    first_only: tuple[str, ...]
    second_only: tuple[str, ...]
    dialect: str | None

    @property
    def same(self) -> bool:
        """Whether both hold the same values under the same names."""
        return not (self.first_only or self.second_only) and all(p.verdict == "equal" for p in self.pairs)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return {**asdict(self), "same": self.same}


def compare(first: Any, second: Any) -> Comparison:
    """Compare two files.

    Files of the same names are compared name by name. Otherwise the network of the first is looked for in
    the second, as a load would: in other containers, behind other prefixes, in another library's names.

    Args:
        first: As the field `pretrain`.
        second: The same.

    Raises:
        PretrainError: A file cannot be had or read.
    """
    one, spec = _opened(first)
    two, _ = _opened(second)
    shared = one.tensors.keys() & two.tensors.keys()
    found = None
    if len(shared) < SAME_NAMES * min(len(one.tensors), len(two.tensors)):
        one = _network(one, spec)
        shapes = {name: tensor.tensor.shape for name, tensor in one.tensors.items()}
        found = align(shapes, two, TABLES)
    pairs: Mapping[str, Entry] = found.pairs if found else {n: n for n in one.tensors if n in shared}
    used = {name for entry in pairs.values() for name in names_of(entry)}
    return Comparison(
        pairs=tuple(_judged(pairs, one, two)),
        first_only=tuple(t.key for name, t in one.tensors.items() if name not in pairs),
        second_only=tuple(t.key for name, t in two.tensors.items() if name not in used),
        dialect=found.dialect if found else None,
    )


def _opened(pretrain: Any) -> tuple[Inventory, PretrainSpec]:
    spec = parse_spec(pretrain)
    path = fetch(spec.path, sha256=spec.sha256, url_mapping=spec.url_mapping)
    return take_inventory(open_checkpoint(path, trust_pickle=spec.trust_pickle), spec), spec


def _network(file: Inventory, spec: PretrainSpec) -> Inventory:
    """Return the entry of a file that holds its network, by the names that the network has by itself."""
    network = recognise(file, spec)
    entry = network.entry if network else max(file.entries, key=file.entries.__getitem__)
    prefix = network.prefix if network else ""
    tensors = {}
    for name, one in file.tensors.items():
        if one.entry == entry:
            inner = name[len(entry) + 1 :] if entry else name
            tensors[inner.removeprefix(prefix)] = one
    return Inventory(tensors, file.entries, ())


def _judged(pairs: Mapping[str, Entry], one: Inventory, two: Inventory) -> Iterator[Pair]:
    for name, entry in pairs.items():
        ours, theirs = one.tensors[name], [two.tensors[n] for n in names_of(entry)]
        shapes = [t.tensor.shape for t in theirs]
        shape = shapes[0] if isinstance(entry, str) else entry.shape(shapes)
        verdict, largest = "other shape", None
        if shape == ours.tensor.shape:
            parts = [t.tensor.read() for t in theirs]
            values = parts[0] if isinstance(entry, str) else entry.forward(parts)
            verdict, largest = _verdict(ours.tensor.read(), values)
        dtypes = (ours.tensor.kind.name, theirs[0].tensor.kind.name)
        keys = tuple(t.key for t in theirs)
        yield Pair(ours.key, keys, verdict, (ours.tensor.shape, shape), dtypes, largest)


def _verdict(one: Tensor, two: Tensor) -> tuple[str, float | None]:
    """Compare values of the same shape; two NaN in the same place are equal."""
    import torch

    from framework.inspection.histogram import has_numbers

    same_type = one.dtype == two.dtype
    if same_type and torch.equal(_bytes(one), _bytes(two)):
        return "equal", 0.0
    if not (has_numbers(one.dtype) and has_numbers(two.dtype)):
        return "different", None
    coarse = max(TOLERANCE.get(str(t.dtype).removeprefix("torch."), 0.0) for t in (one, two))
    wide = torch.complex128 if one.is_complex() or two.is_complex() else torch.float64
    first, second = one.to(wide), two.to(wide)
    both = (first.isnan() & second.isnan()) | (first == second)
    gap = torch.where(both, 0.0, (first - second).abs())
    largest = float(gap.nan_to_num(nan=float("inf"), posinf=float("inf")).max()) if gap.numel() else 0.0
    if largest == 0.0:
        return ("equal" if same_type else "other type"), 0.0
    scale = float(torch.where(both, 0.0, first.abs()).nan_to_num(posinf=0.0).max())
    return ("close" if largest <= coarse * scale else "different"), largest


def _bytes(values: Tensor) -> Tensor:
    import torch

    return values.contiguous().reshape(-1).view(torch.uint8)
