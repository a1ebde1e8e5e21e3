"""What can be listed, shown and built."""

from __future__ import annotations

import io
import json
import re

import pytest
import torch
from torch import nn

from framework.inspection.catalogue import KINDS, OTHERS, example_of, names_of_kind, show
from framework.inspection.cli import run
from framework.pretrain.dialects import TABLES
from framework.registry import MODELS

#: Backbones that other libraries make.
NEEDS = {"TIMMBackbone": "timm", "TimmBackbone": "timm", "HuggingFaceBackbone": "transformers"}

PARTS = ("backbones", "necks", "heads", "losses")
BUILDABLE = [(kind, name) for kind in PARTS for name in KINDS[kind].names()]


def call(*arguments: str, code: int = 0) -> str:
    out, err = io.StringIO(), io.StringIO()
    assert run(arguments, out, err) == code, err.getvalue()
    return out.getvalue() + err.getvalue()


@pytest.mark.parametrize(("kind", "name"), BUILDABLE, ids=[name for _, name in BUILDABLE])
def test_every_example_builds(kind: str, name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    example = example_of(name)
    if ... in example.values():
        pytest.skip("has an argument for which there is no usual value")
    with torch.device("meta") if name not in NEEDS else torch.device("cpu"):
        assert isinstance(KINDS[kind].build(example), nn.Module)


def test_nearly_every_example_is_whole() -> None:
    lacking = [name for _, name in BUILDABLE if ... in example_of(name).values()]
    assert len(lacking) <= len(BUILDABLE) / 10, lacking


@pytest.mark.parametrize("kind", KINDS)
def test_every_class_is_shown(kind: str) -> None:
    for name, summary in names_of_kind(kind):
        if KINDS[kind].get(name).__module__.startswith("framework."):
            entry = show(name)
            assert entry.summary == summary != "", name
            assert re.fullmatch(r"framework\.[\w.]+, line \d+", entry.where), name


def test_arguments_are_explained() -> None:
    entry = show("ResNet")
    told = {one.name: one for one in entry.arguments}
    assert told["depth"].default == "50" and told["depth"].text == "18, 34, 50, 101 or 152."
    assert told["out_indices"].annotation == "Sequence[int] | int"
    assert entry.where.startswith("framework.models.backbones.resnet, line ")
    assert show("ResNetV1d").arguments[0].text, "what a class inherits is explained, too"
    assert "Args:" not in entry.text and "1512.03385" in entry.text
    head = {one.name: one for one in show("LinearClsHead").arguments}
    assert head["num_classes"].default is None
    assert show("LinearClsHead").example == "dict(type='LinearClsHead', num_classes=10, in_channels=512)"
    text = call("show", "ResNet")
    assert "depth: int  = 50" in text and "dict(type='ResNet')" in text
    assert json.loads(call("show", "ResNet", "--json"))["name"] == "ResNet"


def test_lists() -> None:
    assert {"ResNet", "ResNeXt", "SEResNet"} <= {name for name, _ in names_of_kind("backbones", "resne")}
    assert [name for name, _ in names_of_kind("backbones", "swin*v2")] == ["SwinTransformerV2"]
    assert len(names_of_kind("dialects")) == sum(len(table.columns) for table in TABLES)
    assert "vision_transformer/jax" in call("list", "dialects", "jax")
    assert "called like nothing" in call("list", "backbones", "nothing", code=1)
    assert {one["name"] for one in json.loads(call("list", "necks", "--json"))} == set(KINDS["necks"].names())
    for kind in (*KINDS, *OTHERS):
        assert kind in call("list", "no such kind", code=2)


def test_models_are_listed() -> None:
    assert {name for name, _ in names_of_kind("models")} == set(MODELS.names())
