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
CONFIGS = sorted(
    path for path in (ROOT / "configs").rglob("*.py") if not {"_base_", "comparisons"} & {*path.parts}
)
#: Folders of the methods that learn without labels; their configs train the method, those below classifiers.
METHODS = (
    *("mae", "simmim", "mocov3", "dino"),
    *("simclr", "mocov2", "byol", "simsiam", "barlowtwins", "swav"),
)
SELF_SUPERVISED = [path for path in CONFIGS if path.parent.name in METHODS]
CLASSIFIERS = [path for path in CONFIGS if path not in SELF_SUPERVISED]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


every_config = pytest.mark.parametrize("path", CONFIGS, ids=name_of)
every_classifier = pytest.mark.parametrize("path", CLASSIFIERS, ids=name_of)
every_method = pytest.mark.parametrize("path", SELF_SUPERVISED, ids=name_of)


@pytest.fixture
def cfg(path):
    return load_config(path)


@pytest.fixture
def meta_model(cfg):
    model = without_pretrain(cfg.model.to_dict())
    model.pop("train_cfg", None)  # torchvision's Mixup cannot be built on this device
    with torch.device("meta"):
        return MODELS.build(model)


@every_classifier
def test_the_model_gives_logits_and_a_loss(cfg, meta_model):
    size = cfg.model.backbone.get("img_size", 224)
    inputs = torch.ones(2, cfg.model.backbone.get("in_channels", 3), size, size, device="meta")
    assert meta_model(inputs).shape == (2, cfg.model.head.num_classes)
    labels = torch.zeros(2, dtype=torch.long, device="meta")
    assert meta_model(inputs, labels.float()[:, None].expand(2, cfg.model.head.num_classes), mode="loss")


@every_method
def test_the_views_are_those_that_the_method_takes(cfg, meta_model):
    head, kind = cfg.model.head, cfg.model.type
    crops = {"SwAV": lambda: sum(head.loss.num_crops), "DINO": lambda: head.num_crops}
    views = crops.get(kind, lambda: 1 if kind in ("MAE", "SimMIM") else 2)()
    last = cfg.train_dataloader.dataset.pipeline[-1]
    assert (sum(_counts(last.num_views)) if last.type == "MultiView" else 1) == views


@every_method
def test_a_method_has_configs_for_images_of_all_sizes_and_its_benchmarks(path):
    folder = path.parent
    for data in ("in1k", "cifar10", "digits"):
        assert list(folder.glob(f"*_{data}*.py")), data
        assert list((folder / "benchmarks").glob(f"*_{data}*.py")), data
    assert list((folder / "benchmarks").glob("*linear*_in1k.py"))


def _counts(num_views):
    return num_views if isinstance(num_views, list) else [num_views]


@every_config
def test_the_pipelines_give_images_of_the_size_that_the_model_takes(cfg, checked_pipelines):
    size = cfg.model.backbone.get("img_size", 32 if "CIFAR" in cfg.model.backbone.type else 224)
    channels = cfg.model.backbone.get("in_channels", 3)
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if cfg.get(name) is None:
            continue
        steps = cfg[name].dataset.get("pipeline", [])
        key = (str(steps), size, channels)
        if key not in checked_pipelines:
            checked_pipelines.add(key)
            _check_pipeline(steps, size, channels)


@pytest.fixture(scope="module")
def checked_pipelines():
    """Return what is filled with the pipelines that were seen: many configs share one."""
    return set()


def _check_pipeline(steps, size, channels):
    shape = (channels, size, size) if size < 100 else (channels, size + 5, size + 120)
    image = torch.randint(0, 256, shape, dtype=torch.uint8)
    pipeline = v2.Compose([TRANSFORMS.build(step) for step in steps] or [v2.Identity()])
    for _ in range(3 if "MultiView" in str(steps) else 20):  # random operations differ
        result = pipeline(tv_tensors.Image(image))
        views = result if isinstance(result, list) else [result]
        assert {view.dtype for view in views} == {torch.uint8}
        assert {view.shape[0] for view in views} == {channels}
        assert views[0].shape == (channels, size, size)


@every_config
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


@every_config
def test_the_docstring_gives_command_score_and_its_source(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert text is not None
    assert "tools/train.py" in text and path.relative_to(ROOT).as_posix() in text
    score = r"Expected: (top-1|test accuracy) 0\.\d+"
    assert (
        re.search(score, text)
        or re.search(r"Expected:.*not\s+(measured here, and not\s+)?published", text)
        or re.search(r"Expected: no score of this recipe is published", text)
    )
    assert re.search(r"not\s+measured\s+here|Measured|none was measured", text)
