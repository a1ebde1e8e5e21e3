"""The `pretrain` field."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from framework.pretrain.errors import SpecError
from framework.pretrain.spec import PretrainSpec, parse_spec


def test_a_string_and_a_path_mean_the_path_alone() -> None:
    assert parse_spec("a.pth") == PretrainSpec("a.pth")
    assert parse_spec(Path("a.pth")) == PretrainSpec("a.pth")


def test_a_dict_is_frozen_and_not_changed() -> None:
    field = dict(path="a.pth", sub_level="backbone.", ignore_keys="head", revise_keys=[("^a", "b")])
    before = dict(field)
    spec = parse_spec(field)
    assert spec == PretrainSpec("a.pth", "backbone", ("head",), revise_keys=(("^a", "b"),))
    assert field == before
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.path = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (3, ["model.pretrain", "int", "3"]),
        ("", ["path"]),
        (dict(sub_level="a"), ["no `path`"]),
        (dict(path="a", sublevel="b"), ["model.pretrain.sublevel", "did you mean sub_level", "ignore_keys"]),
        (dict(path="a", sub_level=3), ["model.pretrain.sub_level", "3"]),
        (dict(path="a", ignore_keys=[1]), ["ignore_keys", "[1]"]),
        (dict(path="a", strict="yes"), ["strict", "True or False"]),
        (dict(path="a", min_coverage=50), ["min_coverage", "0 to 1"]),
        (dict(path="a", revise_keys=[("(", "")]), ["revise_keys[0]", "regular expression"]),
        (dict(path="a", sha256="xyz"), ["sha256", "hex"]),
    ],
)
def test_errors_name_the_field(field, words) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(field, "model.pretrain")
    for word in words:
        assert word in str(caught.value)
