"""The fine-tuning recipe of MAE: what its authors' code computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from framework import MODELS
from framework.config import without_pretrain
from framework.engine import load_config
from framework.registry import OPTIM_WRAPPER_CONSTRUCTORS

CONFIG = Path(__file__).parents[2] / "configs/mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py"


@pytest.fixture(scope="module")
def rates():
    cfg = load_config(CONFIG)
    model_cfg = without_pretrain(cfg.model.to_dict())
    del model_cfg["train_cfg"]  # torchvision's Mixup cannot be built on this device
    with torch.device("meta"):
        model = MODELS.build(model_cfg)
    wrapper = dict(cfg.optim_wrapper)
    build = dict(type=wrapper.pop("constructor"), paramwise_cfg=wrapper.pop("paramwise_cfg"))
    optimizer = OPTIM_WRAPPER_CONSTRUCTORS.build({**build, "optim_wrapper_cfg": wrapper})(model).optimizer
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}


@pytest.mark.parametrize(
    ("name", "power", "decay"),
    [
        ("backbone.cls_token", 13, 0.0),
        ("backbone.pos_embed", 13, 0.0),
        ("backbone.patch_embed.proj.weight", 13, 0.05),
        ("backbone.patch_embed.proj.bias", 13, 0.0),
        ("backbone.blocks.0.attn.qkv.weight", 12, 0.05),
        ("backbone.blocks.11.mlp.fc2.weight", 1, 0.05),
        ("backbone.blocks.11.norm1.weight", 1, 0.0),
        ("backbone.fc_norm.weight", 0, 0.0),
        ("head.fc.weight", 0, 0.05),
        ("head.fc.bias", 0, 0.0),
    ],
)
def test_rates_fall_by_layer_and_vectors_are_not_decayed(rates, name, power, decay):
    assert rates[name] == pytest.approx((2e-3 * 0.65**power, decay))


def test_the_model_is_that_of_the_authors():
    model = load_config(CONFIG).model
    assert model.backbone.pretrain == "https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth"
    assert (model.backbone.out_type, model.backbone.final_norm) == ("avg_featmap", False)
    assert (model.backbone.drop_path_rate, model.head.type) == (0.1, "LinearClsHead")
    assert [(a.type, a.alpha) for a in model.train_cfg.augments] == [("Mixup", 0.8), ("CutMix", 1.0)]
