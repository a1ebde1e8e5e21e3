"""Operations, patterns, and every table against names and shapes of real models, without the libraries."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from framework import BACKBONES
from framework.pretrain import export
from framework.pretrain.adapt import IDENTITY
from framework.pretrain.checkpoint import open_checkpoint
from framework.pretrain.dialect import Column, Table, merge, query_value, row, view
from framework.pretrain.dialects import TABLES
from framework.pretrain.errors import MismatchError, SpecError
from framework.pretrain.inventory import Inventory, take_inventory
from framework.pretrain.operation import Operation, Part, View, names_of
from framework.pretrain.plan import Plan, make_plan
from framework.pretrain.spec import parse_spec
from framework.pretrain.target import Wanted
from framework.pretrain.translate import read_weights, rename

KEYS = Path(__file__).parent / "keys"
COLUMNS = [(table, column) for table in TABLES for column in table.columns]
IDS = [f"{table.name}-{column}" for table, column in COLUMNS]

#: What real models have besides the tensors of a table: index buffers, pretext heads, poolers.
BESIDE = re.compile(r"relative_position_index|relative_coords_table|mask_token|lm_head|pooler\.dense")


def keys(table: Table, column: str) -> dict[str, tuple[int, ...]]:
    lines = (KEYS / f"{table.name}.{column}.txt").read_text().splitlines()[1:]
    return {name: tuple(map(int, shape)) for name, *shape in (line.split() for line in lines)}


def weights(table: Table, column: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.rand(shape, generator=generator) for name, shape in keys(table, column).items()}
    if table.name == "swin_transformer_v2" and column == "torchvision":  # its forward does not use these
        for name, tensor in state.items():
            if name.endswith("qkv.bias"):
                tensor.view(3, -1)[1] = 0
    return {name: tensor for name, tensor in state.items() if not BESIDE.search(name)}


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=IDS)
def test_every_table_goes_there_and_back(table, column, tmp_path) -> None:
    state = weights(table, column)
    torch.save({name.replace("/", "."): tensor for name, tensor in state.items()}, tmp_path / "file.pth")
    spec = parse_spec(tmp_path / "file.pth", "pretrain")
    file = take_inventory(open_checkpoint(tmp_path / "file.pth"), spec)
    ours, left = read_weights(file)
    assert not left
    back = rename(ours, column, heads=lambda name: 2)
    prefix = table.columns[column].prefix  # which a backbone alone does not have
    bare = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    assert {name.removeprefix(prefix) for name in back} == set(bare)
    for name, tensor in back.items():
        assert torch.equal(tensor, bare[name.removeprefix(prefix)]), name


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=IDS)
def test_every_name_of_a_table_is_read_back(table, column) -> None:
    seen: dict[str, object] = {}
    for one in table._expanded:
        entry = one.names.get(column)
        names = () if entry is None else (entry,) if isinstance(entry, str) else entry.names
        for part, pattern in enumerate(names):
            name = re.sub(r"\{(\d)n\+?(\d?)\}", lambda m: str(6 * int(m[1]) + int(m[2] or 0)), pattern)
            name = re.sub(
                r"\{([+-]\d|\*|)\}", lambda m: str(6 + int(m[1] or 0)) if m[1] != "*" else "3", name
            )
            place = table.locate(f"a.b.{name}", column)
            assert place is not None and place.prefix == "a.b.", name
            if column.endswith("shared") and "relative_position_bias" in name:
                continue  # one table stands for that of every layer
            assert place.row is one and place.part == part and set(place.indices) <= {"6"}
            assert seen.setdefault(name, one) is one, f"{column}: two rows are called {name}"
            assert table.render(place, column) is not None


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=IDS)
def test_every_column_says_who_writes_it_and_where_it_was_read(table, column) -> None:
    described = table.columns[column]
    assert described.producers and described.source and described.tested


def test_no_file_of_keys_is_left_over() -> None:
    assert {path.name for path in KEYS.iterdir()} == {f"{t.name}.{c}.txt" for t, c in COLUMNS}


@pytest.mark.parametrize(
    ("pattern", "before", "after", "heads"),
    [
        ("y x i o -> o i y x", (3, 5, 2, 7), (7, 2, 3, 5), None),
        ("i h d -> (h d) i", (8, 2, 4), (8, 8), 2),
        ("h d -> (h d)", (2, 4), (8,), 2),
        ("h d o -> o (h d)", (2, 4, 6), (6, 8), 2),
        ("d -> 1 1 d", (4,), (1, 1, 4), None),
        ("1 1 1 d -> d", (1, 1, 1, 4), (4,), None),
        ("(s t) i o -> o i t s", (9, 2, 5), (5, 2, 3, 3), None),
        ("o (c y=2 x=2) -> o (x y c)", (3, 20), (3, 20), None),
    ],
)
def test_a_view_has_an_inverse(pattern, before, after, heads) -> None:
    there = View(pattern)
    tensor = torch.arange(float(math.prod(before))).reshape(before)
    assert there.shape(before) == after
    changed = there.apply(tensor)
    assert there.inverse.shape(after, heads) == before
    assert torch.equal(there.inverse.apply(changed, heads), tensor)


def test_views_do_what_they_say() -> None:
    kernel = torch.arange(24.0).reshape(2, 3, 4)
    assert torch.equal(View("i h d -> (h d) i").apply(kernel), kernel.reshape(2, 12).T)
    square = torch.arange(9.0).reshape(9, 1, 1)
    assert torch.equal(View("(s t) i o -> o i t s").apply(square)[0, 0], torch.arange(9.0).reshape(3, 3).T)
    merged = torch.arange(8.0)[None]
    want = merged.reshape(1, 2, 2, 2).permute(0, 3, 2, 1).reshape(1, 8)
    assert torch.equal(View("o (c y=2 x=2) -> o (x y c)").apply(merged), want)


@pytest.mark.parametrize(
    ("pattern", "shape"),
    [
        ("i o -> o i", (3,)),
        ("d -> 1 1 d", (3, 3)),
        ("1 1 1 d -> d", (1, 1, 2, 4)),
        ("(s t) d -> d 1 t s", (8, 4)),
        ("o (c y=2 x=2) -> o (x y c)", (3, 6)),
        ("(h d) -> h d", (8,)),
    ],
)
def test_a_view_refuses_other_shapes(pattern, shape) -> None:
    assert View(pattern).shape(shape) is None


def test_a_key_without_bias() -> None:
    entry = query_value("q", "v")
    assert entry.shape([(2,), (2,)]) == (6,) and entry.part_shape((6,)) == (2,)
    whole = entry.forward([torch.ones(2), torch.full((2,), 2.0)])
    assert whole.tolist() == [1, 1, 0, 0, 2, 2]
    assert [part.tolist() for part in entry.inverse(whole)] == [[1, 1], [2, 2]]
    assert entry.shape([(2,), (3, 2)]) is None and entry.part_shape((5,)) is None


def test_a_part_of_what_a_file_stores_whole() -> None:
    part = Part("qkv", Operation(("q", "k", "v")), 1)
    assert part.shape([(6, 4)]) == (2, 4) and part.shape([(7, 4)]) is None
    assert torch.equal(part.forward([torch.arange(6.0)]), torch.tensor([2.0, 3.0]))


def table_of(*rows, **columns: Column) -> Table:
    return Table("t", "T", {"timm": Column("a", "b"), **columns}, rows)


@pytest.mark.parametrize(
    ("pattern", "name", "indices"),
    [
        ("a{}.b", "a3.b", ("3",)),
        ("a{+1}.b", "a3.b", ("2",)),
        ("a{-1}.b", "a3.b", ("4",)),
        ("a{2n}.b", "a6.b", ("3",)),
        ("a{2n+1}.b", "a7.b", ("3",)),
        ("a.{*}.{}.b", "a.0.5.b", ("5",)),
        ("a{+1}.b", "a0.b", None),
        ("a{2n}.b", "a5.b", None),
        ("a2.{}.b", "a3.1.b", None),
    ],
)
def test_indices(pattern, name, indices) -> None:
    table = table_of(row("x.{}", other=pattern), other=Column("a", "b"))
    place = table.locate(name, "other")
    assert (place and place.indices) == indices
    if place is not None:
        assert table.render(place, "timm") == f"x.{indices[0]}"
        assert table.render(place, "other") == (name if "*" not in pattern else "a.*.5.b")


def test_an_index_may_have_no_place_in_a_scheme() -> None:
    table = table_of(row("x{}", other="y{-1}"), other=Column("a", "b"))
    place = table.locate("x0", "timm")
    assert place is not None and table.render(place, "other") is None


def test_a_column_takes_the_names_of_its_base() -> None:
    table = table_of(
        row("a.{}.*"),
        row("b", second="c"),
        row(merge("d.q", "d.k"), second=view("d", "i o -> o i")),
        row("e", second=None),
        second=Column("x", "y", base="timm", changes=(("a.{}", "z.{+1}"),)),
        third=Column("x", "y", base="second", changes=(("z", "w"),)),
    )
    for key, names in {"a.1.bias": ("z.2.bias", "w.2.bias"), "b": ("c", "c"), "e": (None, None)}.items():
        place = table.locate(key, "timm")
        assert place is not None
        assert (table.render(place, "second"), table.render(place, "third")) == names
    place = table.locate("d.k", "timm")
    assert place is not None and place.part == 1


def test_what_a_scheme_cannot_hold_is_said() -> None:
    vit = next(table for table in TABLES if table.name == "vision_transformer")
    state = weights(vit, "timm")
    with pytest.raises(SpecError, match=r"has no dialect 'torchvison'.*torchvision"):
        rename(state, "torchvison")
    with pytest.raises(MismatchError, match=r"'torchvision' has no place for .*reg_token"):
        rename(state, "torchvision")
    plain = weights(vit, "torchvision")
    with pytest.raises(MismatchError, match=r"a config tells it"):
        rename(plain, "jax")
    with pytest.raises(MismatchError, match=r"the bias of its key is not zero"):
        rename({n: t for n, t in plain.items() if not n.startswith("heads")}, "huggingface_dinov3")
    beit = next(table for table in TABLES if table.name == "beit")
    with pytest.raises(MismatchError, match=r"their values differ"):
        rename({n: t for n, t in weights(beit, "timm").items() if "head" not in n}, "shared")
    with pytest.raises(MismatchError, match=r"of no family that has a table"):
        rename({"a": torch.ones(2)}, "timm")


#: What a backbone of ours may be called behind, and where a classifier of ours has its last layer.
HEADS = ("head.weight", "head.bias")
WRAPPERS = ("", "module.", "backbone.", "model.encoder.")

#: Modules are never called so: these are names of arrays.
ARRAYS = ("jax", "big_vision", "caffe2")

#: (scheme of the module, scheme of the file) -> what the report then lists as fresh.
LEFT = {
    ("clip", "timm"): ("visual.proj",),  # a projection, no classifier
    ("clip", "ibot"): ("visual.proj",),
    ("clip", "mmpretrain"): ("visual.proj",),
    ("clip", "mmpretrain_swiglu"): ("visual.proj",),
    ("clip", "huggingface_clip"): ("visual.proj",),
    ("huggingface_shared", "huggingface"): ("layernorm.weight", "layernorm.bias"),  # beside the network
    ("huggingface_shared", "huggingface_shared"): ("layernorm.weight", "layernorm.bias"),
    ("timm", "timm_norm_first"): ("head.norm.weight", "head.norm.bias"),  # the classifier decides
    ("timm_norm_first", "timm"): ("norm_pre.weight", "norm_pre.bias"),
}

#: In the scheme, but not in every model that has it: counters, and what is computed.
COMPUTED = ("num_batches_tracked", "periods")


def inventory(state: Mapping[str, Tensor], path: Path) -> Inventory:
    torch.save({name.replace("/", "."): tensor for name, tensor in state.items()}, path)
    return take_inventory(open_checkpoint(path), parse_spec(path, "pretrain"))


def own_names(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Our names of what a file holds."""
    ours, left = read_weights(inventory(state, path))
    assert not left
    return {name: tensor.clone() for name, tensor in ours.items()}  # the file may be written over


def planned(module: Mapping[str, Tensor], file: Inventory) -> Plan:
    shapes = {name: tuple(tensor.shape) for name, tensor in module.items()}
    dtypes = {name: tensor.dtype for name, tensor in module.items()}
    wanted = Wanted(dict(module), shapes, dtypes, frozenset(), {})
    return make_plan(wanted, file, parse_spec("file.pth", "pretrain"))


def wrong(plan: Plan, module: Mapping[str, Tensor], file: Inventory) -> list[str]:
    """Names of the module that a load would leave without their values."""
    lost = [name for name in plan.fresh if not name.endswith(COMPUTED)]
    lost += [one.name for one in plan.mismatched]
    for one in plan.assignments:
        parts = [file.tensors[name].tensor.map() for name in names_of(one.entry)]
        values = parts[0] if isinstance(one.entry, str) else one.entry.forward(parts)
        if one.adaptation is not IDENTITY or not torch.equal(values, module[one.name]):
            lost.append(one.name)
    return lost


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=IDS)
def test_a_file_fills_our_backbones_and_classifiers(table, column, tmp_path: Path) -> None:
    state = weights(table, column)
    ours = own_names(state, tmp_path / "file.pth")
    body = {name: tensor for name, tensor in ours.items() if name not in HEADS and "head_dist" not in name}
    heads = {name: tensor for name, tensor in ours.items() if name in HEADS}
    wrapped = {f"backbone.{name}": tensor for name, tensor in body.items()}
    classifier = {**wrapped, **{name.replace("head.", "head.fc."): tensor for name, tensor in heads.items()}}
    for wrapper in WRAPPERS if not any("/" in name for name in state) else ("",):
        file = inventory({wrapper + name: t for name, t in state.items()}, tmp_path / "file.pth")
        for module in (body, wrapped, classifier):
            assert wrong(planned(module, file), module, file) == [], wrapper


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=IDS)
def test_every_scheme_fills_modules_in_every_other(table, column, tmp_path: Path) -> None:
    """But for classifiers, which not every module has in its own place."""
    if column in ARRAYS:
        pytest.skip("no module is called like arrays are")
    model = {name.replace("/", "."): tensor for name, tensor in weights(table, column).items()}
    ours = own_names(model, tmp_path / "file.pth")
    for other in (name for name in table.columns if name != "big_vision"):  # it has no position for the class
        try:
            state = rename(ours, other, heads=lambda name: 2)
        except MismatchError:
            continue  # it has no place for something
        file = inventory(state, tmp_path / "file.pth")
        lost = wrong(planned(model, file), model, file)
        assert [name for name in lost if not name.endswith(LEFT.get((column, other), ()))] == [], other


def test_a_deep_stem_is_not_written_to_names_that_no_model_has() -> None:
    model = BACKBONES.build(dict(type="ResNetV1c", depth=18, stem_channels=8, base_channels=8))
    with pytest.raises(MismatchError, match=r"no place for conv1\.\*.*mmpretrain_deep"):
        export(model, "mmpretrain")
    written = export(model, "mmpretrain_deep")
    assert {name.split(".")[1] for name in written if name.startswith("stem.")} == {
        "0",
        "1",
        "3",
        "4",
        "6",
        "7",
    }
    assert not any(name.startswith(("bn1.", "conv1.")) for name in written)
