"""Contrastive methods on the embedded digits: they learn, resume, and hand their backbone over."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook

from framework.engine import Runner
from framework.registry import MODELS

EPOCHS, ITERATIONS, BATCH = 4, 7, 64
LARGE = [{"type": "RandomCrop", "size": 8, "padding": 1}]
SMALL = [{"type": "RandomCrop", "size": 6}]
TWO = {"type": "MultiView", "transforms": [LARGE], "num_views": 2}
MORE = {"type": "MultiView", "transforms": [LARGE, SMALL], "num_views": [2, 1]}

ADAM = {"type": "AdamW", "lr": 5e-3}
EXCLUDED = {"decay_mult": 0, "lars_exclude": True}
SETTINGS: dict[str, dict[str, Any]] = {
    "SimCLR": {
        "optimizer": {"type": "LARS", "lr": 2.0, "momentum": 0.9, "weight_decay": 1e-6, "eta": 0.02},
        "paramwise_cfg": {"custom_keys": {"bn": {**EXCLUDED, "lr_mult": 0.01}}},
    },
    "MoCo": {},
    "BYOL": {},
    "SimSiam": {
        "paramwise_cfg": {"custom_keys": {"predictor": {"fix_lr": True}}},
        "hooks": [{"type": "SimSiamHook", "fix_pred_lr": True, "lr": 6e-3, "adjust_by_epoch": False}],
    },
    "BarlowTwins": {},
    "SwAV": {
        "hooks": [
            {
                "type": "SwAVHook",
                "batch_size": BATCH,
                "epoch_queue_starts": 1,
                "feat_dim": 8,
                "queue_length": 2 * BATCH + 1,
                "frozen_layers_cfg": {"prototypes": 2},
            }
        ]
    },
}
#: Parts of a checkpoint that are not the backbone.
LEFT = {
    "SimCLR": {"neck"},
    "MoCo": {"neck", "encoder_k"},
    "BYOL": {"neck", "head", "target_net"},
    "SimSiam": {"neck", "head"},
    "BarlowTwins": {"neck", "head"},
    "SwAV": {"neck", "head"},
}


class Watch(Hook):
    def __init__(self) -> None:
        self.losses: list[float] = []
        self.names: set[str] = set()
        self.rates: list[set[float]] = []
        self.prototypes: list[torch.Tensor] = []

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self.losses.append(outputs["loss"].item())
        self.names |= set(outputs)
        self.rates.append({group["lr"] for group in runner.optim_wrapper.optimizer.param_groups})
        head = runner.model.head
        if hasattr(head.loss_module, "prototypes"):
            self.prototypes.append(head.loss_module.prototypes.weight.detach().clone())


def model_of(name: str, methods: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a small model, with more channels than where gradients are compared."""
    model = {**copy.deepcopy(methods[name]), "data_preprocessor": {"mean": [77.9], "std": [95.9]}}
    model["backbone"].update(stem_channels=16, base_channels=16)
    model["neck"].update(in_channels=16)
    return model


def run(name: str, methods: dict[str, Any], work_dir: Path, **changes: Any) -> tuple[Runner, Watch]:
    settings = SETTINGS[name]
    data = {"type": "Digits", "test_size": 1333, "pipeline": [MORE if name == "SwAV" else TWO]}
    sampler = {"type": "DefaultSampler", "shuffle": True}
    runner = Runner(
        model=MODELS.build(model_of(name, methods)),
        work_dir=str(work_dir),
        train_dataloader={"batch_size": BATCH, "dataset": data, "sampler": sampler, "drop_last": True},
        train_cfg={"by_epoch": True, "max_epochs": EPOCHS},
        optim_wrapper={
            "optimizer": settings.get("optimizer", ADAM),
            "paramwise_cfg": settings.get("paramwise_cfg"),
        },
        param_scheduler=[{"type": "CosineAnnealingLR", "T_max": EPOCHS, "convert_to_iter_based": True}],
        custom_hooks=settings.get("hooks", []),
        randomness={"seed": 1},
        **changes,
    )
    watch = Watch()
    runner.register_hook(watch)
    try:
        runner.train()
    finally:
        runner.close()
    return runner, watch


@pytest.mark.parametrize("name", SETTINGS)
def test_a_method_learns_resumes_and_hands_its_backbone_over(
    name: str, shared: dict[str, Any], tmp_path: Path
) -> None:
    whole, watch = run(name, shared["METHODS"], tmp_path / "whole")
    first, last = watch.losses[ITERATIONS : 2 * ITERATIONS], watch.losses[-ITERATIONS:]
    assert len(watch.losses) == EPOCHS * ITERATIONS
    assert sum(last) / ITERATIONS < min(first)
    assert watch.names == {"loss", "embedding_std"} | ({"prototype_entropy"} if name == "SwAV" else set())

    file = tmp_path / "whole" / "epoch_3.pth"
    rest, again = run(name, shared["METHODS"], tmp_path / "rest", resume=True, load_from=str(file))
    assert again.losses == watch.losses[3 * ITERATIONS :]
    torch.testing.assert_close(rest.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    check_hooks(name, whole, watch)
    check_hand_over(name, whole, tmp_path / "whole" / f"epoch_{EPOCHS}.pth", shared)


def check_hooks(name: str, runner: Runner, watch: Watch) -> None:
    if name == "SimSiam":  # the predictor keeps its learning rate, the others' falls
        assert all(6e-3 in rates for rates in watch.rates)
        assert min(watch.rates[-1]) < 1e-4
    if name == "SwAV":  # prototypes rest for two iterations; the queue holds whole batches, and is full
        (resting, still, moved) = watch.prototypes[:3]
        torch.testing.assert_close(resting, still)
        assert not torch.allclose(still, moved, atol=1e-4)
        queue = runner.model.head.loss_module.queue
        assert queue.shape == (2, 2 * BATCH, 8)
        torch.testing.assert_close(queue.norm(dim=2), torch.ones(2, 2 * BATCH))


def check_hand_over(name: str, runner: Runner, path: Path, shared: dict[str, Any]) -> None:
    """A classifier starts from the path alone, whatever else is in the file."""
    backbone = {**model_of(name, shared["METHODS"])["backbone"], "norm_cfg": {"type": "BN"}}
    head = {"type": "LinearClsHead", "num_classes": 10}
    parts = {"backbone": {**backbone, "pretrain": str(path)}, "neck": {"type": "GlobalAveragePooling"}}
    classifier = MODELS.build({"type": "Classifier", **parts, "head": head})
    trained = runner.model.backbone.state_dict()
    torch.testing.assert_close(dict(classifier.backbone.state_dict()), dict(trained), rtol=0, atol=0)
    report = classifier.backbone.pretrain_report
    assert report.coverage == 1
    assert {key.split(".")[0] for key in report.unexpected} == LEFT[name]
