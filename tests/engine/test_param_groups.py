from __future__ import annotations

import pytest
import torch
from mmengine.optim import DefaultOptimWrapperConstructor as Reference
from torch import nn

from framework import MODELS
from framework.errors import ConfigError
from framework.registry import OPTIM_WRAPPER_CONSTRUCTORS

ADAMW = {"type": "AdamW", "lr": 0.1, "weight_decay": 0.05}


def build(model, paramwise=None, constructor="DefaultOptimWrapperConstructor", optimizer=ADAMW, **wrapper):
    config = {"type": constructor, "optim_wrapper_cfg": {"optimizer": optimizer, **wrapper}}
    return OPTIM_WRAPPER_CONSTRUCTORS.build({**config, "paramwise_cfg": paramwise})(model)


def settings(model, wrapper):
    """Return learning rate and weight decay by name of the parameter."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = wrapper.optimizer.param_groups
    return {names[p]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


@pytest.fixture
def vit(model):
    cfg = model()
    cfg["backbone"] |= {"out_type": "avg_featmap", "final_norm": False}
    return MODELS.build(cfg)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.bn = nn.BatchNorm2d(4)
        self.ln = nn.LayerNorm(4)
        self.gain = nn.Parameter(torch.ones(4))
        self.conv_head = nn.Linear(4, 2)


@pytest.mark.parametrize(
    "paramwise",
    [
        None,
        {"norm_decay_mult": 0.0},
        {"bias_decay_mult": 0.5, "bias_lr_mult": 2.0},
        {"dwconv_decay_mult": 0.1, "flat_decay_mult": 0.2},
        {"norm_decay_mult": 0.3, "bias_decay_mult": 0.5, "dwconv_decay_mult": 0.1, "flat_decay_mult": 0.2},
        {"custom_keys": {"conv": {"lr_mult": 0.1}, "conv_head": {"decay_mult": 0.0}}, "bias_decay_mult": 0.5},
        {"custom_keys": {"bn": {"lr_mult": 3.0}, "ln": {"decay_mult": 3.0}}, "norm_decay_mult": 0.0},
    ],
)
def test_it_agrees_with_mmengine_with_fewer_groups(paramwise):
    net = Net()
    ours = build(net, paramwise)
    theirs = Reference({"optimizer": dict(ADAMW)}, paramwise)(net)
    for name, (lr, decay) in settings(net, theirs).items():
        assert settings(net, ours)[name] == pytest.approx((lr, decay)), name
    assert len(ours.optimizer.param_groups) == len(set(settings(net, ours).values()))


def test_shared_and_frozen_parameters():
    net = Net()
    net.again = net.conv
    net.bn.requires_grad_(False)
    found = settings(net, build(net, {"norm_decay_mult": 0.0}))
    assert sorted(found) == sorted(n for n, p in net.named_parameters() if p.requires_grad)


def test_layer_decay_by_depth(vit):
    wrapper = build(vit, {"layer_decay_rate": 0.5}, "LearningRateDecayOptimWrapperConstructor")
    found = settings(vit, wrapper)
    assert len(found) == len(list(vit.parameters()))
    expected = {
        "backbone.patch_embed.proj.weight": 0.1 * 0.5**3,
        "backbone.cls_token": 0.1 * 0.5**3,
        "backbone.pos_embed": 0.1 * 0.5**3,
        "backbone.blocks.0.attn.qkv.weight": 0.1 * 0.5**2,
        "backbone.blocks.0.norm1.bias": 0.1 * 0.5**2,
        "backbone.blocks.1.mlp.fc2.weight": 0.1 * 0.5,
        "backbone.fc_norm.weight": 0.1,
        "head.fc.weight": 0.1,
    }
    assert {name: found[name][0] for name in expected} == pytest.approx(expected)
    assert {decay for _, decay in found.values()} == {0.05}
    assert wrapper.get_lr()["base_lr"] == [0.1]


def test_layer_decay_with_weight_decay_and_custom_keys(vit):
    paramwise = {
        "layer_decay_rate": 0.5,
        "flat_decay_mult": 0.0,
        "custom_keys": {".cls_token": {"decay_mult": 0.0}, "blocks.1": {"lr_mult": 10.0}},
    }
    found = settings(vit, build(vit, paramwise, "LearningRateDecayOptimWrapperConstructor"))
    assert found["backbone.cls_token"] == pytest.approx((0.1 * 0.5**3, 0.0))
    assert found["backbone.pos_embed"] == pytest.approx((0.1 * 0.5**3, 0.05))
    assert found["backbone.blocks.0.norm1.weight"] == pytest.approx((0.1 * 0.5**2, 0.0))
    assert found["backbone.blocks.1.attn.qkv.weight"] == pytest.approx((0.1 * 0.5 * 10, 0.05))
    assert found["head.fc.bias"] == pytest.approx((0.1, 0.0))


def test_layer_decay_of_a_resnet_rises_to_the_head():
    cfg = {"type": "Classifier", "backbone": {"type": "ResNet", "depth": 18, "base_channels": 8}}
    head = {"type": "LinearClsHead", "num_classes": 2, "in_channels": 64}
    net = MODELS.build({**cfg, "neck": {"type": "GlobalAveragePooling"}, "head": head})
    paramwise = {"layer_decay_rate": 0.9}
    found = settings(net, build(net, paramwise, "LearningRateDecayOptimWrapperConstructor"))
    rates = [found[f"backbone.{name}.weight"][0] for name in ("conv1", "layer1.0.conv1", "layer4.1.conv2")]
    assert rates == pytest.approx([0.1 * 0.9**9, 0.1 * 0.9**8, 0.1 * 0.9])
    assert found["head.fc.weight"][0] == 0.1


class Alien(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.backbone = nn.Linear(2, 2)
        if layers is not None:
            self.backbone.get_layer_depth = lambda name, prefix: layers


@pytest.mark.parametrize("layers", [(5, 5), (-1, 5)])
def test_a_parameter_without_a_layer_is_an_error(layers):
    with pytest.raises(ConfigError, match=r"backbone.weight has layer -?\d, which is none of 0 to 4"):
        build(Alien(layers), {"layer_decay_rate": 0.5}, "LearningRateDecayOptimWrapperConstructor")


def test_a_backbone_that_knows_no_layers_is_an_error():
    with pytest.raises(ConfigError, match="Linear has no get_layer_depth"):
        build(Alien(None), {"layer_decay_rate": 0.5}, "LearningRateDecayOptimWrapperConstructor")


def test_wrong_options():
    with pytest.raises(ConfigError, match=r"norm_decay_mul is not known: did you mean norm_decay_mult"):
        build(Net(), {"norm_decay_mul": 0.0})
    with pytest.raises(ConfigError, match=r"needs weight_decay, as paramwise_cfg has bias_decay_mult"):
        build(Net(), {"bias_decay_mult": 0.0}, optimizer={"type": "SGD", "lr": 0.1})
    with pytest.raises(ConfigError, match=r"needs lr, as paramwise_cfg has layer_decay_rate"):
        build(Net(), {"layer_decay_rate": 0.5}, "LearningRateDecayOptimWrapperConstructor", {"type": "AdamW"})
    with pytest.raises(ConfigError, match="ReLU has no parameter that learns"):
        build(nn.ReLU())


def test_a_custom_key_that_fits_nothing_is_reported(capsys):
    build(Net(), {"custom_keys": {"cls_token": {"decay_mult": 0.0}, "conv.": {"lr_mult": 2.0}}})
    assert "custom_keys that fit no parameter: cls_token" in capsys.readouterr().out
