"""Models in mmpretrain's words build unchanged, with as many parameters as the published ones."""

import pytest
import torch

from framework.registry import MODELS

CROSS_ENTROPY = {"type": "CrossEntropyLoss", "loss_weight": 1.0}
SMOOTH = {"type": "LabelSmoothLoss", "label_smooth_val": 0.1, "mode": "original"}
POOL = {"type": "GlobalAveragePooling"}
MIX = {"augments": [{"type": "Mixup", "alpha": 0.8}, {"type": "CutMix", "alpha": 1.0}]}
INIT = [
    {"type": "TruncNormal", "layer": "Linear", "std": 0.02, "bias": 0.0},
    {"type": "Constant", "layer": "LayerNorm", "val": 1.0, "bias": 0.0},
]


def head(in_channels: int, loss: dict = CROSS_ENTROPY, **kwargs: object) -> dict:
    return {"type": "LinearClsHead", "num_classes": 1000, "in_channels": in_channels, "loss": loss, **kwargs}


RESNET = {"depth": 50, "num_stages": 4, "out_indices": (3,), "style": "pytorch"}
CONFIGS = {
    "convnext-tiny": (
        28589128,
        {
            "backbone": {
                "type": "ConvNeXt",
                "arch": "tiny",
                "out_indices": (3,),
                "drop_path_rate": 0.1,
                "gap_before_final_norm": True,
                "init_cfg": INIT,
            },
            "head": head(768),
        },
    ),
    "swin-tiny": (
        28288354,
        {
            "backbone": {"type": "SwinTransformer", "arch": "tiny", "img_size": 224, "drop_path_rate": 0.2},
            "neck": POOL,
            "head": head(768, SMOOTH, init_cfg=None, cal_acc=False),
            "init_cfg": INIT,
            "train_cfg": MIX,
        },
    ),
    "swin-base-384": (
        87903584,
        {
            "backbone": {
                "type": "SwinTransformer",
                "arch": "base",
                "img_size": 384,
                "stage_cfgs": {"block_cfgs": {"window_size": 12}},
            },
            "neck": POOL,
            "head": head(1024, topk=(1, 5)),
        },
    ),
    "swinv2-base-w16": (
        87918816,
        {
            "backbone": {
                "type": "SwinTransformerV2",
                "arch": "base",
                "img_size": 256,
                "drop_path_rate": 0.2,
                "window_size": [16, 16, 16, 8],
                "pretrained_window_sizes": [12, 12, 12, 6],
            },
            "neck": POOL,
            "head": head(1024, SMOOTH),
        },
    ),
    "beit-base": (
        86530984,
        {
            "backbone": {
                "type": "BEiTViT",
                "arch": "base",
                "img_size": 224,
                "patch_size": 16,
                "out_type": "avg_featmap",
                "use_abs_pos_emb": False,
                "use_rel_pos_bias": True,
                "use_shared_rel_pos_bias": False,
            },
            "neck": None,
            "head": head(768, SMOOTH, init_cfg=[INIT[0]]),
            "train_cfg": MIX,
        },
    ),
    "deit-small-distilled": (
        22436432,
        {
            "backbone": {
                "type": "DistilledVisionTransformer",
                "arch": "deit-small",
                "img_size": 224,
                "patch_size": 16,
            },
            "neck": None,
            "head": {"type": "DeiTClsHead", "num_classes": 1000, "in_channels": 384, "loss": SMOOTH},
        },
    ),
    "deit3-base": (
        86585320,
        {
            "backbone": {
                "type": "DeiT3",
                "arch": "b",
                "img_size": 224,
                "patch_size": 16,
                "drop_path_rate": 0.2,
            },
            "neck": None,
            "head": {
                "type": "VisionTransformerClsHead",
                "num_classes": 1000,
                "in_channels": 768,
                "loss": SMOOTH,
            },
            "init_cfg": INIT,
            "train_cfg": MIX,
        },
    ),
    "resnext50": (
        25028904,
        {
            "backbone": {"type": "ResNeXt", **RESNET, "groups": 32, "width_per_group": 4},
            "neck": POOL,
            "head": head(2048, topk=(1, 5)),
        },
    ),
    "resnetv1d50": (
        25576264,
        {"backbone": {"type": "ResNetV1d", **RESNET}, "neck": POOL, "head": head(2048)},
    ),
    "seresnet50": (28088024, {"backbone": {"type": "SEResNet", **RESNET}, "neck": POOL, "head": head(2048)}),
    "wide-resnet50": (
        68883240,
        {
            "backbone": {
                "type": "ResNet",
                **RESNET,
                "stem_channels": 64,
                "base_channels": 128,
                "expansion": 2,
            },
            "neck": POOL,
            "head": head(2048),
        },
    ),
    "resnet50-linear-probe": (
        25557032,
        {
            "backbone": {"type": "ResNet", **RESNET, "frozen_stages": 4, "norm_eval": True},
            "neck": [POOL, {"type": "ClsBatchNormNeck", "num_features": 2048}],
            "head": head(2048),
        },
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_number_of_parameters(name: str) -> None:
    count, cfg = CONFIGS[name]
    with torch.device("cpu" if "train_cfg" in cfg else "meta"):  # torchvision's mixing draws at once
        model = MODELS.build({"type": "ImageClassifier", **cfg})
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_a_list_of_necks_and_mixing_train() -> None:
    cfg = {
        "backbone": {"type": "ResNet", "depth": 18, "stem_channels": 8, "base_channels": 8},
        "neck": [{"type": "GeneralizedMeanPooling"}, {"type": "ClsBatchNormNeck", "num_features": 64}],
        "head": {**head(64, SMOOTH), "num_classes": 4},
        "train_cfg": MIX,
    }
    model = MODELS.build({"type": "ImageClassifier", **cfg}).train()
    data = {"inputs": torch.rand(4, 3, 32, 32), "labels": torch.tensor([0, 1, 2, 3])}
    batch = model.data_preprocessor(data, training=True)
    assert batch["labels"].shape == (4, 4)
    loss = model(**batch, mode="loss")["loss"]
    loss.backward()
    assert model.neck[0].p.grad is not None and model.head.fc.weight.grad.abs().sum() > 0
