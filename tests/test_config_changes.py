from __future__ import annotations

import copy

import pytest
from mmengine.config import Config

from framework.config_changes import change_config
from framework.errors import ConfigError


@pytest.fixture
def config():
    backbone = {"type": "ResNet", "depth": 50, "norm_cfg": {"type": "BN"}}
    data = {"type": "ImageFolder", "root": "a", "pipeline": [{"type": "Resize", "size": 256}]}
    return Config(
        {
            "model": {
                "type": "Classifier",
                "backbone": backbone,
                "neck": None,
                "head": {"type": "LinearClsHead", "num_classes": 10},
            },
            "train_dataloader": {"batch_size": 8, "dataset": data},
            "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 0.1, "betas": (0.9, 0.99)}},
            "param_scheduler": [{"type": "MultiStepLR", "milestones": [3, 5]}],
            "train_cfg": {"by_epoch": True, "max_epochs": 3},
            "default_hooks": {"checkpoint": {"type": "CheckpointHook", "interval": 1}},
            "env_cfg": {},
            "custom_hooks": None,
        },
        format_python_code=False,
    )


@pytest.mark.parametrize(
    "name",
    [
        "model.backbone.depth",
        "model.backbone.pretrain",
        "model.pretrain.path",
        "model.pretrain.min_coverage",
        "model.backbone.frozen",
        "model.head.init_cfg.whatever",
        "model.data_preprocessor.mean",
        "optim_wrapper.clip_grad.max_norm",
        "optim_wrapper.accumulative_counts",
        "optim_wrapper.constructor",
        "optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult",
        "optim_wrapper.optimizer.weight_decay",
        "param_scheduler.0.milestones.1",
        "train_dataloader.num_workers",
        "train_dataloader.dataset.root",
        "train_dataloader.dataset.pipeline.0.interpolation",
        "train_cfg.val_interval",
        "default_hooks.logger.interval",
        "default_hooks.checkpoint.save_best",
        "randomness.deterministic",
        "env_cfg.num_threads",
        "compile.mode",
        "load_from",
        "load_from.path",
        "visualizer.vis_backends",
    ],
)
def test_what_exists_may_be_changed(config, name):
    change_config(config, {name: 7})
    value = config
    for part in name.split("."):
        value = value[int(part)] if part.isdigit() else value[part]
    assert value == 7


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "modle.backbone.depth",
            r"The config has no 'modle', as in modle\.backbone\.depth: did you mean model",
        ),
        ("model.bakbone.depth", r"model has no 'bakbone', as in .*: did you mean backbone"),
        ("model.backbone.dpeth", r"model\.backbone has no 'dpeth', as in .*: did you mean depth"),
        ("model.pretrain.pth", r"model\.pretrain has no 'pth', .*: did you mean path"),
        ("model.backbone.depth.x", r"model\.backbone\.depth is 50 and has no parts"),
        ("model.neckk", r"did you mean neck"),
        ("optim_wrapper.optimizer.learning_rate", r"optim_wrapper\.optimizer has no 'learning_rate'"),
        ("optim_wrapper.optimiser.lr", r"optim_wrapper has no 'optimiser', .*: did you mean optimizer"),
        ("optim_wrapper.clip_grad.maxnorm", r"did you mean max_norm"),
        ("param_scheduler.1.gamma", r"param_scheduler is a list, whose parts are 0 to 0; got '1'"),
        ("param_scheduler.gamma", r"param_scheduler is a list, whose parts are 0 to 0; got 'gamma'"),
        ("train_dataloader.bach_size", r"did you mean batch_size"),
        ("train_dataloader.dataset.rot", r"train_dataloader\.dataset has no 'rot', .*: did you mean root"),
        ("train_cfg.max_epoch", r"train_cfg has no 'max_epoch', .*: did you mean max_epochs"),
        ("default_hooks.chekpoint.interval", r"did you mean checkpoint"),
        (
            "default_hooks.logger.intervall",
            r"default_hooks\.logger has no 'intervall', .*: did you mean interval",
        ),
        ("randomness.sed", r"did you mean seed"),
        ("env_cfg.num_thread", r"did you mean num_threads"),
    ],
)
def test_what_exists_nowhere_is_refused_and_nothing_changes(config, name, message):
    before = copy.deepcopy(config.to_dict())
    with pytest.raises(ConfigError, match=message):
        change_config(config, {"train_cfg.max_epochs": 9, name: 7})
    assert config.to_dict() == before


def test_values_of_lists_and_tuples(config):
    change_config(config, {"param_scheduler.0.milestones.1": 9, "optim_wrapper.optimizer.betas.0": 0.8})
    assert config.param_scheduler[0].milestones == [3, 9]
    assert config.optim_wrapper.optimizer.betas == (0.8, 0.99)


def test_a_dict_is_merged_and_may_replace(config):
    change_config(config, {"model.head": {"num_classes": 3, "topk": (1, 5)}})
    assert config.model.head == {"type": "LinearClsHead", "num_classes": 3, "topk": (1, 5)}
    change_config(config, {"model.head": {"_delete_": True, "type": "ClsHead"}})
    assert config.model.head == {"type": "ClsHead"}


def test_a_new_type_brings_its_own_arguments(config):
    new = {"model.backbone.type": "VisionTransformer", "model.backbone.patch_size": 8}
    change_config(config, {**new, "default_hooks.ema.momentum": 0.1, "default_hooks.ema.type": "EMAHook"})
    assert (config.model.backbone.patch_size, config.default_hooks.ema.momentum) == (8, 0.1)
    with pytest.raises(ConfigError, match=r"model\.backbone has no 'drop_rate'"):
        change_config(config, {"model.backbone.type": "ResNet", "model.backbone.drop_rate": 0.1})
