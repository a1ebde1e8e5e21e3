"""Every config builds its model, its data pipelines, its optimiser and its schedules."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from framework import MODELS
from framework.config import without_pretrain
from framework.engine import load_config
from framework.registry import HOOKS, METRICS, OPTIM_WRAPPER_CONSTRUCTORS, TRANSFORMS

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.py") if "_base_" not in path.parts)
NAMES = [path.relative_to(ROOT).as_posix() for path in CONFIGS]

pytestmark = pytest.mark.parametrize("path", CONFIGS, ids=NAMES)


@pytest.fixture
def cfg(path):
    return load_config(path)


@pytest.fixture
def meta_model(cfg):
    model = without_pretrain(cfg.model.to_dict())
    model.pop("train_cfg", None)  # torchvision's Mixup cannot be built on this device
    with torch.device("meta"):
        return MODELS.build(model)


def test_the_model_gives_logits_and_a_loss(cfg, meta_model):
    size = cfg.model.backbone.get("img_size", 224)
    inputs = torch.ones(2, cfg.model.backbone.get("in_channels", 3), size, size, device="meta")
    assert meta_model(inputs).shape == (2, cfg.model.head.num_classes)
    labels = torch.zeros(2, dtype=torch.long, device="meta")
    assert meta_model(inputs, labels.float()[:, None].expand(2, cfg.model.head.num_classes), mode="loss")


def test_the_pipelines_give_images_of_the_size_that_the_model_takes(cfg):
    size = cfg.model.backbone.get("img_size", 224)
    channels = cfg.model.backbone.get("in_channels", 3)
    shape = (channels, size, size) if size < 100 else (channels, size + 5, size + 120)
    image = torch.randint(0, 256, shape, dtype=torch.uint8)
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        steps = cfg.get(name, {}).get("dataset", {}).get("pipeline", [])
        pipeline = v2.Compose([TRANSFORMS.build(step) for step in steps] or [v2.Identity()])
        for _ in range(20):  # random operations differ
            result = pipeline(tv_tensors.Image(image))
            assert (result.shape, result.dtype) == ((channels, size, size), torch.uint8), name


def test_optimiser_schedules_hooks_and_metrics(cfg, meta_model):
    wrapper = dict(cfg.optim_wrapper)
    constructor = wrapper.pop("constructor", "DefaultOptimWrapperConstructor")
    paramwise = wrapper.pop("paramwise_cfg", None)
    build = dict(type=constructor, optim_wrapper_cfg=wrapper, paramwise_cfg=paramwise)
    optim_wrapper = OPTIM_WRAPPER_CONSTRUCTORS.build(build)(meta_model)
    groups = optim_wrapper.optimizer.param_groups
    learning = [parameter for parameter in meta_model.parameters() if parameter.requires_grad]
    assert sum(len(group["params"]) for group in groups) == len(learning) > 0
    for hook in [*cfg.get("default_hooks", {}).values(), *cfg.get("custom_hooks", [])]:
        HOOKS.build(hook)
    for metric in (cfg.get("val_evaluator"), cfg.get("test_evaluator")):
        assert metric is None or METRICS.build(metric)
    schedules = cfg.param_scheduler if isinstance(cfg.param_scheduler, list) else [cfg.param_scheduler]
    last = cfg.train_cfg.max_epochs
    assert max(schedule.get("end", last) for schedule in schedules) == last


def test_the_docstring_gives_command_score_and_its_source(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert text is not None
    assert "tools/train.py" in text and path.relative_to(ROOT).as_posix() in text
    assert re.search(r"Expected: (top-1|test accuracy) 0\.\d+", text)
    assert "not measured here" in text or "Measured" in text
