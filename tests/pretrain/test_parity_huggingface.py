"""Models of transformers with random weights, saved by themselves: our features are theirs, and back."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch import nn

from framework import BACKBONES, MODELS
from framework.pretrain import export, load_pretrained

transformers = pytest.importorskip("transformers")

SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
IMAGE = dict(image_size=32, patch_size=8)
ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
VIT = dict(type="VisionTransformer", arch=ARCH, img_size=32, patch_size=8, out_type="raw")
LN12 = dict(norm_cfg=dict(type="LN", eps=1e-12))
LAYER_SCALE = dict(layer_scale_init_value=1.0)
BEIT = dict(VIT, type="BEiTViT", final_norm=True, **LN12)
BEIT_BASE = dict(**SIZES, **IMAGE, layer_scale_init_value=0.1)
QUICK = dict(layer_cfgs=dict(act_cfg=dict(type="QuickGELU")))
SWIN = dict(image_size=32, patch_size=2, embed_dim=8, depths=[1, 2, 1, 1], num_heads=[1, 2, 2, 4])
OUR_SWIN = dict(embed_dims=8, depths=[1, 2, 1, 1], num_heads=[1, 2, 2, 4])
CONVS = dict(hidden_sizes=[8, 16, 24, 32], depths=[1, 2, 1, 1])
OUR_CONVS = dict(channels=[8, 16, 24, 32], depths=[1, 2, 1, 1])
MAPS = dict(gap_before_final_norm=False)

#: case: (class, its config, our config, the scheme to write). What the comments of the config say is what a
#: config here has to say, too: eps, activation, pre-norm.
CASES = {
    "vit": ("ViTModel", "ViTConfig", dict(**SIZES, **IMAGE), dict(VIT, **LN12), "huggingface"),
    "vit classifier": (
        "ViTForImageClassification",
        "ViTConfig",
        dict(**SIZES, **IMAGE),
        dict(VIT, **LN12),
        "huggingface",
    ),
    "vit_msn": ("ViTMSNModel", "ViTMSNConfig", dict(**SIZES, **IMAGE), dict(VIT), "huggingface"),
    "vit_mae": (
        "ViTMAEModel",
        "ViTMAEConfig",
        dict(**SIZES, **IMAGE, mask_ratio=0.0),
        dict(VIT, **LN12),
        "huggingface",
    ),
    "ijepa": (
        "IJepaModel",
        "IJepaConfig",
        dict(**SIZES, **IMAGE),
        dict(VIT, with_cls_token=False),
        "huggingface",
    ),
    "dinov2": (
        "Dinov2Model",
        "Dinov2Config",
        dict(**SIZES, **IMAGE, mlp_ratio=2),
        dict(VIT, **LAYER_SCALE),
        "huggingface_dinov2",
    ),
    "dinov2 giant": (
        "Dinov2Model",
        "Dinov2Config",
        dict(**SIZES, **IMAGE, mlp_ratio=4, use_swiglu_ffn=True),
        dict(
            VIT,
            **LAYER_SCALE,
            arch=dict(ARCH, feedforward_channels=128),
            layer_cfgs=dict(ffn_type="swiglu_fused"),
        ),
        "huggingface_dinov2_giant",
    ),
    "dinov2 registers": (
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        dict(**SIZES, **IMAGE, mlp_ratio=2),
        dict(VIT, num_registers=4, **LAYER_SCALE),
        None,  # ours may have positions for the registers
    ),
    "clip": (
        "CLIPVisionModel",
        "CLIPVisionConfig",
        dict(**SIZES, **IMAGE),
        dict(VIT, pre_norm=True, norm_cfg=dict(type="LN", eps=1e-5), final_norm=False, **QUICK),
        "huggingface_clip",
    ),
    "beit": (
        "BeitModel",
        "BeitConfig",
        dict(**BEIT_BASE, use_relative_position_bias=True, use_mean_pooling=False),
        dict(BEIT, layer_scale_init_value=0.1, use_rel_pos_bias=True),
        "huggingface",
    ),
    "beit shared": (
        "BeitModel",
        "BeitConfig",
        dict(**BEIT_BASE, use_shared_relative_position_bias=True, use_mean_pooling=False),
        dict(BEIT, layer_scale_init_value=0.1, use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
        "huggingface",
    ),
    "beit shared to each": (
        "BeitModel",
        "BeitConfig",
        dict(**BEIT_BASE, use_shared_relative_position_bias=True, use_mean_pooling=False),
        dict(BEIT, layer_scale_init_value=0.1, use_rel_pos_bias=True),
        None,  # different tables cannot become one
    ),
    "data2vec": (
        "Data2VecVisionModel",
        "Data2VecVisionConfig",
        dict(**BEIT_BASE, use_relative_position_bias=True, use_mean_pooling=False),
        dict(BEIT, layer_scale_init_value=0.1, use_rel_pos_bias=True),
        "huggingface",
    ),
    "data2vec without biases of positions": (  # its names in a model are those of iBOT's ViT, too
        "Data2VecVisionModel",
        "Data2VecVisionConfig",
        dict(**BEIT_BASE, use_relative_position_bias=False, use_mean_pooling=False),
        dict(BEIT, layer_scale_init_value=0.1, use_rel_pos_bias=False),
        None,  # `huggingface` of a Vision Transformer has no layer scale
    ),
    "swin": (
        "SwinModel",
        "SwinConfig",
        dict(**SWIN, window_size=2),
        dict(
            type="SwinTransformer",
            arch=OUR_SWIN,
            img_size=32,
            patch_size=2,
            window_size=2,
            norm_cfg=dict(type="LN", eps=1e-5),
        ),
        "huggingface",
    ),
    "swinv2": (
        "Swinv2Model",
        "Swinv2Config",
        dict(**SWIN, window_size=2),
        dict(
            type="SwinTransformerV2",
            arch=dict(OUR_SWIN, extra_norm_every_n_blocks=0),
            img_size=32,
            patch_size=2,
            window_size=2,
        ),
        "huggingface",
    ),
    "convnext": (
        "ConvNextModel",
        "ConvNextConfig",
        CONVS,
        dict(type="ConvNeXt", arch=OUR_CONVS),
        "huggingface",
    ),
    "convnextv2": (
        "ConvNextV2Model",
        "ConvNextV2Config",
        CONVS,
        dict(type="ConvNeXt", arch=OUR_CONVS, use_grn=True, layer_scale_init_value=0.0),
        "huggingface_v2",
    ),
    "convnext, pointwise convolutions": (
        "ConvNextModel",
        "ConvNextConfig",
        CONVS,
        dict(type="ConvNeXt", arch=OUR_CONVS, linear_pw_conv=False),
        None,
    ),
    "resnet": (
        "ResNetModel",
        "ResNetConfig",
        dict(embedding_size=64, hidden_sizes=[256, 512, 1024, 2048], depths=[3, 4, 6, 3]),
        dict(type="ResNet", depth=50),
        "huggingface",
    ),
}


#: Parts of the library's models that these features do not pass through.
MAY_MISS = {"pooler", "dense", "embeddings", "classifier", "post_layernorm"}


def build(case: str) -> nn.Module:
    name, config, arguments = CASES[case][:3]
    pooler = dict(add_pooling_layer=False) if name in ("BeitModel", "ViTModel") else {}
    return getattr(transformers, name)(getattr(transformers, config)(**arguments), **pooler)


def images_for(case: str) -> torch.Tensor:
    side = 64 if case.startswith(("convnext", "resnet")) else 32
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def features(model: nn.Module, case: str) -> torch.Tensor:
    images = images_for(case)
    if case == "vit classifier":
        return model.vit(images).last_hidden_state
    if case == "vit_mae":  # it shuffles the patches by this noise
        return model(images, noise=torch.arange(16.0).expand(2, -1)).last_hidden_state
    out = model(images)
    if case.startswith("swin"):
        tokens = out.last_hidden_state
        return tokens.transpose(1, 2).unflatten(2, (2, 2))
    return out.pooler_output if case.startswith("convnext") else out.last_hidden_state


#: case: (class, its config, our backbone, our neck)
HEADS = {
    "vit": (
        "ViTForImageClassification",
        dict(**SIZES, **IMAGE),
        dict(VIT, out_type="cls_token", **LN12),
        None,
    ),
    "beit": (
        "BeitForImageClassification",
        dict(**BEIT_BASE, use_relative_position_bias=True),
        dict(BEIT, layer_scale_init_value=0.1, out_type="avg_featmap", final_norm=False),
        None,
    ),
    "swin": ("SwinForImageClassification", CASES["swin"][2], CASES["swin"][3], "GlobalAveragePooling"),
    "convnext": ("ConvNextForImageClassification", CONVS, CASES["convnext"][3], None),
}


@pytest.mark.parametrize("case", HEADS)
def test_classifiers_go_across(case, tmp_path, filled, assert_close) -> None:
    name, arguments, backbone, neck = HEADS[case]
    cls = getattr(transformers, name)
    theirs = filled(cls(cls.config_class(**arguments, num_labels=7)))
    theirs.save_pretrained(tmp_path)
    dim = BACKBONES.build(backbone).feature_dim
    head = dict(type="LinearClsHead", in_channels=dim, num_classes=7)
    config = dict(type="ImageClassifier", backbone=backbone, neck=neck and dict(type=neck), head=head)
    ours = MODELS.build(dict(config, pretrain=str(tmp_path))).eval()
    images = images_for(case)
    with torch.no_grad():
        assert_close(ours(images), theirs(images).logits)
    assert ours.pretrain_report.clean, str(ours.pretrain_report)
    written = export(ours, "huggingface")
    state = theirs.state_dict() if case == "convnext" else None
    assert {"classifier.weight", "classifier.bias"} <= set(written)
    assert torch.equal(written["classifier.weight"], theirs.classifier.weight)
    assert state is None or set(written) == set(state)


@torch.no_grad()
def our_features(model: nn.Module, case: str) -> torch.Tensor:
    return model.eval()(images_for(case))[-1]


@pytest.mark.parametrize("case", CASES)
def test_features_are_the_source_models(case, tmp_path, filled, assert_close) -> None:
    theirs = filled(build(case))
    theirs.save_pretrained(tmp_path)
    ours = BACKBONES.build(dict(CASES[case][3], pretrain=str(tmp_path)))
    assert_close(our_features(ours, case), features(theirs, case))
    assert not ours.pretrain_report.fresh and not ours.pretrain_report.mismatched


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][4]])
def test_what_is_written_is_read_by_the_library(case, tmp_path, filled, assert_close) -> None:
    theirs = build(case)
    ours = filled(BACKBONES.build(CASES[case][3]))
    safetensors.torch.save_file(
        export(ours, CASES[case][4]), tmp_path / "model.safetensors", metadata={"format": "pt"}
    )
    theirs.config.save_pretrained(tmp_path)
    again, info = type(theirs).from_pretrained(tmp_path, output_loading_info=True)
    assert {name.split(".")[-2] for name in info["missing_keys"]} <= MAY_MISS
    assert not info["unexpected_keys"]
    assert_close(features(again.eval(), case), our_features(ours, case))


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][4]])
def test_the_librarys_running_model_takes_our_names(case, tmp_path, filled, assert_close) -> None:
    ours = filled(BACKBONES.build(CASES[case][3]))
    torch.save(ours.state_dict(), tmp_path / "ours.pth")
    theirs = build(case).eval()
    report = load_pretrained(theirs, tmp_path / "ours.pth")
    assert not report.mismatched, str(report)
    assert_close(features(theirs, case), our_features(ours, case))
