"""Pre-training models in mmpretrain's words build unchanged, with all layers that they ask for."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from framework.registry import MODELS, NECKS

SYNC = {"type": "SyncBN"}
RESNET = {"type": "ResNet", "depth": 50, "norm_cfg": SYNC, "zero_init_residual": True}
CROSS_ENTROPY = {"type": "CrossEntropyLoss"}
#: Parameters of ResNet-50 without its classifier.
R50 = 25557032 - 2049 * 1000
COSINE = {"type": "CosineSimilarityLoss"}
STATISTICS = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}


def neck(in_channels: int, hid_channels: int, out_channels: int, **rest: Any) -> dict[str, Any]:
    channels = {"in_channels": in_channels, "hid_channels": hid_channels, "out_channels": out_channels}
    return {"type": "NonLinearNeck", **channels, "with_avg_pool": True, **rest}


#: Arguments of MoCo v3's projector and predictor.
PLAIN = {"with_bias": False, "with_last_bn_affine": False, "with_last_bias": False}


def mae(arch: str, embed_dim: int, **decoder: Any) -> dict[str, Any]:
    patch = decoder.get("patch_size", 16)
    return {
        "type": "MAE",
        "backbone": {"type": "MAEViT", "arch": arch, "patch_size": patch, "mask_ratio": 0.75},
        "neck": {
            "type": "MAEPretrainDecoder",
            "patch_size": patch,
            "in_chans": 3,
            "embed_dim": embed_dim,
            "decoder_embed_dim": 512,
            "decoder_depth": 8,
            "decoder_num_heads": 16,
            "mlp_ratio": 4.0,
            **decoder,
        },
        "head": {
            "type": "MAEPretrainHead",
            "norm_pix": True,
            "patch_size": patch,
            "loss": {"type": "PixelReconstructionLoss", "criterion": "L2"},
        },
        "init_cfg": [
            {"type": "Xavier", "layer": "Linear", "distribution": "uniform"},
            {"type": "Constant", "layer": "LayerNorm", "val": 1.0, "bias": 0.0},
        ],
    }


def simmim(arch: str, window: int, embed_dims: int, **rest: Any) -> dict[str, Any]:
    stages = {"block_cfgs": {"window_size": window}}
    return {
        "type": "SimMIM",
        "data_preprocessor": {**STATISTICS, "to_rgb": True},
        "backbone": {
            "type": "SimMIMSwinTransformer",
            "arch": arch,
            "img_size": 192,
            "stage_cfgs": stages,
            **rest,
        },
        "neck": {"type": "SimMIMLinearDecoder", "in_channels": embed_dims * 2**3, "encoder_stride": 32},
        "head": {
            "type": "SimMIMHead",
            "patch_size": 4,
            "loss": {"type": "PixelReconstructionLoss", "criterion": "L1", "channel": 3},
        },
    }


def mocov3(arch: str, width: int) -> dict[str, Any]:
    vit = {"type": "MoCoV3ViT", "arch": arch, "img_size": 224, "patch_size": 16, "stop_grad_conv1": True}
    plain = {**PLAIN, "with_avg_pool": False}
    return {
        "type": "MoCoV3",
        "base_momentum": 0.01,
        "backbone": vit,
        "neck": neck(width, 4096, 256, num_layers=3, with_last_bn=True, **plain),
        "head": {
            "type": "MoCoV3Head",
            "predictor": neck(256, 4096, 256, num_layers=2, with_last_bn=True, **plain),
            "loss": {**CROSS_ENTROPY, "loss_weight": 0.4},
            "temperature": 0.2,
        },
    }


#: Parameters, the teachers' included, and models. Those of Barlow Twins, SwAV, MAE, SimMIM and MoCo v3 are
#: the numbers that mmpretrain's README and metafiles give.
CONFIGS: dict[str, tuple[int, dict[str, Any]]] = {
    "simclr_resnet50_8xb32-coslr-200e_in1k": (
        R50 + 2048 * 2048 + 2 * 2048 + 2048 * 128 + 2 * 128,
        {
            "type": "SimCLR",
            "backbone": RESNET,
            "neck": neck(2048, 2048, 128, num_layers=2),
            "head": {"type": "ContrastiveHead", "loss": CROSS_ENTROPY, "temperature": 0.1},
        },
    ),
    "mocov2_resnet50_8xb32-coslr-200e_in1k": (
        2 * (R50 + 2049 * 2048 + 2049 * 128),
        {
            "type": "MoCo",
            "queue_len": 65536,
            "feat_dim": 128,
            "momentum": 0.001,
            "backbone": {**RESNET, "norm_cfg": {"type": "BN"}, "zero_init_residual": False},
            "neck": {**neck(2048, 2048, 128), "type": "MoCoV2Neck"},
            "head": {"type": "ContrastiveHead", "loss": CROSS_ENTROPY, "temperature": 0.2},
        },
    ),
    "byol_resnet50_16xb256-coslr-200e_in1k": (
        2 * (R50 + 2049 * 4096 + 2 * 4096 + 4096 * 256) + 257 * 4096 + 2 * 4096 + 4096 * 256,
        {
            "type": "BYOL",
            "base_momentum": 0.01,
            "backbone": RESNET,
            "neck": neck(2048, 4096, 256, num_layers=2, with_bias=True, with_last_bn=False),
            "head": {
                "type": "LatentPredictHead",
                "loss": COSINE,
                "predictor": neck(256, 4096, 256, with_bias=True, with_last_bn=False, with_avg_pool=False),
            },
        },
    ),
    "simsiam_resnet50_8xb32-coslr-100e_in1k": (
        R50 + 3 * 2048 * 2048 + 4 * 2048 + 2048 * 512 + 2 * 512 + 513 * 2048,
        {
            "type": "SimSiam",
            "backbone": RESNET,
            "neck": neck(2048, 2048, 2048, num_layers=3, with_last_bn_affine=False),
            "head": {
                "type": "LatentPredictHead",
                "loss": COSINE,
                "predictor": neck(
                    2048, 512, 2048, with_avg_pool=False, with_last_bn=False, with_last_bias=True
                ),
            },
        },
    ),
    "barlowtwins_resnet50_8xb256-coslr-300e_in1k": (
        174535744,
        {
            "type": "BarlowTwins",
            "backbone": RESNET,
            "neck": neck(
                2048,
                8192,
                8192,
                num_layers=3,
                with_last_bn=False,
                with_last_bn_affine=False,
                init_cfg={"type": "Kaiming", "distribution": "uniform", "layer": ["Linear"]},
            ),
            "head": {
                "type": "LatentCrossCorrelationHead",
                "in_channels": 8192,
                "loss": {"type": "CrossCorrelationLoss"},
            },
        },
    ),
    "swav_resnet50_8xb32-mcrop-coslr-200e_in1k-224px-96px": (
        28354752,
        {
            "type": "SwAV",
            "data_preprocessor": {
                "mean": (123.675, 116.28, 103.53),
                "std": (58.395, 57.12, 57.375),
                "to_rgb": True,
            },
            "backbone": RESNET,
            "neck": {**neck(2048, 2048, 128), "type": "SwAVNeck"},
            "head": {
                "type": "SwAVHead",
                "loss": {
                    "type": "SwAVLoss",
                    "feat_dim": 128,
                    "epsilon": 0.05,
                    "temperature": 0.1,
                    "num_crops": [2, 6],
                },
            },
        },
    ),
    "mae_vit-base-p16_8xb512-amp-coslr-300e_in1k": (111907840, mae("b", 768)),
    "mae_vit-large-p16_8xb512-amp-coslr-400e_in1k": (329541888, mae("l", 1024)),
    "mae_vit-huge-p14_8xb512-amp-coslr-1600e_in1k": (
        657074508,
        mae("h", 1280, patch_size=14, num_patches=256),
    ),
    "simmim_swin-base-w6_8xb256-amp-coslr-800e_in1k-192px": (89874104, simmim("base", 6, 128)),
    "simmim_swin-large-w12_16xb128-amp-coslr-800e_in1k-192px": (
        199920372,
        simmim("large", 12, 192, pad_small_map=True),
    ),
    "mocov3_resnet50_8xb512-amp-coslr-100e_in1k": (
        68012160,
        {
            "type": "MoCoV3",
            "base_momentum": 0.01,
            "backbone": {**RESNET, "zero_init_residual": False},
            "neck": neck(2048, 4096, 256, num_layers=2, with_last_bn=True, **PLAIN),
            "head": {
                "type": "MoCoV3Head",
                "predictor": neck(
                    256, 4096, 256, num_layers=2, with_last_bn=False, **{**PLAIN, "with_avg_pool": False}
                ),
                "loss": {**CROSS_ENTROPY, "loss_weight": 2.0},
                "temperature": 1.0,
            },
        },
    ),
    "mocov3_vit-small-p16_16xb256-amp-coslr-300e_in1k": (84266752, mocov3("mocov3-small", 384)),
    "mocov3_vit-base-p16_16xb256-amp-coslr-300e_in1k": (215678464, mocov3("base", 768)),
    "mocov3_vit-large-p16_64xb64-amp-coslr-300e_in1k": (652781568, mocov3("large", 1024)),
    "projects/dino: dino_vit-base-p16_8xb64-amp-coslr-100e_in1k": (
        2 * (85798656 + 769 * 2048 + 2049 * 2048 + 2049 * 256 + 257 * 65536),
        {
            "type": "DINO",
            "data_preprocessor": {**STATISTICS, "bgr_to_rgb": True},
            "backbone": {"type": "mmpretrain.VisionTransformer", "arch": "b", "patch_size": 16},
            "neck": {
                "type": "DINONeck",
                "in_channels": 768,
                "out_channels": 65536,
                "hidden_channels": 2048,
                "bottleneck_channels": 256,
            },
            "head": {
                "type": "DINOHead",
                "out_channels": 65536,
                "num_crops": 10,
                "student_temp": 0.1,
                "center_momentum": 0.9,
            },
        },
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_number_of_parameters(name: str) -> None:
    count, config = CONFIGS[name]
    before = copy.deepcopy(config)
    with torch.device("meta"):
        model = MODELS.build(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert config == before


def test_the_initialisers_of_a_projector_are_applied() -> None:
    init = {"type": "Kaiming", "distribution": "uniform", "layer": ["Linear"]}
    projector = NECKS.build({**neck(64, 32, 8), "init_cfg": init})
    torch.nn.init.zeros_(projector.fc0.weight)
    projector.init_weights()
    assert projector.fc0.weight.std().item() == pytest.approx((2 / 32) ** 0.5, rel=0.1)  # from the fan out
