"""A file against a model, and a file against a file."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from framework.inspection.cli import run
from framework.inspection.compare import compare
from framework.inspection.dry_run import dry_run
from framework.inspection.given import is_config, model_config
from framework.pretrain import load_pretrained
from framework.pretrain.translate import rename
from framework.registry import BACKBONES, MODELS

TINY = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)
TEXT = "dict(type='ResNet', depth=18, base_channels=8, stem_channels=8)"


def call(*arguments: object, code: int = 0) -> str:
    out, err = io.StringIO(), io.StringIO()
    got = run([str(one) for one in arguments], out, err)
    assert got == code, (got, out.getvalue(), err.getvalue())
    return out.getvalue() + err.getvalue()


def resnet(**arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    return BACKBONES.build({**TINY, **arguments})


def saved(state: dict[str, Any], path: Path) -> Path:
    torch.save(state, path)
    return path


def test_a_dry_run_says_what_the_load_will_say(tmp_path: Path) -> None:
    model = dict(
        type="Classifier",
        backbone={**TINY, "se_ratio": 4, "pretrain": "/nowhere.pth"},
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type="LinearClsHead", num_classes=3, in_channels=64),
    )
    state = dict(resnet().state_dict()) | {"fc.weight": torch.ones(5, 64), "fc.bias": torch.ones(5)}
    path = saved(state, tmp_path / "a.pth")
    told = dry_run(model, path)
    model["backbone"].pop("pretrain")
    module = MODELS.build(model)
    assert told.report.to_dict() == load_pretrained(module, path).to_dict()
    (tmp_path / "config.py").write_text(f"model = {model!r}\n")
    text = call("diff", path, tmp_path / "config.py", code=1)
    assert "in the model, not in the file" in text
    assert "backbone.layer1.{0, 1}.se.fc1.{weight, bias}" in text
    assert "head.fc.weight: (3, 64) in the model, (5, 64) in the file" in text


def test_a_file_that_fits_ends_with_0(tmp_path: Path) -> None:
    path = saved(resnet().state_dict(), tmp_path / "a.pth")
    assert "nothing is missing, nothing is left over" in call("diff", path, TEXT)
    assert "nothing is missing" in call("diff", path, f"backbone={TEXT}")
    told = json.loads(call("diff", path, TEXT, "--json"))
    assert told["coverage"] == 1.0 and told["proposed_revise_keys"] == []


def test_proposed_rules_load_the_rest(tmp_path: Path) -> None:
    source = resnet()
    names = {name: f"net.{name.replace('conv', 'convolution_')}" for name in source.state_dict()}
    path = saved({names[n]: t for n, t in source.state_dict().items()}, tmp_path / "a.pth")
    told = dry_run(TINY, path)
    assert 0 < told.report.coverage < told.gain == 1.0
    target = resnet()
    nn.init.zeros_(target.get_parameter("layer4.1.conv1.weight"))
    report = load_pretrained(target, dict(path=path, revise_keys=list(told.rules)))
    assert report.coverage == 1.0
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]), name
    text = call("diff", path, TEXT, code=1)
    assert "revise_keys=[" in text and "with them 100.0% would come from the file" in text


def test_fields_of_pretrain_are_heeded(tmp_path: Path) -> None:
    path = saved({"a": resnet().state_dict(), "b": {"x": torch.ones(2)}}, tmp_path / "a.pth")
    assert "nothing is missing" in call("diff", path, TEXT, "--pretrain.key", "a")
    assert "layer4" in call("diff", path, TEXT, "--pretrain.ignore_keys", "layer4")
    call("diff", path, TEXT, "--pretrain.key=b", code=1)


def test_nothing_is_drawn_or_written(tmp_path: Path) -> None:
    path = saved(resnet().state_dict(), tmp_path / "a.pth")
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    dry_run(TINY, path)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_two_files_value_by_value(tmp_path: Path) -> None:
    one = {
        "same": torch.tensor([1.0, float("nan")]),
        "close": torch.tensor([1.0, 2.0]),
        "far": torch.tensor([1.0, 2.0]),
        "nan": torch.tensor([1.0, 2.0]),
        "half": torch.tensor([0.5, 2.0]),
        "rounded": torch.tensor([1 / 3]),
        "shape": torch.ones(2, 3),
        "only": torch.ones(1),
        "int": torch.arange(3),
    }
    two = {
        **{name: tensor.clone() for name, tensor in one.items() if name != "only"},
        "close": torch.tensor([1.0, 2.0 + 2e-6]),
        "far": torch.tensor([1.0, 2.5]),
        "nan": torch.tensor([1.0, float("nan")]),
        "half": one["half"].half(),
        "rounded": one["rounded"].half(),
        "shape": torch.ones(3, 2),
        "int": torch.tensor([0, 1, 3]),
        "new": torch.ones(1),
    }
    found = compare(saved(one, tmp_path / "a.pth"), saved(two, tmp_path / "b.pth"))
    assert {pair.key: pair.verdict for pair in found.pairs} == {
        "same": "equal",
        "close": "close",
        "far": "different",
        "nan": "different",
        "half": "other type",
        "rounded": "close",
        "shape": "other shape",
        "int": "different",
    }
    assert (found.first_only, found.second_only, found.same) == (("only",), ("new",), False)
    assert {pair.key: pair.largest for pair in found.pairs}["far"] == 0.5
    text = call("diff", tmp_path / "a.pth", tmp_path / "b.pth", code=1)
    assert "far" in text and "by up to 0.5" in text and "(2, 3) and (3, 2)" in text
    assert "same" not in text


def test_equal_files_end_with_0(tmp_path: Path) -> None:
    state = dict(resnet().state_dict())
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    path = saved({"state_dict": wrapped, "optimizer": {}}, tmp_path / "a.pth")
    safetensors.torch.save_file(state, tmp_path / "b.safetensors")
    assert "120 tensors in both: 120 equal" in call("diff", path, tmp_path / "b.safetensors")
    assert json.loads(call("diff", path, tmp_path / "b.safetensors", "--json"))["same"] is True


@pytest.mark.parametrize("dialect", ["huggingface", "torchvision", "mmpretrain"])
def test_files_in_different_names(dialect: str, tmp_path: Path) -> None:
    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    model = BACKBONES.build(dict(type="VisionTransformer", arch=arch, img_size=32))
    other = rename(model.state_dict(), dialect)
    first, second = saved(model.state_dict(), tmp_path / "a.pth"), saved(other, tmp_path / "b.pth")
    found = compare(first, second)
    assert found.same and found.dialect == dialect and len(found.pairs) == len(model.state_dict())
    name = next(name for name in other if name.endswith("weight") and other[name].dim() == 2)
    other[name][0, 0] += 1
    changed = compare(first, saved(other, tmp_path / "c.pth"))
    assert [pair.verdict for pair in changed.pairs if pair.verdict != "equal"] == ["different"]


def test_a_network_in_a_container_and_behind_a_prefix(tmp_path: Path) -> None:
    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    state = BACKBONES.build(dict(type="VisionTransformer", arch=arch, img_size=32)).state_dict()
    first = saved({"model": {f"module.encoder_q.{n}": t for n, t in state.items()}}, tmp_path / "a.pth")
    found = compare(first, saved(state, tmp_path / "b.pth"))
    assert found.same and found.dialect is None and len(found.pairs) == len(state)


def test_what_a_config_is(tmp_path: Path) -> None:
    assert is_config("a.py") and is_config("a.yaml") and is_config("dict(type='ResNet')")
    assert not is_config("model.safetensors.index.json") and not is_config("a.pth")
    text = "backbone=dict(type='ResNet', depth=34, strides=(1, 2), norm_cfg={'type': 'BN', 'eps': -1e-5}),"
    assert model_config(text) == dict(
        type="ResNet", depth=34, strides=(1, 2), norm_cfg=dict(type="BN", eps=-1e-5)
    )
