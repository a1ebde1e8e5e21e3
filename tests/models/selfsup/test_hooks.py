"""Hooks that count epochs, in runs by epoch and in runs by iteration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.hooks import Hook

from framework.engine import Runner
from framework.registry import MODELS

ARCH = {"embed_dims": 8, "num_layers": 1, "num_heads": 2, "feedforward_channels": 16}
BACKBONE = {"type": "VisionTransformer", "arch": ARCH, "img_size": 8, "patch_size": 4, "in_channels": 1}
WIDTHS = {"in_channels": 8, "hidden_channels": 8, "bottleneck_channels": 8, "out_channels": 8}
SWAV = {"type": "SwAVLoss", "feat_dim": 8, "num_prototypes": 6}
METHODS: dict[str, dict[str, Any]] = {
    "DINO": {
        "neck": {"type": "DINONeck", **WIDTHS},
        "head": {"type": "DINOHead", "out_channels": 8, "num_crops": 2},
    },
    "SwAV": {
        "neck": {"type": "SwAVNeck", "in_channels": 8, "hid_channels": 0, "out_channels": 8},
        "head": {"type": "SwAVHead", "loss": SWAV},
    },
}
HOOKS = {
    "DINO": [
        {
            "type": "DINOTeacherTempWarmupHook",
            "warmup_teacher_temp": 0.02,
            "teacher_temp": 0.06,
            "teacher_temp_warmup_epochs": 3,
        },
        {"type": "DINOFreezeLastLayerHook", "epochs": 1},
    ],
    "SwAV": [
        {
            "type": "SwAVHook",
            "priority": "VERY_HIGH",  # as mmpretrain's config has it
            "batch_size": 8,
            "epoch_queue_starts": 1,
            "feat_dim": 8,
            "queue_length": 8,
        }
    ],
}


class Watch(Hook):
    priority = "LOWEST"

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        model = runner.bare_model
        if hasattr(model, "teacher"):
            self.seen.append((model.neck.last_layer.frozen, round(model.head.teacher_temp, 4)))
        else:
            self.seen.append(model.head.loss_module.queue_in_use)


@pytest.mark.parametrize(
    "length", [{"by_epoch": True, "max_epochs": 3}, {"by_epoch": False, "max_iters": 6}], ids=str
)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DINO", [(True, 0.02)] * 2 + [(False, 0.04)] * 2 + [(False, 0.06)] * 2),
        ("SwAV", [False] * 2 + [True] * 4),
    ],
)
def test_epochs_are_passes_through_the_data(
    name: str, expected: list[Any], length: dict[str, Any], tmp_path: Path
) -> None:
    views = {"type": "MultiView", "transforms": [[{"type": "RandomCrop", "size": 8}]], "num_views": 2}
    runner = Runner(
        model=MODELS.build({"type": name, "backbone": BACKBONE, **METHODS[name]}),
        work_dir=str(tmp_path),
        train_dataloader={
            "batch_size": 8,
            "dataset": {"type": "Digits", "test_size": 1797 - 16, "pipeline": [views]},
            "sampler": {"type": "DefaultSampler", "shuffle": True},
        },
        train_cfg=length,
        optim_wrapper={"optimizer": {"type": "AdamW"}},
        custom_hooks=HOOKS[name],
    )
    watch = Watch()
    runner.register_hook(watch)
    try:
        runner.train()
    finally:
        runner.close()
    assert watch.seen == expected
