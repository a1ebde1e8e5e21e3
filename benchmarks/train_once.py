"""One training of a few iterations in a process of its own, for `benchmarks/train.py`.

    python benchmarks/train_once.py VARIANT MODEL STARTED ITERATIONS THREADS [--amp]

`bare` is a script as one writes it by hand, with torchvision's model; `loop` is the same loop with this
project's model; `framework` is `framework.engine.train`. All have the same images, batch, optimiser,
precision and threads.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

WARM_UP = 5
CLASSES = 10
SIZES = {"resnet18": 32, "vit_tiny": 64}
BATCHES = {"resnet18": 64, "vit_tiny": 16}
VIT = {"embed_dims": 192, "num_layers": 12, "num_heads": 3, "feedforward_channels": 768}
BACKBONES = {
    "resnet18": {"type": "ResNet", "depth": 18},
    "vit_tiny": {"type": "VisionTransformer", "arch": VIT, "img_size": 64, "patch_size": 8},
}
HEADS = {"resnet18": 512, "vit_tiny": 192}
MEAN, STD = 127.5, 64.0


class Noise:
    """Random images, in memory, with random labels."""

    def __init__(self, size: int, count: int) -> None:
        import torch

        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (64, 3, size, size), dtype=torch.uint8, generator=generator)
        self.labels = torch.randint(0, CLASSES, (64,), generator=generator).tolist()
        self.count = count
        self.metainfo = {"classes": tuple(map(str, range(CLASSES)))}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, object]:
        return {"inputs": self.images[index % 64], "labels": self.labels[index % 64]}


class Clock:
    """The moments at which iterations were done, by the wall and by the processor's time of this process."""

    def __init__(self) -> None:
        self.moments: list[tuple[float, float]] = []

    def tick(self) -> None:
        """Note that an iteration is done."""
        self.moments.append((time.time(), time.process_time()))


def build_model(variant: str, model: str):
    """Return torchvision's model, or this project's, as a function from images to logits."""
    if variant == "bare":
        import torchvision

        if model == "resnet18":
            return torchvision.models.resnet18(num_classes=CLASSES)
        vit = {"num_layers": 12, "num_heads": 3, "hidden_dim": 192, "mlp_dim": 768}
        return torchvision.models.VisionTransformer(64, 8, num_classes=CLASSES, **vit)
    from framework import MODELS

    return MODELS.build(model_config(model))


def model_config(model: str) -> dict[str, object]:
    """Return the config of this project's model."""
    pooled = {"type": "GlobalAveragePooling"} if model == "resnet18" else None
    head = {"type": "LinearClsHead", "num_classes": CLASSES, "in_channels": HEADS[model]}
    normalise = {"mean": [MEAN] * 3, "std": [STD] * 3}
    parts = {"backbone": BACKBONES[model], "neck": pooled, "head": head, "data_preprocessor": normalise}
    return {"type": "Classifier", **parts}


def loop(given: argparse.Namespace, clock: Clock) -> None:
    """Train by hand."""
    import contextlib

    import torch
    from torch import nn
    from torch.utils.data import DataLoader

    torch.manual_seed(0)
    torch.set_num_threads(given.threads)
    batch = BATCHES[given.model]
    loader = DataLoader(Noise(SIZES[given.model], batch * given.iterations), batch_size=batch, shuffle=True)
    model = build_model(given.variant, given.model)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()
    for step, data in enumerate(loader):
        context = torch.autocast("cpu", torch.bfloat16) if given.amp else contextlib.nullcontext()
        with context:
            images = (data["inputs"].float() - MEAN) / STD
            loss = criterion(model(images), data["labels"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            print(step, loss.item(), file=sys.stderr)
        clock.tick()


def framework(given: argparse.Namespace, clock: Clock) -> None:
    """Train as `tools/train.py` does, with the default hooks."""
    from framework.engine import Options, train
    from framework.registry import DATASETS, HOOKS

    from mmengine.hooks import Hook  # isort: skip  # as in tools/train.py, nothing of mmengine comes first

    @HOOKS.register_module()
    class Tick(Hook):
        priority = "LOWEST"

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            clock.tick()

    DATASETS.register_module(module=Noise)
    batch = BATCHES[given.model]
    data = {"type": "Noise", "size": SIZES[given.model], "count": batch * given.iterations}
    config = {
        "model": model_config(given.model),
        "train_dataloader": {
            "batch_size": batch,
            "dataset": data,
            "sampler": {"type": "DefaultSampler", "shuffle": True},
        },
        "train_cfg": {"by_epoch": True, "max_epochs": 1},
        "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 1e-3}},
        "custom_hooks": [{"type": "Tick"}],
        "env_cfg": {"num_threads": given.threads},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_text(json.dumps(config))
        train(path, Options(work_dir=Path(folder, "run"), amp=given.amp, seed=0))


def main() -> None:
    """Train once and print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("variant", choices=("bare", "loop", "framework"))
    parser.add_argument("model", choices=tuple(SIZES))
    parser.add_argument("started", type=float)
    parser.add_argument("iterations", type=int)
    parser.add_argument("threads", type=int)
    parser.add_argument("--amp", action="store_true")
    given = parser.parse_args()
    clock = Clock()
    (framework if given.variant == "framework" else loop)(given, clock)
    (wall, cpu), (end_wall, end_cpu) = clock.moments[WARM_UP - 1], clock.moments[-1]
    images = BATCHES[given.model] * (len(clock.moments) - WARM_UP)
    result = {
        "first": clock.moments[0][0] - given.started,
        "first_cpu": clock.moments[0][1],
        "wall": images / (end_wall - wall),
        "cpu": images / (end_cpu - cpu),
    }
    print(f"\nresult {json.dumps(result)}")


if __name__ == "__main__":
    main()
