"""DeiT with its two heads: in the names of timm (the official ones), transformers and mmpretrain."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch import nn

from framework import MODELS
from framework.pretrain import export

SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)


def ours(eps: float, **more: object) -> nn.Module:
    backbone = dict(
        type="DistilledVisionTransformer",
        arch=dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64),
        img_size=32,
        patch_size=8,
        norm_cfg=dict(type="LN", eps=eps),
    )
    head = dict(type="DeiTClsHead", in_channels=32, num_classes=7)
    return MODELS.build(dict(type="ImageClassifier", backbone=backbone, head=head, **more)).eval()


def official() -> nn.Module:
    deit = pytest.importorskip("timm").models.deit
    sizes = dict(embed_dim=32, depth=2, num_heads=4, mlp_ratio=2, num_classes=7)
    return deit.VisionTransformerDistilled(img_size=32, patch_size=8, **sizes)


def huggingface() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.DeiTConfig(**SIZES, image_size=32, patch_size=8, num_labels=7)
    return transformers.DeiTForImageClassificationWithTeacher(config)


@torch.no_grad()
def logits(model: nn.Module) -> torch.Tensor:
    out = model(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2)))
    return out if isinstance(out, torch.Tensor) else out.logits


@pytest.mark.parametrize(("make", "eps"), [(official, 1e-6), (huggingface, 1e-12)])
def test_both_heads_go_across(make, eps, tmp_path, filled, assert_close) -> None:
    theirs = filled(make())
    if make is huggingface:
        theirs.save_pretrained(tmp_path)
        path = str(tmp_path)
    else:
        path = str(tmp_path / "file.pth")
        torch.save(dict(model=theirs.state_dict()), path)
    model = ours(eps, pretrain=path)
    assert_close(logits(model), logits(theirs))
    assert model.pretrain_report.clean, str(model.pretrain_report)


def test_both_heads_are_written(tmp_path, filled, assert_close) -> None:
    model = filled(ours(1e-12))
    written = export(model, "huggingface_deit")
    safetensors.torch.save_file(written, tmp_path / "model.safetensors", metadata={"format": "pt"})
    theirs = huggingface()
    theirs.config.save_pretrained(tmp_path)
    assert_close(logits(type(theirs).from_pretrained(tmp_path).eval()), logits(model))
    again = official()
    again.load_state_dict(export(filled(ours(1e-6)), "timm"))
    assert_close(logits(again.eval()), logits(filled(ours(1e-6))))


def test_mmpretrains_names_come_back(tmp_path, filled) -> None:
    model = filled(ours(1e-6))
    written = export(model, "mmpretrain")
    assert {"head.layers.head.weight", "head.layers.head_dist.weight", "backbone.dist_token"} <= set(written)
    torch.save(dict(state_dict=written), tmp_path / "file.pth")
    again = ours(1e-6, pretrain=str(tmp_path / "file.pth"))
    assert again.pretrain_report.clean
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in again.state_dict().items())
