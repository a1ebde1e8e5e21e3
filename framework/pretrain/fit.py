"""How one tensor of a file fits one of a module: as it is, in another shape, or not at all."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from framework.pretrain.adapt import IDENTITY, MODES, Adaptation, TokenLayout, decide
from framework.pretrain.alignment import Alignment
from framework.pretrain.dialects.common import CLASS_TOKENS, KINDS, REGISTER_TOKENS
from framework.pretrain.inventory import Inventory, last_of, unwrapped
from framework.pretrain.match import entry_shape
from framework.pretrain.operation import Entry, Shape, names_of
from framework.pretrain.target import Wanted

#: A first convolution with more input channels than this on both sides does not take images.
MAX_IMAGE_CHANNELS = 32


@dataclass(frozen=True)
class Fitter:
    """Decides for tensors of one file and one module.

    Attributes:
        wanted: The module's side.
        file: The file's side.
        alignment: How their names go together.
        adapt: Whether shapes may be adapted, or how positions are interpolated.
    """

    wanted: Wanted
    file: Inventory
    alignment: Alignment
    adapt: bool | str

    def adaptation(self, name: str, entry: Entry) -> Adaptation | None:
        """Decide how the shape of an entry becomes the module's; None where it cannot."""
        source, target = entry_shape(entry, self.file), self.wanted.shapes[name]
        if source == target:  # the commonest file of that shape comes from the same model
            return IDENTITY
        kind = None if source is None else self._kind(name, source, target)
        if source is None or kind is None or not self.adapt:
            return None
        there = self._file_layout(kind, source)
        named = isinstance(self.adapt, str) and (self.adapt in MODES or kind == "rel_pos_bias")
        mode = str(self.adapt) if named else "bicubic"
        here = self.wanted.layouts.get(name)
        return decide(kind, source, target, source_layout=there, target_layout=here, mode=mode)

    def unlike(self, name: str, entry: Entry) -> str:
        """Say why the numbers of an entry cannot become the module's, or '' where they can."""
        target = self.wanted.dtypes[name]
        for source in (self.file.tensors[n].tensor.dtype for n in names_of(entry)):
            if source != target and (_kind_of(source) != _kind_of(target) or _kind_of(source) == "scaled"):
                return f"{source} in the file does not become {target}".replace("torch.", "")
        return ""

    def _kind(self, name: str, source: Shape, target: Shape) -> str | None:
        """Return how a parameter may be adapted: by the table, by its name, by its place in the module."""
        short = unwrapped(name)
        if short in self.alignment.kinds:
            return self.alignment.kinds[short]
        for ending, kind in KINDS.items():
            if short == ending or short.endswith(f".{ending}"):
                return kind
        if len(source) == len(target) == 4 and source[0] == target[0] and source[2:] == target[2:]:
            first = next(n for n, shape in self.wanted.shapes.items() if len(shape) == 4)
            images = min(source[1], target[1]) <= MAX_IMAGE_CHANNELS
            return "input_conv" if first == name and images else None
        if source[:1] == (1001,) and target[:1] == (1000,) and source[1:] == target[1:]:
            return "class_head"
        return None

    def _file_layout(self, kind: str, shape: Shape) -> TokenLayout | None:
        """Guess how many slots come before the grid, from the tokens that the file has and squareness."""
        if kind != "pos_embed" or len(shape) not in (2, 3):
            return None
        near = [name for name in self.file.tensors if name.startswith(self.alignment.file_prefix)]
        classes = sum(last_of(name) in CLASS_TOKENS for name in near)
        registers = [self.file.tensors[n].tensor.shape for n in near if last_of(n) in REGISTER_TOKENS]
        slots = registers[0][-2] if registers and len(registers[0]) > 1 else 0
        for count in (classes, classes + slots, 0):
            if shape[-2] >= count and math.isqrt(shape[-2] - count) ** 2 == shape[-2] - count:
                return TokenLayout(grid=None, num_prefix=count)
        return None


def _kind_of(dtype: torch.dtype) -> str:
    """Return what kind of numbers a dtype holds; floats of 8 bits mean nothing without their scales."""
    if dtype.is_complex:
        return "complex"
    if dtype.is_floating_point:
        return "scaled" if dtype.itemsize == 1 else "float"
    return "whole"
