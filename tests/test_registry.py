"""Registries and the build function."""

from __future__ import annotations

import copy
import subprocess
import sys

import mmengine
import pytest
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from torch import nn

from framework import BACKBONES, HEADS, MODELS, NECKS
from framework.errors import ConfigError
from framework.registry import DATASETS, HOOKS, PARAM_SCHEDULERS, _copy

RESNET18 = dict(type="ResNet", depth=18)


@pytest.fixture(params=[None, "mmengine", "framework"])
def scope(request: pytest.FixtureRequest):
    if request.param is None:
        yield None
        return
    init_default_scope(request.param)
    yield request.param


def classifier(**changes) -> dict:
    head = dict(type="ClassifierHead", dim=512, num_classes=3)
    neck = dict(type="GlobalAveragePooling")
    return dict(type="Classifier", backbone=dict(RESNET18), neck=neck, head=head) | changes


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, framework; framework.MODELS; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_children_and_parents_find_each_other(scope: str | None) -> None:
    for registry in (MODELS, BACKBONES):
        assert type(registry.build(RESNET18)).__name__ == "ResNet"
    assert type(BACKBONES.build(dict(type="Identity"))).__name__ == "Identity"
    assert type(MODELS.build(classifier()).head).__name__ == "ClassifierHead"


def test_mmengine_root_knows_our_parts_and_we_know_its(scope: str | None) -> None:
    built = mmengine.registry.MODELS.build(dict(type="framework.ResNet", depth=18))
    assert type(built) is BACKBONES.get("ResNet") is MODELS.get("framework.ResNet")
    assert HOOKS.get("EMAHook") is mmengine.hooks.EMAHook
    assert MODELS.get("mmengine.BaseDataPreprocessor") is mmengine.model.BaseDataPreprocessor


@pytest.mark.parametrize("prefix", ["mmpretrain", "mmcls"])
def test_names_of_mmpretrain_with_its_scope_are_ours(prefix: str, scope: str | None) -> None:
    for registry in (MODELS, BACKBONES):
        assert type(registry.build({**RESNET18, "type": f"{prefix}.ResNet"})) is BACKBONES.get("ResNet")
    with pytest.raises(ConfigError, match=r"no backbone called 'mmdet\.ResNet'"):
        BACKBONES.build({**RESNET18, "type": "mmdet.ResNet"})


def test_a_class_stands_for_itself() -> None:
    layer = MODELS.build(dict(type=nn.Linear, in_features=2, out_features=3))
    assert layer.weight.shape == (3, 2)


def test_a_list_builds_a_sequence() -> None:
    layers = MODELS.build([dict(type=nn.Linear, in_features=2, out_features=3), dict(type=nn.ReLU)])
    assert isinstance(layers, nn.Sequential) and len(layers) == 2


def test_schedulers_go_through_their_own_build_function() -> None:
    optimizer = mmengine.registry.OPTIMIZERS.build(
        dict(type="SGD", params=[nn.Parameter(nn.Linear(1, 1).weight)], lr=0.4)
    )
    made = PARAM_SCHEDULERS.build(
        dict(type="MultiStepLR", milestones=[1], convert_to_iter_based=True, by_epoch=True),
        default_args=dict(optimizer=optimizer, epoch_length=7),
    )
    assert made.milestones == {7: 1}


@pytest.mark.parametrize("make", [dict, ConfigDict])
def test_the_config_is_not_changed(make: type, tmp_path) -> None:
    cfg = make(classifier())
    before = copy.deepcopy(cfg)
    MODELS.build(cfg)
    assert cfg == before


def test_a_copy_shares_leaves_but_not_containers() -> None:
    leaf = object()
    value = ConfigDict(a=[dict(b=leaf)])
    copied = _copy(value)
    copied["a"][0]["b"] = None
    assert value["a"][0]["b"] is leaf and isinstance(copied, ConfigDict)


@pytest.mark.parametrize(
    ("registry", "cfg", "words"),
    [
        (BACKBONES, dict(type="ResNett"), ["backbone.type", "'ResNett'", "did you mean ResNet"]),
        (MODELS, classifier(backbone=dict(type="ResNet", depht=50)), ["model.backbone.depht", "depth"]),
        (MODELS, classifier(head=dict(type="ClassifierHead", dim=512)), ["model.head", "num_classes"]),
        (MODELS, classifier(neck=[dict(type="Identity", x=1)]), ["model.neck[0].x", "accepts: nothing"]),
        (NECKS, dict(dim=2), ["neck", "no `type`"]),
        (HEADS, "ClassifierHead", ["head", "expected a dict", "str"]),
        (HEADS, dict(type=3), ["head.type", "int"]),
        (DATASETS, dict(type="Digit"), ["dataset.type", "Digits"]),
    ],
)
def test_errors_name_the_place_and_the_choices(registry, cfg, words) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.build(cfg)
    for word in words:
        assert word in str(caught.value)


def test_init_cfg_means_pretrain_and_not_both() -> None:
    init = dict(type="Pretrained", checkpoint="a.pth", prefix="backbone.")
    with pytest.raises(ConfigError, match="both `pretrain` and `init_cfg`"):
        BACKBONES.build(dict(RESNET18, init_cfg=init, pretrain="b.pth"))
