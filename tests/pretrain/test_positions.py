"""Positions of class token and registers are written where a scheme has them, and features stay the same."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from framework import BACKBONES, MODELS
from framework.apis.convert import convert
from framework.pretrain import export, load_pretrained
from framework.pretrain.errors import MismatchError
from framework.pretrain.positions import placed

SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
IMAGE = dict(image_size=32, patch_size=8)
ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
VIT = dict(type="VisionTransformer", arch=ARCH, img_size=32, patch_size=8, out_type="raw")
LN12 = dict(norm_cfg=dict(type="LN", eps=1e-12))
REGISTERS = dict(VIT, num_registers=4, layer_scale_init_value=1.0)


@torch.no_grad()
def features(model: nn.Module) -> Tensor:
    out = model(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    return out[-1] if isinstance(out, tuple) else out.last_hidden_state


def test_by_hand() -> None:
    cls, registers = torch.full((1, 1, 2), 10.0), torch.full((1, 4, 2), 20.0)
    positions = torch.arange(9.0).view(1, 9, 1).expand(1, 9, 2)[:, :9]
    weights = {"cls_token": cls, "reg_token": registers, "pos_embed": positions}
    changed = placed(weights, ("cls_token",))
    assert set(changed) == {"reg_token", "pos_embed"}
    assert changed["reg_token"][0, :, 0].tolist() == [21, 22, 23, 24]
    assert changed["pos_embed"][0, :, 0].tolist() == [0, 5, 6, 7, 8]
    changed = placed(weights, ())
    assert changed["cls_token"][0, :, 0].tolist() == [10]
    assert changed["pos_embed"][0, :, 0].tolist() == [5, 6, 7, 8]
    alone = placed({"cls_token": cls, "pos_embed": positions}, ("cls_token",))
    assert alone["pos_embed"][0, :, 0].tolist() == [0, *range(9)]


@pytest.mark.parametrize("no_embed_class", [False, True])
@pytest.mark.parametrize("dialect", ["huggingface_dinov2", "dinov2"])
def test_registers_go_to_transformers(dialect, no_embed_class, tmp_path, filled, assert_close) -> None:
    transformers = pytest.importorskip("transformers")
    ours = filled(BACKBONES.build(dict(REGISTERS, no_embed_class=no_embed_class)))
    config = transformers.Dinov2WithRegistersConfig(**SIZES, **IMAGE, mlp_ratio=2)
    theirs = transformers.Dinov2WithRegistersModel(config)
    weights = {name: t.contiguous() for name, t in export(ours, dialect).items()}
    if dialect == "dinov2":
        assert weights["pos_embed"].shape == (1, 17, 32) and weights["register_tokens"].shape == (1, 4, 32)
        torch.save(weights, tmp_path / "dinov2.pth")
        load_pretrained(theirs, tmp_path / "dinov2.pth")
    else:
        safetensors.torch.save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(tmp_path)
        theirs, info = type(theirs).from_pretrained(tmp_path, output_loading_info=True)
        assert not info["unexpected_keys"] and set(info["missing_keys"]) == {"embeddings.mask_token"}
    assert_close(features(theirs.eval()), features(ours))


@pytest.mark.parametrize("dialect", ["huggingface", "torchvision", "clip", "big_vision", "timm"])
@pytest.mark.parametrize("no_embed_class", [False, True])
def test_a_class_token_without_a_position(dialect, no_embed_class, tmp_path, filled, assert_close) -> None:
    ours = filled(BACKBONES.build(dict(VIT, no_embed_class=no_embed_class)))
    weights = export(ours, dialect)
    name = next(name for name in weights if "pos" in name)
    slots = {"big_vision": 0, "timm": 1 - no_embed_class}.get(dialect, 1)
    assert weights[name].shape[-2] == 16 + slots
    torch.save({name.replace("/", "."): tensor for name, tensor in weights.items()}, tmp_path / "file.pth")
    again = BACKBONES.build(dict(VIT, pretrain=str(tmp_path / "file.pth"))).eval()
    assert_close(features(again), features(ours))


def test_a_grid_that_is_no_square_and_does_not_tell(filled) -> None:
    oblong = dict(VIT, img_size=(32, 64))
    plain = export(filled(BACKBONES.build(oblong)), "huggingface")
    assert plain["embeddings.position_embeddings"].shape == (1, 33, 32)
    model = BACKBONES.build(dict(oblong, num_registers=4))  # 37 positions, not 1 + 6 * 6
    assert export(model, "dinov2")["pos_embed"].shape == (1, 33, 32)
    weights = {"cls_token": torch.zeros(1, 1, 2), "reg_token": torch.zeros(1, 4, 2)}
    message = "46 positions, which does not tell which of cls_token, reg_token"
    with pytest.raises(MismatchError, match=message):
        placed({**weights, "pos_embed": torch.zeros(1, 46, 2)}, ("cls_token",))


def test_msn_classifiers_of_transformers_5_are_converted_whole(tmp_path, filled, assert_close) -> None:
    """Their files have the embeddings behind `vit.` and the layers behind nothing."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTMSNConfig(**SIZES, **IMAGE, num_labels=5)
    theirs = filled(transformers.ViTMSNForImageClassification(config))
    theirs.save_pretrained(tmp_path)
    said = convert(tmp_path, "timm", tmp_path / "out.pth")
    assert said.endswith("32 tensors in timm names"), said
    head = dict(type="LinearClsHead", in_channels=32, num_classes=5)
    config = dict(type="ImageClassifier", backbone=dict(VIT, out_type="cls_token"), head=head)
    ours = MODELS.build(dict(config, pretrain=str(tmp_path / "out.pth"))).eval()
    assert ours.pretrain_report.clean
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert_close(ours(images), theirs(images).logits)


def test_a_beit_without_relative_positions_is_no_vit(tmp_path, filled) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Data2VecVisionConfig(**SIZES, **IMAGE, num_labels=5)
    theirs = filled(transformers.Data2VecVisionForImageClassification(config))
    theirs.save_pretrained(tmp_path)
    convert(tmp_path, "timm", tmp_path / "out.pth")
    written = torch.load(tmp_path / "out.pth")
    saved = safetensors.torch.load_file(tmp_path / "model.safetensors")
    layer = "data2vec_vision.encoder.layer.1."
    assert torch.equal(written["blocks.1.gamma_2"], saved[f"{layer}lambda_2"])
    assert torch.equal(written["blocks.1.attn.v_bias"], saved[f"{layer}attention.attention.value.bias"])


def test_a_head_on_class_token_and_mean_is_told_by_name(tmp_path, filled) -> None:
    """DINOv2's classifiers in transformers: there is no such head here."""
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(**SIZES, **IMAGE, mlp_ratio=2, num_labels=5)
    filled(transformers.Dinov2ForImageClassification(config)).save_pretrained(tmp_path)
    head = dict(type="LinearClsHead", in_channels=32, num_classes=5)
    backbone = dict(VIT, out_type="cls_token", layer_scale_init_value=1.0)
    ours = MODELS.build(dict(type="ImageClassifier", backbone=backbone, head=head, pretrain=str(tmp_path)))
    assert ours.pretrain_report.mismatched == {"head.fc.weight": ((5, 32), (5, 64))}
    assert set(ours.pretrain_report.fresh) == set()
