"""torchvision's models with random weights, by the path alone: our logits are theirs, and back."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import (
    ConvNeXt,
    SwinTransformer,
    VisionTransformer,
    resnet18,
    resnet50,
    resnext50_32x4d,
)
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

from framework import BACKBONES, MODELS
from framework.pretrain import export, load_pretrained

VIT = dict(
    type="VisionTransformer",
    arch=dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64),
    img_size=32,
    patch_size=8,
)
SWIN = dict(
    arch=dict(embed_dims=8, depths=[1, 2, 1, 1], num_heads=[1, 2, 2, 4]),
    img_size=32,
    patch_size=2,
    window_size=2,
    norm_cfg=dict(type="LN", eps=1e-5),
)
V2 = dict(SWIN["arch"], extra_norm_every_n_blocks=0)
SIZES = ([2, 2], 8, [1, 2, 1, 1], [1, 2, 2, 4], [2, 2])


def vit() -> nn.Module:
    return VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=7)


def convnext() -> nn.Module:
    blocks = [CNBlockConfig(*s) for s in ((8, 16, 1), (16, 24, 2), (24, 32, 1), (32, None, 1))]
    return ConvNeXt(blocks, num_classes=7)


def swin() -> nn.Module:
    return SwinTransformer(*SIZES, num_classes=7)


def swin_v2() -> nn.Module:
    return SwinTransformer(
        *SIZES, num_classes=7, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2
    )


CASES = {
    "vit": (vit, VIT, None, 32),
    "convnext": (
        convnext,
        dict(type="ConvNeXt", arch=dict(channels=[8, 16, 24, 32], depths=[1, 2, 1, 1])),
        None,
        64,
    ),
    "swin": (swin, dict(SWIN, type="SwinTransformer"), "GlobalAveragePooling", 32),
    "swin v2": (swin_v2, dict(SWIN, type="SwinTransformerV2", arch=V2), "GlobalAveragePooling", 32),
    "resnet18": (lambda: resnet18(num_classes=7), dict(type="ResNet", depth=18), "GlobalAveragePooling", 64),
    "resnet50": (lambda: resnet50(num_classes=7), dict(type="ResNet", depth=50), "GlobalAveragePooling", 64),
    "resnext50": (
        lambda: resnext50_32x4d(num_classes=7),
        dict(type="ResNeXt", depth=50),
        "GlobalAveragePooling",
        64,
    ),
}


def classifier(case: str, **more: object) -> nn.Module:
    backbone, neck = CASES[case][1:3]
    dim = BACKBONES.build(backbone).feature_dim
    head = dict(type="ClassifierHead", dim=dim, num_classes=7)
    return MODELS.build(
        dict(type="Classifier", backbone=backbone, neck=neck and dict(type=neck), head=head, **more)
    )


@pytest.mark.parametrize("case", CASES)
def test_logits_are_the_source_models(case, tmp_path, filled, assert_close) -> None:
    theirs = filled(CASES[case][0]())
    torch.save(theirs.state_dict(), tmp_path / "file.pth")
    ours = classifier(case, pretrain=str(tmp_path / "file.pth")).eval()
    images = torch.randn(2, 3, CASES[case][3], CASES[case][3])
    with torch.no_grad():
        assert_close(ours(images), theirs(images))
    assert ours.pretrain_report.clean, str(ours.pretrain_report)


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_is_read_by_the_library(case, filled, assert_close) -> None:
    ours = filled(classifier(case))
    theirs = CASES[case][0]().eval()
    written = export(ours, "torchvision" if "res" not in case or "convnext" in case else "timm")
    info = theirs.load_state_dict(written, strict=False)
    computed = {"relative_position_index", "relative_coords_table", "num_batches_tracked"}
    assert not info.unexpected_keys and {k.split(".")[-1] for k in info.missing_keys} <= computed
    images = torch.randn(2, 3, CASES[case][3], CASES[case][3])
    with torch.no_grad():
        assert_close(theirs(images), ours(images))


@pytest.mark.parametrize("case", CASES)
def test_the_librarys_model_takes_our_file(case, tmp_path, filled, assert_close) -> None:
    ours = filled(classifier(case))
    torch.save(ours.state_dict(), tmp_path / "ours.pth")
    theirs = CASES[case][0]().eval()
    load_pretrained(theirs, tmp_path / "ours.pth")
    images = torch.randn(2, 3, CASES[case][3], CASES[case][3])
    with torch.no_grad():
        assert_close(theirs(images), ours(images))


def test_the_mlp_of_torchvision_0_12(tmp_path, filled, assert_close) -> None:
    theirs = filled(vit())
    old = {
        name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): tensor
        for name, tensor in theirs.state_dict().items()
    }
    torch.save(old, tmp_path / "file.pth")
    ours = classifier("vit", pretrain=str(tmp_path / "file.pth")).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert_close(ours(images), theirs(images))
    assert set(export(ours, "torchvision_old")) == set(old)
