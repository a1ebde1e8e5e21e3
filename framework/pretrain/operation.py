"""How a tensor is stored otherwise in a file: rearranged axes, in parts, without the bias of the key.

Frozen data, with inverses. What an operation does is decided on shapes alone, before a value is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what an operation does is decided without torch
    from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """Axes by name, before and after: `h w i o -> o i h w`.

    Names in parentheses share one axis, the first one running slowest. `c=2` gives a size, `1` is an axis of
    size one, `s` and `t` are the sides of a square, and `h` in `(h d)` is the number of attention heads,
    which a shape alone does not tell.
    """

    pattern: str

    @property
    def inverse(self) -> View:
        """The same, backwards."""
        before, after = self.pattern.split(" -> ")
        return View(f"{after} -> {before}")

    def shape(self, shape: Shape, heads: int | None = None) -> Shape | None:
        """Return the shape afterwards, or None where this is no such tensor."""
        before, after, sizes = _parse(self.pattern)
        solved = _solve(before, shape, sizes, heads)
        return None if solved is None else tuple(math.prod(solved[n] for n in group) for group in after)

    def apply(self, tensor: Tensor, heads: int | None = None) -> Tensor:
        """Rearrange a tensor for which `shape` gives a shape."""
        before, after, sizes = _parse(self.pattern)
        solved = _solve(before, tuple(tensor.shape), sizes, heads)
        assert solved is not None, (self.pattern, tensor.shape)
        names = [n for group in before for n in group]
        order = [names.index(n) for group in after for n in group]
        whole = tensor.reshape([solved[n] for n in names]).permute(order)
        return whole.reshape([math.prod(solved[n] for n in group) for group in after])


_Groups = tuple[tuple[str, ...], ...]


@cache
def _parse(pattern: str) -> tuple[_Groups, _Groups, Mapping[str, int]]:
    """Return the axes before and after, each with its names, and the sizes that are written down."""
    sizes: dict[str, int] = {}
    sides = []
    for side in pattern.split(" -> "):
        groups: list[tuple[str, ...]] = []
        shared: list[str] | None = None
        for token in side.replace("(", "( ").replace(")", " )").split():
            if token == "(":
                shared = []
            elif token == ")":
                groups.append(tuple(shared or ()))
                shared = None
            else:
                name, _, size = token.partition("=")
                if size:
                    sizes[name] = int(size)
                if shared is not None:
                    shared.append(name)
                else:
                    groups.append(() if name == "1" else (name,))
        sides.append(tuple(groups))
    return sides[0], sides[1], sizes


def _solve(
    groups: _Groups, shape: Shape, sizes: Mapping[str, int], heads: int | None
) -> Mapping[str, int] | None:
    """Find the size of every name, or None where the shape is not of this kind."""
    if len(shape) != len(groups):
        return None
    solved = dict(sizes)
    for size, group in zip(shape, groups, strict=True):
        if heads is not None and "h" in group and len(group) > 1:
            solved["h"] = heads
        unknown = [name for name in group if name not in solved]
        rest, remainder = divmod(size, math.prod(solved[name] for name in group if name in solved))
        if remainder or (len(unknown) > 1 and set(unknown) != {"s", "t"}):
            return None
        if len(unknown) == 2:
            side = math.isqrt(rest)
            if side * side != rest:
                return None
            solved.update({"s": side, "t": side})
        elif unknown:
            solved[unknown[0]] = rest
        elif rest != 1:
            return None
    return solved


@dataclass(frozen=True)
class Operation:
    """One tensor of ours, stored otherwise: in parts along the first axis, with other axes, or both.

    Attributes:
        names: The tensors of the file.
        view: How the axes of each become ours.
        zero_key: The parts are query and value; between them belongs a key of zeros, which is not stored.
    """

    names: tuple[str, ...]
    view: View | None = None
    zero_key: bool = False

    @property
    def described(self) -> str:
        """What is done, in words."""
        words = [f"axes {self.view.pattern}"] if self.view else []
        if self.zero_key:
            words.append("query and value, key zero")
        elif len(self.names) > 1:
            words.append(f"merge of {len(self.names)}")
        return ", ".join(words)

    def shape(self, shapes: Sequence[Shape]) -> Shape | None:
        """Return the shape of our tensor, or None where the file's do not go together."""
        parts = [self.view.shape(s) if self.view else s for s in shapes]
        first = parts[0]
        if first is None or len(parts) == 1:
            return first
        if not first or any(s is None or s[1:] != first[1:] or len(s) != len(first) for s in parts):
            return None
        total = sum(s[0] for s in parts if s)
        return (total + first[0] * self.zero_key, *first[1:])

    def windows(self, out: Tensor, shapes: Sequence[Shape]) -> list[Tensor] | None:
        """Return the part of `out` that each source fills as it is, or None where values are converted."""
        if self.view or self.zero_key:
            return None
        return list(out.split([s[0] for s in shapes]))

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        """Turn the file's tensors into ours."""
        import torch

        parts = [self.view.apply(t) if self.view else t for t in tensors]
        if self.zero_key:
            parts.insert(1, torch.zeros_like(parts[0]))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def part_shape(self, shape: Shape, heads: int | None = None) -> Shape | None:
        """Return the shape of each of the file's tensors for one of ours, or None where that has none."""
        count = len(self.names) + self.zero_key
        if count > 1:
            if not shape or shape[0] % count:
                return None
            shape = (shape[0] // count, *shape[1:])
        return self.view.inverse.shape(shape, heads) if self.view else shape

    def inverse(self, tensor: Tensor, heads: int | None = None) -> list[Tensor]:
        """Turn our tensor, for which there is a `part_shape`, into the file's; a key's bias is dropped."""
        count = len(self.names) + self.zero_key
        parts = list(tensor.chunk(count)) if count > 1 else [tensor]
        if self.zero_key:
            del parts[1]
        return [self.view.inverse.apply(part, heads) for part in parts] if self.view else parts


@dataclass(frozen=True)
class Part:
    """A tensor of a module whose own scheme stores ours otherwise: what the file has, then one part of it.

    Attributes:
        source: The file's entry.
        target: The module's entry.
        index: Which of the module's tensors.
    """

    source: str | Operation
    target: Operation
    index: int

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors of the file."""
        return (self.source,) if isinstance(self.source, str) else self.source.names

    @property
    def described(self) -> str:
        """What is done, in words."""
        first = "" if isinstance(self.source, str) else f"{self.source.described}, then "
        return f"{first}part {self.index + 1} of {len(self.target.names)}"

    def shape(self, shapes: Sequence[Shape]) -> Shape | None:
        """Return the shape of the module's tensor, or None where the file's do not go together."""
        whole = shapes[0] if isinstance(self.source, str) else self.source.shape(shapes)
        return None if whole is None else self.target.part_shape(whole)

    def windows(self, out: Tensor, shapes: Sequence[Shape]) -> None:
        """Return None: values are always converted."""

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        """Turn the file's tensors into the module's."""
        whole = tensors[0] if isinstance(self.source, str) else self.source.forward(tensors)
        return self.target.inverse(whole)[self.index]


Entry = str | Operation | Part


def names_of(entry: Entry) -> tuple[str, ...]:
    """Return the tensors of a file that an entry takes."""
    return (entry,) if isinstance(entry, str) else entry.names


def with_names(entry: Entry, names: Sequence[str]) -> Entry:
    """Return an entry on other tensors of a file."""
    if isinstance(entry, str):
        return names[0]
    if isinstance(entry, Operation):
        return replace(entry, names=tuple(names))
    source = with_names(entry.source, names)
    assert not isinstance(source, Part)
    return replace(entry, source=source)
