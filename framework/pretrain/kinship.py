"""Whether the network of a file is the module's: as deep, as wide, and of the same parts in its layers.

A file of another size of the same family shares most names, and many shapes. What would be loaded of it is no
network at all, so a plan that looks like this is refused. What is new in the module, a head or an added part,
is not told apart here: nothing in the file goes with it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from framework.pretrain.dialect import OURS
from framework.pretrain.dialects import TABLES
from framework.pretrain.dialects.common import BOOKKEEPING, COMPUTED
from framework.pretrain.fold import fold
from framework.pretrain.inventory import Inventory, last_of
from framework.pretrain.operation import Shape, names_of

if TYPE_CHECKING:
    from framework.pretrain.plan import Plan

#: Layers that one side has more of are another depth from this share of what was loaded on.
DEEPER = 0.01

#: Layers in other shapes are another width from this share of the module on.
WIDER = 0.1

#: What a transformer does to its tokens before its layers, by our names. Class tokens may be left out.
STEM = frozenset(
    {"pos_embed", "absolute_pos_embed", "reg_token", "norm_pre.weight", "patch_embed.norm.weight"}
    | {"rel_pos_bias.relative_position_bias_table"}
)

_NAMES_OF_PATCHES = re.compile(r"patch_embed|conv_proj|conv1")
_NO_WEIGHTS = BOOKKEEPING | COMPUTED
_NUMBERED = re.compile(r"(.*?)\d+")


def differences(plan: Plan, file: Inventory) -> list[str]:
    """Say in what the file's network is another one than the module's; nothing where it is the same.

    Args:
        plan: What would be loaded.
        file: What the file holds.
    """
    if not plan.assignments or not (plan.fresh or plan.mismatched or plan.unexpected):
        return []
    left = set(plan.unexpected)
    unused = ((name, one.tensor) for name, one in file.tensors.items() if one.key in left)
    rest = {name: tensor.shape for name, tensor in unused if tensor.numel}  # no registers are no part
    more = _more_of_file(plan, file, rest)
    found = (
        _deeper_module(plan),
        _deeper_file(plan, more),
        _other_shapes(plan),
        _other_numbers(plan),
        _other_stem(plan, rest),
        _other_parts(plan, {name: shape for name, shape in rest.items() if name not in more}),
    )
    return [words for words in found if words]


def _deeper_module(plan: Plan) -> str:
    """Tell of layers of the module like others that were loaded, if something behind them was loaded, too.

    If nothing was, they may be a second network beside the one that the file has.
    """
    loaded = {one.name: plan.shapes[one.name] for one in plan.assignments}
    fresh = {name: plan.shapes[name] for name in plan.fresh}
    more = _more_layers(fresh, loaded, {miss.name for miss in plan.mismatched})
    if _size(more, fresh) < DEEPER * plan.loaded_size:
        return ""
    place = {name: number for number, name in enumerate(plan.shapes)}
    for stack in _stacks(more):
        last = max((place[name] for name in more if _is_in(name, stack)), default=0)
        if any(place[name] > last and not _is_in(name, stack) for name in loaded):
            return f"the module is deeper than the file, which has no {_listed(more, loaded)}"
    return ""


def _more_of_file(plan: Plan, file: Inventory, rest: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return layers of the file like others that were loaded."""
    loaded = {n: file.tensors[n].tensor.shape for one in plan.assignments for n in names_of(one.entry)}
    met = {name for miss in plan.mismatched for name in names_of(miss.source)}
    return {name: rest[name] for name in _more_layers(rest, loaded, met)}


def _deeper_file(plan: Plan, more: Mapping[str, Shape]) -> str:
    """Tell of layers of the file like others that were loaded, if something behind them was loaded.

    If nothing was, the module is the first part of the network, and computes what that computes.
    """
    if _size(more, more) < DEEPER * plan.loaded_size:
        return ""
    sources = {name: one.name for one in plan.assignments for name in names_of(one.entry)}
    place = {name: number for number, name in enumerate(plan.shapes)}
    for stack in _stacks(more):
        inside = [place[ours] for name, ours in sources.items() if _is_in(name, stack)]
        behind = [place[ours] for name, ours in sources.items() if not _is_in(name, stack)]
        if inside and max(behind, default=-1) > max(inside):
            return f"the file is deeper than the module, which has no {_listed(more, sources)}"
    return ""


def _other_shapes(plan: Plan) -> str:
    """Tell of layers that the file has in other shapes."""
    layers = _by_block(plan.shapes)
    names = [miss.name for miss in plan.mismatched if _layer(miss.name, layers)]
    share = _size(names, plan.shapes) / plan.total_size
    if share < WIDER:
        return ""
    return f"{share:.0%} of the module are in layers that have other shapes in the file"


def _other_numbers(plan: Plan) -> str:
    """Tell of weights whose numbers mean nothing by themselves: quantised ones."""
    names = [miss.name for miss in plan.mismatched if miss.reason]
    if not names:
        return ""
    return f"the file has no plain numbers, but perhaps quantised ones, for {_listed(names, ())}"


def _other_stem(plan: Plan, rest: Mapping[str, Shape]) -> str:
    """Tell of what a transformer of the file has before its layers, and the module lacks."""
    if plan.alignment is None or not any(_NAMES_OF_PATCHES.search(one.name) for one in plan.assignments):
        return ""
    prefix, dialect = plan.alignment.file_prefix, plan.alignment.dialect
    left = [
        n for n in rest if (own := _own_name(n, dialect)).startswith(prefix) and own[len(prefix) :] in STEM
    ]
    return f"the file has, before its layers, {_listed(left, ())}, and the module has not" if left else ""


def _other_parts(plan: Plan, rest: Mapping[str, Shape]) -> str:
    """Tell of layers that were loaded without parts that the file has: they compute something else then.

    A part that the module has more is one that was added to it. And a module may end within a layer.
    """
    dialect = plan.alignment.dialect if plan.alignment else None
    left = {name: _own_name(name, dialect) for name in rest if _is_part(name)}
    if not left:
        return ""
    sources = {names_of(one.entry)[0]: one.name for one in plan.assignments}
    own = {name: _own_name(name, dialect) for name in sources}
    here, there = _by_block(dict.fromkeys(sources.values(), ())), _by_block(dict.fromkeys(own.values(), ()))
    left = {name: layer for name, own_name in left.items() if (layer := _layer(own_name, there))}
    met = {_layer(ours, here) for name, ours in sources.items() if _layer(own[name], there) in left.values()}
    if not left or _is_last(met, plan):
        return ""
    fresh = [name for name in plan.fresh if _layer(name, here) in met - {""}]
    instead = f"; the module has {_listed(fresh, sources.values())} instead" if fresh else ""
    return f"layers of the file have parts that the module's lack: {_listed(left, sources)}{instead}"


def _is_part(name: str) -> bool:
    """Tell whether a tensor of a file is a part of a network, and no buffer that may be computed."""
    return last_of(name) == "weight" or "lora_" in name or any(table.locate_all(name) for table in TABLES)


def _is_last(layers: Collection[str], plan: Plan) -> bool:
    """Tell whether these are one layer of a module, behind which nothing was loaded."""
    places = {one.name for one in plan.assignments}
    last = [name for name in plan.shapes if name in places and last_of(name) not in _NO_WEIGHTS][-1]
    return len(layers) == 1 and all(last.startswith(f"{layer}.") for layer in layers)


def _more_layers(extra: Mapping[str, Shape], loaded: Mapping[str, Shape], met: Collection[str]) -> list[str]:
    """Return those names that make up whole layers with the names and shapes of a loaded one beside them."""
    if not extra:
        return []
    new, known = _by_block(extra), _by_block(loaded)
    taken = {block for name in (*loaded, *met) for block in _blocks(name)}
    models: dict[str, set[frozenset[tuple[str, Shape]]]] = {}
    for block, parts in known.items():
        models.setdefault(_stem(block), set()).add(frozenset(parts.items()))
    more = {
        block
        for block, parts in new.items()
        if block not in taken and frozenset(parts.items()) in models.get(_stem(block), ())
    }
    return [name for name in extra if any(block in more for block in _blocks(name))]


def _by_block(shapes: Mapping[str, Shape]) -> dict[str, dict[str, Shape]]:
    """Return numbered part -> names behind it -> shapes, without plain layers, and names like `dinov2`."""
    found: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        for block in _blocks(name) if last_of(name) not in _NO_WEIGHTS else ():
            found.setdefault(block, {})[name[len(block) + 1 :]] = shape
    stacks = Counter(map(_stem, found))
    return {
        block: parts
        for block, parts in found.items()
        if any("." in part for part in parts) and (last_of(block).isdigit() or stacks[_stem(block)] > 1)
    }


def _blocks(name: str) -> Iterator[str]:
    """Yield the prefixes of a name that end in a number."""
    for at, character in enumerate(name):
        if character == "." and name[at - 1].isdigit():
            yield name[:at]


def _stacks(names: Collection[str]) -> list[str]:
    return list(dict.fromkeys(_stem(block) for name in names for block in _blocks(name)))


def _stem(block: str) -> str:
    """Return what blocks of one stack share: the name without the number at its end."""
    match = _NUMBERED.fullmatch(block)
    return match.group(1) if match else block


def _is_in(name: str, stack: str) -> bool:
    return any(_stem(block) == stack for block in _blocks(name))


def _layer(name: str, layers: Collection[str]) -> str:
    """Return the innermost of these layers that a name is in, '' where it is in none."""
    return next((block for block in reversed([*_blocks(name)]) if block in layers), "")


def _own_name(name: str, dialect: str | None) -> str:
    """Return our name of a file's tensor: a scheme may keep a part in another layer than we do."""
    if dialect is None:
        return name
    found = [(table, table.locate(name, dialect)) for table in TABLES if dialect in table.columns]
    places = [(table, place) for table, place in found if place is not None]
    if not places:
        return name
    table, place = min(places, key=lambda one: len(one[1].prefix))
    ours = table.render(place, OURS)
    return name if ours is None else place.prefix + names_of(ours)[0]


def _size(names: Collection[str], shapes: Mapping[str, Shape]) -> int:
    return sum(math.prod(shapes[name]) for name in names)


def _listed(names: Collection[str], others: Iterable[str]) -> str:
    return ", ".join(fold(names, others)[:6])
