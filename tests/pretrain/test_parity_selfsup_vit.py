"""Checkpoints of MoCo v3 and DINO go on training: student, teacher, projectors, predictor and centre."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from framework import MODELS

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
IMAGE = dict(arch=ARCH, img_size=8, patch_size=4)
PROJECTOR = dict(
    type="NonLinearNeck",
    in_channels=16,
    hid_channels=24,
    out_channels=8,
    num_layers=3,
    with_last_bn_affine=False,
    norm_cfg=dict(type="BN1d"),
)
MODELS_BY_NAME = {
    "MoCoV3": dict(
        type="MoCoV3",
        backbone=dict(type="MoCoV3ViT", **IMAGE),
        neck=PROJECTOR,
        head=dict(
            type="MoCoV3Head",
            predictor=dict(PROJECTOR, in_channels=8, num_layers=2),
            loss=dict(type="CrossEntropyLoss"),
        ),
    ),
    "DINO": dict(
        type="DINO",
        backbone=dict(type="VisionTransformer", **IMAGE),
        neck=dict(
            type="DINONeck", in_channels=16, hidden_channels=24, bottleneck_channels=8, out_channels=12
        ),
        head=dict(type="DINOHead", out_channels=12, num_crops=2),
    ),
}
LAYERS = {"fc0": 0, "bn0": 1, "fc1": 3, "bn1": 4, "fc2": 6, "bn2": 7}


def official_mocov3(weights: dict[str, Tensor]) -> dict[str, object]:
    """As main_moco.py of facebookresearch/moco-v3 writes them."""
    state = {}
    for name, value in weights.items():
        name = name.replace("momentum_encoder.module.0.", "module.momentum_encoder.")
        name = name.replace("momentum_encoder.module.1.", "module.momentum_encoder.head.")
        name = re.sub(r"^neck\.", "module.base_encoder.head.", name)
        name = re.sub(r"^backbone\.", "module.base_encoder.", name)
        name = re.sub(r"^head\.predictor\.", "module.predictor.", name)
        if ".blocks." not in name:
            name = re.sub(r"\.((?:fc|bn)\d)\.", lambda m: f".{LAYERS[m[1]]}.", name)
        state[name] = value
    state = {name: value for name, value in state.items() if not name.endswith(".steps")}
    return dict(epoch=300, arch="vit_base", state_dict=state, optimizer={}, scaler={})


def official_dino(weights: dict[str, Tensor]) -> dict[str, object]:
    """As main_dino.py of facebookresearch/dino writes them."""
    teacher, student = {}, {}
    for name, value in weights.items():
        if name.startswith("teacher.module."):
            name = re.sub(r"^teacher\.module\.0\.", "backbone.", name)
            teacher[re.sub(r"^teacher\.module\.1\.", "head.", name)] = value
        elif name.startswith(("backbone.", "neck.")):
            student["module." + name.replace("neck.", "head.")] = value
    center = dict(center=weights["head.center"])
    return dict(student=student, teacher=teacher, epoch=100, dino_loss=center, optimizer={})


def mmpretrain(weights: dict[str, Tensor]) -> dict[str, object]:
    """As mmpretrain writes them: only the network's names differ."""
    state = {}
    for name, value in weights.items():
        for there, here in (
            (".blocks.", ".layers."),
            (".0.blocks.", ".0.layers."),
            (".norm1.", ".ln1."),
            (".norm2.", ".ln2."),
            (".mlp.fc1.", ".ffn.layers.0.0."),
            (".mlp.fc2.", ".ffn.layers.1."),
            (".norm.", ".ln1."),
            (".patch_embed.proj.", ".patch_embed.projection."),
        ):
            name = name.replace(there, here)
        state[name] = value
    return dict(meta={}, state_dict=state)


@pytest.mark.parametrize(
    ("model", "write", "dialect"),
    [
        ("MoCoV3", official_mocov3, "moco_v3"),
        ("MoCoV3", mmpretrain, "mmpretrain"),
        ("DINO", official_dino, "dino"),
        ("DINO", mmpretrain, "mmpretrain"),
    ],
)
def test_every_part_gets_what_it_had(model: str, write, dialect: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = MODELS.build(MODELS_BY_NAME[model])
    for value in source.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value))
    torch.save(write(source.state_dict()), tmp_path / "checkpoint.pth")
    built = MODELS.build(MODELS_BY_NAME[model] | dict(pretrain=str(tmp_path / "checkpoint.pth")))
    report = built.pretrain_report
    assert (report.dialect, report.coverage, report.fresh) == (dialect, 1, ()), str(report)
    for name, value in source.state_dict().items():
        if not name.endswith(".steps"):
            assert torch.equal(built.state_dict()[name], value), name
    teacher = "momentum_encoder" if model == "MoCoV3" else "teacher"
    built.train().update_teacher(teacher, nn.Sequential(built.backbone, built.neck))
    key = f"{teacher}.module.0.cls_token"
    assert torch.equal(built.state_dict()[key], source.state_dict()[key])  # the file's teacher, not a copy
