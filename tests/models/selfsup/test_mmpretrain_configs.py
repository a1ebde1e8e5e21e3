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


def neck(in_channels: int, hid_channels: int, out_channels: int, **rest: Any) -> dict[str, Any]:
    channels = {"in_channels": in_channels, "hid_channels": hid_channels, "out_channels": out_channels}
    return {"type": "NonLinearNeck", **channels, "with_avg_pool": True, **rest}


#: Parameters, the teachers' included, and models. Those of Barlow Twins and SwAV are the numbers that
#: mmpretrain's README and metafile give.
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
