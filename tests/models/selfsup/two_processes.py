"""Steps of every method, alone or in two processes with half of each batch: `two_processes.py OUT`."""

from __future__ import annotations

import copy
import os
import socket
import sys
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from framework.models.layers.sync_batch_norm import sync_on_cpus
from framework.registry import MODELS

SYNC = {"type": "SyncBN"}
BACKBONE = {
    "type": "ResNet",
    "depth": 18,
    "in_channels": 1,
    "stem_channels": 4,
    "base_channels": 4,
    "num_stages": 1,
    "strides": (1,),
    "dilations": (1,),
    "out_indices": (0,),
    "zero_init_residual": False,
    "norm_cfg": SYNC,
}


def neck(**changes: object) -> dict:
    return {"type": "NonLinearNeck", "in_channels": 4, "hid_channels": 16, "out_channels": 8, **changes}


PREDICTOR = neck(in_channels=8, with_avg_pool=False, with_last_bn=False, with_last_bias=True)
PREDICT = {"type": "LatentPredictHead", "loss": {"type": "CosineSimilarityLoss"}, "predictor": PREDICTOR}
CONTRAST = {"type": "ContrastiveHead", "loss": {"type": "CrossEntropyLoss"}, "temperature": 0.2}
CORRELATE = {
    "type": "LatentCrossCorrelationHead",
    "in_channels": 8,
    "loss": {"type": "CrossCorrelationLoss", "lambd": 0.02},
}
CLUSTER = {"type": "SwAVLoss", "feat_dim": 8, "num_prototypes": 12, "num_crops": [2, 1]}
TINY = {
    "arch": {"embed_dims": 8, "num_layers": 1, "num_heads": 2, "feedforward_channels": 16},
    "img_size": 8,
    "patch_size": 2,
    "in_channels": 1,
}
PIXELS = {"type": "PixelReconstructionLoss", "criterion": "L2"}
METHODS: dict[str, dict] = {
    "SimCLR": {"neck": neck(), "head": CONTRAST},
    "MoCo": {
        "neck": {"type": "MoCoV2Neck", "in_channels": 4, "hid_channels": 16, "out_channels": 8},
        "head": CONTRAST,
        "queue_len": 128,
        "feat_dim": 8,
        "momentum": 0.05,
    },
    "BYOL": {"neck": neck(with_last_bn=False), "head": PREDICT, "base_momentum": 0.05},
    "SimSiam": {"neck": neck(num_layers=3, with_last_bn_affine=False), "head": PREDICT},
    "BarlowTwins": {"neck": neck(with_last_bn=False), "head": CORRELATE},
    "SwAV": {
        "neck": {"type": "SwAVNeck", "in_channels": 4, "hid_channels": 16, "out_channels": 8},
        "head": {"type": "SwAVHead", "loss": CLUSTER},
    },
    "MoCoV3": {
        "neck": neck(num_layers=3),
        "head": {
            "type": "MoCoV3Head",
            "predictor": neck(in_channels=8, with_avg_pool=False),
            "loss": {"type": "CrossEntropyLoss", "loss_weight": 0.4},
            "temperature": 0.2,
        },
        "base_momentum": 0.05,
    },
    "DINO": {
        "neck": {
            "type": "DINONeck",
            "in_channels": 4,
            "hidden_channels": 16,
            "bottleneck_channels": 8,
            "out_channels": 12,
        },
        "head": {"type": "DINOHead", "out_channels": 12, "num_crops": 3, "teacher_temp": 0.07},
        "base_momentum": 0.05,
    },
    "MAE": {
        "backbone": {"type": "MAEViT", **TINY},
        "neck": {
            "type": "MAEPretrainDecoder",
            "num_patches": 16,
            "patch_size": 2,
            "in_chans": 1,
            "embed_dim": 8,
            "decoder_embed_dim": 8,
            "decoder_depth": 1,
            "decoder_num_heads": 2,
        },
        "head": {"type": "MAEPretrainHead", "patch_size": 2, "in_channels": 1, "loss": PIXELS},
    },
    "SimMIM": {
        "backbone": {"type": "SimMIMViT", "out_type": "featmap", **TINY},
        "neck": {"type": "SimMIMLinearDecoder", "in_channels": 8, "encoder_stride": 2, "target_channels": 1},
        "head": {"type": "SimMIMHead", "patch_size": 2, "loss": PIXELS},
        "mask_patch_size": 4,
    },
}
METHODS = {name: {"type": name, "backbone": BACKBONE, **parts} for name, parts in METHODS.items()}
SIZES = {"SwAV": (8, 8, 6), "DINO": (8, 8, 6), "MAE": (8,), "SimMIM": (8,)}
BATCH, STEPS = 8, 2


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(METHODS[name])).train()
    if name == "SwAV":
        model.head.loss_module.start_queue(BATCH)
    return model.double()


def batches(name: str) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    sizes = SIZES.get(name, (8, 8))
    return [
        [torch.randn(BATCH, 1, s, s, generator=generator, dtype=torch.double) for s in sizes]
        for _ in range(STEPS)
    ]


def learn(name: str, rank: int = 0, world: int = 1) -> dict[str, object]:
    """Return the losses of all steps, and the gradients of the last; a step changes what later ones give."""
    model = build(name)
    if world > 1:
        model = sync_on_cpus(model)
    wrapped = model if world == 1 else DistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    losses, own = [], slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    for views in batches(name):
        optimizer.zero_grad()
        inputs = [view[own] for view in views]
        loss = wrapped(inputs if len(inputs) > 1 else inputs[0], mode="loss")["loss"]
        loss.backward()
        mean = loss.detach().clone()
        if world > 1:
            dist.all_reduce(mean)
        losses.append(mean / world)
        optimizer.step()
    gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    return {"losses": torch.stack(losses), "gradients": gradients, "state": model.state_dict()}


def main(out: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    child = os.fork()
    rank = 1 if child == 0 else 0
    dist.init_process_group("gloo", f"tcp://localhost:{port}", rank=rank, world_size=2)
    torch.save({name: learn(name, rank, 2) for name in METHODS}, out / f"{rank}.pth")
    dist.destroy_process_group()
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
