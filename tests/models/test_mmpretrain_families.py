"""The model configs of mmpretrain's families, in its words: as many parameters as its model zoo publishes.

The numbers are those of mmpretrain 1.2.0, configs/<family>/metafile.yml, "Parameters", some exact and some in
tens of thousands. Where that file has none, or a slip, they are timm 1.0.31's or torchvision 0.29's.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from framework import BACKBONES, MODELS
from framework.errors import ConfigError

Cfg = dict[str, Any]

LOSS = {
    "plain": dict(type="CrossEntropyLoss", loss_weight=1.0),
    "original": dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
    "classy_vision": dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="classy_vision"),
    "sigmoid": dict(
        type="LabelSmoothLoss", loss_weight=1.0, label_smooth_val=0.1, mode="original", use_sigmoid=True
    ),
}
TRUNCATED = [
    dict(type="TruncNormal", layer="Linear", std=0.02, bias=0.0),
    dict(type="Constant", layer="LayerNorm", val=1.0, bias=0.0),
]
KAIMING = [dict(type="Kaiming", layer="Conv2d", mode="fan_in", nonlinearity="linear")]
POOL = dict(type="GlobalAveragePooling")


def linear(in_channels: int, loss: str = "plain", **more: Any) -> Cfg:
    return dict(type="LinearClsHead", num_classes=1000, in_channels=in_channels, loss=LOSS[loss], **more)


def resnet(kind: str, depth: int, **more: Any) -> Cfg:
    backbone = dict(type=kind, depth=depth, num_stages=4, out_indices=(3,), style="pytorch", **more)
    width = 2048 if depth >= 50 else 512
    return dict(backbone=backbone, neck=POOL, head=linear(width, topk=(1, 5)))


def grouped(kind: str, depth: int, groups: int, width: int, **more: Any) -> Cfg:
    return resnet(kind, depth, groups=groups, width_per_group=width, **more)


def wide(depth: int) -> Cfg:
    return resnet("ResNet", depth, stem_channels=64, base_channels=128, expansion=2)


def cifar(depth: int) -> Cfg:
    config = resnet("ResNet_CIFAR", depth)
    config["head"].update(num_classes=10)
    return config


def vit(
    arch: str, dim: int, size: int = 224, patch: int = 16, kind: str = "VisionTransformer", **more: Any
) -> Cfg:
    head = dict(
        type="VisionTransformerClsHead", num_classes=1000, in_channels=dim, loss=LOSS["classy_vision"]
    )
    backbone = dict(type=kind, arch=arch, img_size=size, patch_size=patch, **more)
    return dict(backbone=backbone, neck=None, head=head)


def hidden_vit(arch: str, dim: int, patch: int) -> Cfg:
    config = vit(arch, dim, patch=patch, drop_rate=0.1, init_cfg=KAIMING)
    config["head"].update(hidden_dim=3072)
    return config


def distilled(arch: str, dim: int, size: int = 224) -> Cfg:
    head = dict(type="DeiTClsHead", num_classes=1000, in_channels=dim, loss=LOSS["original"])
    return dict(vit(arch, dim, size, kind="DistilledVisionTransformer"), head=head)


def beit(**more: Any) -> Cfg:
    words = dict(arch="base", img_size=224, patch_size=16, out_type="avg_featmap", **more)
    bias = dict(use_abs_pos_emb=False, use_rel_pos_bias=True, use_shared_rel_pos_bias=False)
    backbone = dict(type="BEiTViT", **words, **bias)
    return dict(backbone=backbone, neck=None, head=linear(768, "original"), init_cfg=TRUNCATED)


def swin(arch: str, dim: int, size: int, **more: Any) -> Cfg:
    kind = "SwinTransformerV2" if "window_size" in more else "SwinTransformer"
    backbone = dict(type=kind, arch=arch, img_size=size, drop_path_rate=0.2, **more)
    return dict(backbone=backbone, neck=POOL, head=linear(dim, "original", init_cfg=None, cal_acc=False))


def convnext(arch: str, dim: int) -> Cfg:
    backbone = dict(type="ConvNeXt", arch=arch, drop_path_rate=0.1)
    return dict(backbone=backbone, head=linear(dim, init_cfg=None), init_cfg=TRUNCATED[0])


def convnext_v2(arch: str, dim: int) -> Cfg:
    config = convnext(arch, dim)
    config["backbone"].update(layer_scale_init_value=0.0, use_grn=True)
    return config


def headless(arch: str, size: int, patch: int, **more: Any) -> Cfg:
    backbone = dict(type="VisionTransformer", arch=arch, img_size=size, patch_size=patch, **more)
    return dict(backbone=backbone, neck=None, head=None)


SYNC = dict(norm_cfg=dict(type="SyncBN", requires_grad=True), drop_path_rate=0.05)
#: config: (published number of parameters, model)
CONFIGS: dict[str, tuple[int, Cfg]] = {
    "resnet18": (11_690_000, resnet("ResNet", 18)),
    "resnet34": (21_797_672, resnet("ResNet", 34)),  # torchvision; a digit is missing in the zoo
    "resnet101": (44_550_000, resnet("ResNet", 101)),
    "resnet152": (60_190_000, resnet("ResNet", 152)),
    "resnet50-rsb": (25_560_000, dict(resnet("ResNet", 50, **SYNC), head=linear(2048, "sigmoid"))),
    "resnet50-norm-eval": (25_560_000, resnet("ResNet", 50, norm_eval=True, zero_init_residual=False)),
    "resnet18-cifar": (11_170_000, cifar(18)),
    "resnet34-cifar": (21_280_000, cifar(34)),
    "resnet50-cifar": (23_520_000, cifar(50)),
    "resnet101-cifar": (42_510_000, cifar(101)),
    "resnet152-cifar": (58_160_000, cifar(152)),
    "resnetv1c50": (25_580_000, resnet("ResNetV1c", 50)),
    "resnetv1c101": (44_570_000, resnet("ResNetV1c", 101)),
    "resnetv1c152": (60_210_000, resnet("ResNetV1c", 152)),
    "resnetv1d101": (44_570_000, resnet("ResNetV1d", 101)),
    "resnetv1d152": (60_210_000, resnet("ResNetV1d", 152)),
    "resnext101-32x4d": (44_180_000, grouped("ResNeXt", 101, 32, 4)),
    "resnext101-32x8d": (88_790_000, grouped("ResNeXt", 101, 32, 8)),
    "resnext152-32x4d": (59_950_000, grouped("ResNeXt", 152, 32, 4)),
    "seresnet101": (49_330_000, resnet("SEResNet", 101)),
    "seresnext50": (27_559_896, grouped("SEResNeXt", 50, 32, 4, se_ratio=16)),  # timm
    "seresnext101": (48_955_416, grouped("SEResNeXt", 101, 32, 4, se_ratio=16)),  # timm
    "wide-resnet101": (126_890_000, wide(101)),
    "vit-base-p16": (86_567_656, dict(vit("b", 768, drop_path_rate=0.1), init_cfg=TRUNCATED)),
    "vit-base-p16-384": (86_859_496, vit("b", 768, 384, drop_rate=0.1)),
    "vit-base-p32-384": (88_297_192, vit("b", 768, 384, 32, drop_rate=0.1)),
    "vit-large-p16-384": (304_715_752, vit("l", 1024, 384, drop_rate=0.1)),
    "vit-base-p16-hidden": (91_234_024, hidden_vit("b", 768, 16)),  # counted: a hidden layer more
    "deit-tiny": (5_717_416, vit("deit-tiny", 192)),
    "deit-small": (22_050_664, vit("deit-small", 384)),
    "deit-base-384": (86_859_496, vit("deit-base", 768, 384)),
    "deit-tiny-distilled": (5_910_800, distilled("deit-tiny", 192)),
    "deit-small-distilled": (22_436_432, distilled("deit-small", 384)),
    "deit-base-distilled": (87_338_192, distilled("deit-base", 768)),
    "deit-base-distilled-384": (87_630_032, distilled("deit-base", 768, 384)),
    "deit3-small": (22_059_496, vit("s", 384, kind="DeiT3", drop_path_rate=0.0)),
    "deit3-small-384": (22_205_416, vit("s", 384, 384, kind="DeiT3")),
    "deit3-medium": (38_849_512, vit("m", 512, kind="DeiT3", drop_path_rate=0.2)),
    "deit3-base-384": (86_877_160, vit("b", 768, 384, kind="DeiT3", drop_path_rate=0.15)),
    "deit3-large": (304_374_760, vit("l", 1024, kind="DeiT3", drop_path_rate=0.45)),
    "deit3-huge": (632_126_440, vit("h", 1280, patch=14, kind="DeiT3", drop_path_rate=0.55)),
    "clip-base-p16": (86_568_424, vit("b", 768, drop_rate=0.1, init_cfg=KAIMING, pre_norm=True)),
    "clip-base-p32": (88_225_000, vit("b", 768, patch=32, drop_rate=0.1, pre_norm=True)),
    "clip-large-headless": (303_302_656, headless("l", 224, 16, drop_rate=0.1, pre_norm=True)),
    "dinov2-small": (22_056_000, headless("dinov2-small", 518, 14, layer_scale_init_value=1e-5)),
    "dinov2-base": (86_580_000, headless("base", 518, 14, layer_scale_init_value=1e-5)),
    "dinov2-giant": (
        1_136_479_232,  # published as 1136 millions
        headless(
            "dinov2-giant", 518, 14, layer_scale_init_value=1e-5, layer_cfgs=dict(ffn_type="swiglu_fused")
        ),
    ),
    "beit-base": (86_530_984, beit()),
    "swin-small": (49_610_000, swin("small", 768, 224)),
    "swin-base": (87_770_000, swin("base", 1024, 224)),
    "swin-large": (196_530_000, swin("large", 1536, 224)),
    "swin-large-384": (
        196_740_000,
        swin("large", 1536, 384, stage_cfgs=dict(block_cfgs=dict(window_size=12))),
    ),
    "swinv2-tiny-w8": (28_350_000, swin("tiny", 768, 256, window_size=[8, 8, 8, 8])),
    "swinv2-small-w16": (49_730_000, swin("small", 768, 256, window_size=[16, 16, 16, 8])),
    "swinv2-base-w24": (
        87_920_000,
        swin("base", 1024, 384, window_size=[24, 24, 24, 12], pretrained_window_sizes=[12, 12, 12, 6]),
    ),
    "swinv2-large-w16": (
        196_739_932,  # timm; published as 196.75 millions
        swin("large", 1536, 256, window_size=[16, 16, 16, 8], pretrained_window_sizes=[12, 12, 12, 6]),
    ),
    "convnext-small": (50_223_688, convnext("small", 768)),
    "convnext-base": (88_591_464, convnext("base", 1024)),
    "convnext-large": (197_767_336, convnext("large", 1536)),
    "convnext-xlarge": (350_196_968, convnext("xlarge", 2048)),
    "convnext-v2-atto": (3_708_400, convnext_v2("atto", 320)),
    "convnext-v2-femto": (5_233_240, convnext_v2("femto", 384)),
    "convnext-v2-pico": (9_066_280, convnext_v2("pico", 512)),
    "convnext-v2-nano": (15_623_800, convnext_v2("nano", 640)),
    "convnext-v2-tiny": (28_635_496, convnext_v2("tiny", 768)),
    "convnext-v2-base": (88_717_800, convnext_v2("base", 1024)),
    "convnext-v2-large": (197_956_840, convnext_v2("large", 1536)),
    "convnext-v2-huge": (660_289_640, convnext_v2("huge", 2816)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_number_of_parameters(name: str) -> None:
    published, config = CONFIGS[name]
    with torch.device("meta"):
        model = MODELS.build(dict(config, type="ImageClassifier"))
    count = sum(parameter.numel() for parameter in model.parameters())
    unit = 10_000 if published % 10_000 == 0 else 1_000 if published % 1_000 == 0 else 1
    assert abs(count - published) <= unit / 2, count


def test_small_is_mmpretrains_size_and_deit_small_the_usual_one() -> None:
    with torch.device("meta"):
        sizes = {}
        for kind in ("VisionTransformer", "BEiTViT", "DeiT3"):
            for arch in ("s", "small", "deit-small", "dinov2-small"):
                if kind != "DeiT3" or arch in ("s", "small"):
                    model = BACKBONES.build(dict(type=kind, arch=arch))
                    sizes[kind, arch] = (model.embed_dims, model.num_layers, model.blocks[0].attn.num_heads)
    small, usual = (768, 8, 8), (384, 12, 6)
    assert {size for (kind, arch), size in sizes.items() if kind == "DeiT3"} == {usual}
    assert {size for (kind, arch), size in sizes.items() if kind != "DeiT3" and "-" not in arch} == {small}
    assert {size for (kind, arch), size in sizes.items() if "-" in arch} == {usual}
    assert len(sizes) == 10


def test_the_stem_for_small_images() -> None:
    model = BACKBONES.build(dict(type="ResNet_CIFAR", depth=18, stem_channels=8, base_channels=8)).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        (features,) = model(images)
        by_hand = model.bn1(torch.nn.functional.conv2d(images, model.conv1.weight, padding=1)).relu()
        for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
            by_hand = stage(by_hand)
    assert features.shape == (2, 64, 4, 4)
    torch.testing.assert_close(features, by_hand)
    with pytest.raises(ConfigError, match="ResNet_CIFAR has no deep stem"):
        BACKBONES.build(dict(type="ResNet_CIFAR", depth=18, deep_stem=True))


def test_a_checkpoint_that_was_left_open_is_told() -> None:
    backbone = dict(
        type="ResNet", depth=18, init_cfg=dict(type="Pretrained", checkpoint="", prefix="backbone.")
    )
    with pytest.raises(
        ValueError, match=r"model.backbone.pretrain.path is empty: it has to name the weights"
    ):
        MODELS.build(dict(type="ImageClassifier", backbone=backbone, neck=POOL, head=linear(512)))
