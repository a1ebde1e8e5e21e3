"""A guess by order and shapes: shown as rules, and applied when it is asked for."""

from __future__ import annotations

import ast
import re

import pytest
import torch
from torch import nn

from framework.pretrain import load_pretrained
from framework.pretrain.errors import CoverageError, SpecError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.blocks = nn.ModuleList([self.block() for _ in range(12)])
        self.head = nn.Linear(8, 5)

    def block(self) -> nn.Module:
        return nn.ModuleDict(dict(up=nn.Linear(8, 16), down=nn.Linear(16, 8), norm=nn.LayerNorm(8)))


def foreign(weights):
    """The names of nobody's library."""
    rules = (("stem", "entry"), ("blocks", "net.trunk"), (r"\.up\.", ".expand."), (r"\.down\.", ".shrink."))
    result = {}
    for name, tensor in weights.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        result[name.replace(".norm.", ".scale.").replace("head", "out")] = tensor
    return result


@pytest.fixture(params=["", "module."])
def file(request, tmp_path, filled):
    source = filled(Net())
    weights = {request.param + name: tensor for name, tensor in foreign(source.state_dict()).items()}
    torch.save(dict(weights=weights, epoch=3), tmp_path / "file.pth")
    return tmp_path / "file.pth", source.state_dict()


def test_the_error_shows_rules_that_work(file) -> None:
    path, weights = file
    model = Net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CoverageError, match=r"would fill 100\.0% of the module") as error:
        load_pretrained(model, path)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    rules = ast.literal_eval(str(error.value).split("revise_keys=")[1].strip())
    assert len(rules) == 10, "one for the blocks of each kind"
    report = load_pretrained(model, dict(path=path, revise_keys=rules))
    assert report.clean
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in weights.items())


def test_it_is_applied_on_demand_and_said(file) -> None:
    path, weights = file
    model = Net()
    report = load_pretrained(model, dict(path=path, dialect="align"))
    assert report.dialect == "align" and "align names" in str(report)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in weights.items())


def test_other_shapes_are_no_guess(file) -> None:
    with pytest.raises(CoverageError) as error:
        load_pretrained(nn.Sequential(nn.Linear(7, 9), nn.Linear(9, 7)), file[0])
    assert "revise_keys=[" not in str(error.value)


def test_align_is_among_the_known_dialects(file) -> None:
    with pytest.raises(SpecError, match=r"Known: align, "):
        load_pretrained(Net(), dict(path=file[0], dialect="nonsense"))
