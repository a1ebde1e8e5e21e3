"""The published recipes of self-supervised methods: what learns how fast, and what is decayed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from framework import MODELS
from framework.config import without_pretrain
from framework.engine import load_config
from framework.registry import OPTIM_WRAPPER_CONSTRUCTORS, PARAM_SCHEDULERS

CONFIGS = Path(__file__).parents[2] / "configs"
SIMMIM = CONFIGS / "simmim/simmim_vit-base-p16_8xb256-amp-coslr-800e_in1k.py"
#: What is compared of a group of parameters.
SETTINGS = ("lr", "weight_decay", "lars_exclude")


def settings_of(config: Path):
    """Return the settings of vectors, and of all other parameters."""
    cfg = load_config(config)
    with torch.device("meta"):
        model = MODELS.build(without_pretrain(cfg.model.to_dict()))
    wrapper = dict(cfg.optim_wrapper)
    build = dict(
        type=wrapper.pop("constructor", "DefaultOptimWrapperConstructor"),
        paramwise_cfg=wrapper.pop("paramwise_cfg", None),
    )
    optimizer = OPTIM_WRAPPER_CONSTRUCTORS.build({**build, "optim_wrapper_cfg": wrapper})(model).optimizer
    found: dict[bool, set[tuple]] = {True: set(), False: set()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            found[parameter.ndim == 1].add(tuple(group.get(name) for name in SETTINGS))
    return found[True], found[False]


@pytest.mark.parametrize(
    ("config", "lr", "of_vectors"),
    [
        ("simclr/simclr_resnet50_16xb256-coslr-200e_in1k.py", 4.8, 4.8),
        ("byol/byol_resnet50_16xb256-coslr-200e_in1k.py", 4.8, 4.8),
        # facebookresearch/barlowtwins, main.py: 0.2 and 0.0048 for 256 images, of which there are 2048
        ("barlowtwins/barlowtwins_resnet50_8xb256-coslr-300e_in1k.py", 1.6, 8 * 0.0048),
    ],
)
def test_lars_leaves_normalisations_and_biases_alone(config, lr, of_vectors):
    vectors, rest = settings_of(CONFIGS / config)
    assert rest == {(lr, 1e-6, False)}
    ((rate, decay, excluded),) = vectors
    assert (rate, decay, excluded) == (pytest.approx(of_vectors), 0.0, True)


@pytest.mark.parametrize(
    ("config", "setting"),
    [
        ("swav/swav_resnet50_8xb32-mcrop-coslr-200e_in1k-224px-96px.py", (0.6, 1e-6, False)),
        ("mocov3/mocov3_vit-base-p16_16xb256-amp-coslr-300e_in1k.py", (2.4e-3, 0.1, None)),
    ],
)
def test_some_recipes_treat_all_parameters_alike(config, setting):
    vectors, rest = settings_of(CONFIGS / config)
    assert vectors == rest == {setting}


def test_the_weight_decay_of_dino_grows_where_there_is_one():
    config = CONFIGS / "dino/dino_vit-base-p16_16xb64-amp-coslr-400e_in1k.py"
    assert settings_of(config) == ({(3e-3, 0.0, None)}, {(3e-3, 0.04, None)})

    weight, bias = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    groups = [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3, weight_decay=0.04)
    schedules = [
        PARAM_SCHEDULERS.build(schedule, default_args={"optimizer": optimizer, "epoch_length": 2})
        for schedule in load_config(config).param_scheduler
    ]
    seen = []
    for _ in range(2 * 400):
        seen.append([(group["lr"], group["weight_decay"]) for group in optimizer.param_groups])
        optimizer.step()
        for schedule in schedules:
            schedule.step()
    assert {decay for _, (_, decay) in seen} == {0.0}
    # facebookresearch/dino, main_dino.py: a cosine from the first iteration on, the rate's after the warm-up
    for i, ((rate, decay), _) in enumerate(seen):
        assert decay == pytest.approx(0.4 - 0.18 * (1 + math.cos(math.pi * i / 800)), abs=2e-3)
        if i >= 20:
            wanted = 2e-6 + (3e-3 - 2e-6) * (1 + math.cos(math.pi * (i - 20) / 780)) / 2
            assert rate == pytest.approx(wanted, abs=2e-5)


def test_simmim_hands_its_shared_positions_to_every_layer(tmp_path):
    """The backbone has one table for all layers, the classifier that is fine-tuned one for each."""
    cfg = load_config(SIMMIM)
    small = {"embed_dims": 16, "num_layers": 2, "num_heads": 2, "feedforward_channels": 32}
    model = cfg.model.to_dict()
    model["backbone"].update(arch=small, img_size=32)
    model["neck"].update(in_channels=16)
    model = MODELS.build(model)
    table = model.backbone.rel_pos_bias.relative_position_bias_table
    torch.nn.init.normal_(table)
    path = tmp_path / "epoch_800.pth"
    torch.save({"state_dict": model.state_dict()}, path)

    recipe = CONFIGS / "simmim/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py"
    classifier = load_config(recipe).model.to_dict()["backbone"]
    backbone = MODELS.build({**classifier, "arch": small, "img_size": 32, "pretrain": str(path)})
    for block in backbone.blocks:
        torch.testing.assert_close(block.attn.relative_position_bias_table, table)
    report = backbone.pretrain_report
    assert set(report.fresh) == {"fc_norm.weight", "fc_norm.bias"}
