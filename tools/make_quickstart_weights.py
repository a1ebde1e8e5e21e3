#!/usr/bin/env python
"""Make the weights that `configs/quickstart.py` starts from: `python tools/make_quickstart_weights.py OUT`.

The backbone learns, without labels and without the test images, to fill in the masked patches of digits, as
in SimMIM (Xie et al., https://arxiv.org/abs/2111.09886): nine of sixteen patches are blanked, and a linear
layer reads their pixels from the tokens at their places. The file holds the backbone alone, in float16.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from safetensors.torch import save_file
from torch import Tensor, nn

from framework import BACKBONES, DATASETS
from framework.config import without_pretrain

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.py"
PATCH, GRID, MASKED = 2, 4, 9


def main() -> None:
    """Pre-train and write the file."""
    parser = argparse.ArgumentParser(description="Make the weights of the quickstart.")
    parser.add_argument("out", help="the .safetensors file to write")
    parser.add_argument("--epochs", type=int, default=500)
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = Config.fromfile(CONFIG).model
    backbone = BACKBONES.build(
        {**without_pretrain(config.backbone), "out_type": "raw", "final_norm": True, "drop_path_rate": 0.0}
    )
    preprocessing = config.data_preprocessor
    images = DATASETS.build({"type": "Digits", "split": "train"}).images
    pretrain(backbone, (images - preprocessing.mean[0]) / preprocessing.std[0], given.epochs)
    weights = {name: value.half() for name, value in backbone.state_dict().items()}
    save_file(weights, given.out, metadata={"source": "tools/make_quickstart_weights.py", "format": "pt"})
    print(f"{given.out}: {len(weights)} tensors, {Path(given.out).stat().st_size} bytes")


def pretrain(backbone: Any, images: Tensor, epochs: int, batch_size: int = 64) -> None:
    """Train `backbone` on normalised images of shape `(count, 1, 8, 8)`."""
    head = nn.Linear(backbone.embed_dims, PATCH**2)
    optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=2e-3, weight_decay=0.05)
    steps = epochs * (len(images) // batch_size)
    warm_up = 100
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(images)).split(batch_size)[: len(images) // batch_size]:
            loss = reconstruction_loss(backbone, head, shifted(images[batch], images.min()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        if (epoch + 1) % 50 == 0:
            print(f"epoch {epoch + 1}: loss {total / (len(images) // batch_size):.4f}", flush=True)


def shifted(images: Tensor, background: Tensor) -> Tensor:
    """Turn, scale and shift each image a little, as `RandomAffine` does in the fine-tuning."""
    count = len(images)
    angle = (torch.rand(count) * 2 - 1) * math.radians(12)
    scale = 1 + (torch.rand(count) * 2 - 1) * 0.1
    shift = (torch.rand(2, count) * 2 - 1) * 0.24
    cos, sin = angle.cos() * scale, angle.sin() * scale
    affine = torch.stack([cos, -sin, shift[0], sin, cos, shift[1]], 1).view(-1, 2, 3)
    grid = nn.functional.affine_grid(affine, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images - background, grid, align_corners=False) + background


def reconstruction_loss(backbone: Any, head: nn.Module, images: Tensor) -> Tensor:
    """Return the squared error of the masked pixels."""
    patches = images.view(-1, GRID, PATCH, GRID, PATCH).transpose(2, 3).reshape(-1, GRID**2, PATCH**2)
    masked = torch.rand(patches.shape[:2]).argsort(1) < MASKED
    visible = patches.masked_fill(masked[..., None], 0.0)
    visible = visible.view(-1, GRID, GRID, PATCH, PATCH).transpose(2, 3).reshape(images.shape)
    tokens = backbone(visible)[0][:, backbone.num_prefix_tokens :]
    return (head(tokens) - patches)[masked].square().mean()


if __name__ == "__main__":
    main()
