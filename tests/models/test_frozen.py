from __future__ import annotations

import copy
import io

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from framework import BACKBONES, MODELS, NECKS, get_model
from framework.errors import ConfigError
from framework.models.frozen import freeze, is_frozen
from framework.registry import OPTIM_WRAPPER_CONSTRUCTORS

BACKBONE = {"type": "ResNet", "depth": 18, "base_channels": 4}


def classifier(**backbone):
    head = {"type": "LinearClsHead", "num_classes": 3}
    neck = {"type": "GlobalAveragePooling"}
    return {"type": "Classifier", "backbone": {**BACKBONE, **backbone}, "neck": neck, "head": head}


def train_once(model):
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        {
            "type": "DefaultOptimWrapperConstructor",
            "optim_wrapper_cfg": {"optimizer": {"type": "SGD", "lr": 0.1}},
        }
    )
    wrapper: OptimWrapper = constructor(model)
    model.train()
    batch = {"inputs": torch.rand(4, 3, 32, 32), "labels": torch.arange(4) % 3}
    wrapper.update_params(model(**batch, mode="loss")["loss"])


@pytest.mark.parametrize("frozen", [True, False])
def test_only_what_is_frozen_stays_as_it_was(frozen):
    cfg = classifier(frozen=frozen)
    before = copy.deepcopy(cfg)
    model = MODELS.build(cfg)
    assert cfg == before
    old = copy.deepcopy(model.state_dict())
    train_once(model)
    new = model.state_dict()
    changed = {name for name, value in old.items() if not torch.equal(value, new[name])}
    assert {"head.fc.weight", "head.fc.bias"} <= changed
    learnt = {"backbone.layer1.0.bn2.weight", "backbone.bn1.running_mean", "backbone.bn1.num_batches_tracked"}
    assert bool(learnt & changed) is not frozen and (learnt <= changed or frozen)
    assert not frozen or not any(name.startswith("backbone.") for name in changed)
    assert [m.training for m in model.backbone.modules()] == [not frozen] * len([*model.backbone.modules()])
    assert model.training and model.head.training


def test_copies_and_pickles_are_frozen_too():
    model = MODELS.build(classifier(frozen=True))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for twin in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        twin.train()
        assert is_frozen(twin.backbone) and not any(m.training for m in twin.backbone.modules())
        assert not any(p.requires_grad for p in twin.backbone.parameters())
        twin.backbone.bn1.training = True
        twin.train()
        assert not twin.backbone.bn1.training and not model.backbone.bn1.training


def test_compiled_it_gives_the_same_and_stays_frozen():
    backbone = BACKBONES.build({**BACKBONE, "frozen": True})
    compiled = torch.compile(backbone, backend="eager")
    compiled.train()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(compiled(images)[0], backbone(images)[0])
    assert not backbone.bn1.training and backbone.bn1.num_batches_tracked == 0


def test_weights_are_loaded_before_and_from_outside(tmp_path):
    source = BACKBONES.build(BACKBONE)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    path = str(tmp_path / "weights.pth")
    inner = MODELS.build(classifier(frozen=True, pretrain=path))
    outer = MODELS.build({**classifier(frozen=True), "pretrain": path})
    for model in (inner, outer):
        model.init_weights()
        assert torch.equal(model.backbone.conv1.weight, source.conv1.weight)
        assert is_frozen(model.backbone) and not model.backbone.conv1.weight.requires_grad


def test_any_module_can_be_frozen(tmp_path):
    torch_module = MODELS.build({"type": nn.Linear, "in_features": 2, "out_features": 2, "frozen": True})
    frozen_neck = {"type": "ClsBatchNormNeck", "num_features": 2, "frozen": True}
    neck, other = NECKS.build([frozen_neck, {"type": "ClsBatchNormNeck", "num_features": 2}])
    assert is_frozen(torch_module) and is_frozen(neck) and not is_frozen(other)
    whole = get_model("configs/quickstart.py", pretrained=False, frozen=True)
    assert not any(p.requires_grad for p in whole.parameters())
    with pytest.raises(ConfigError, match="Classifier has no parameter that learns"):
        train_once(whole)


class HasItsOwn(nn.Module):
    def __init__(self, frozen: str) -> None:
        super().__init__()
        self.frozen = frozen


def test_an_argument_of_that_name_is_the_classs_own():
    assert MODELS.build({"type": HasItsOwn, "frozen": "peas"}).frozen == "peas"


def test_errors():
    with pytest.raises(ConfigError, match=r"^backbone\.frozen: expected True or False, got 'stem'"):
        BACKBONES.build({**BACKBONE, "frozen": "stem"})
    with pytest.raises(ConfigError, match=r"^model\.backbone\.frozen: expected True or False, got 1"):
        MODELS.build(classifier(frozen=1))
    with pytest.raises(ConfigError, match=r"^model\.frozen: only a torch.nn.Module can be frozen, not dict"):
        MODELS.build({"type": dict, "frozen": True})
    with pytest.raises(ConfigError, match="frozen, not list"):
        freeze([])
