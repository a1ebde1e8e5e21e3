from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from torch import nn

from framework import MODELS
from framework.engine import AmpOptimWrapper
from framework.errors import ConfigError
from framework.pretrain.errors import CoverageError


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def log_of(runner):
    return Path(runner.log_dir, f"{runner.timestamp}.log").read_text()


class Losses(Hook):
    def __init__(self):
        self.values, self.batches, self.weights = [], [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.weights.append(weights(runner.model))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.values.append(outputs["loss"].item())
        self.batches.append(data_batch["labels"].tolist())


def test_a_run_learns_validates_tests_and_logs(make_runner):
    losses = Losses()
    runner = make_runner(losses, train_cfg=dict(by_epoch=True, max_epochs=8))
    runner.train()
    metrics = runner.test()
    assert len(losses.values) == 8 * 4
    assert sum(losses.values[-4:]) < 0.9 * sum(losses.values[:4])
    assert set(metrics) == {"accuracy/top1", "accuracy/top5"}
    assert 0.2 < metrics["accuracy/top1"] <= metrics["accuracy/top5"] <= 1
    log = log_of(runner)
    assert f"accuracy/top1: {metrics['accuracy/top1']:.4f}" in log
    assert "lr: " in log and "eta: " in log and "loss: " in log
    assert json.loads(Path(runner.log_dir, "test.json").read_text()) == metrics
    curve = Path(runner.log_dir, "vis_data", "scalars.json").read_text().splitlines()
    assert [json.loads(line)["step"] for line in curve if "loss" in line][:2] == [2, 4]


def test_nothing_in_the_log_speaks_of_what_the_user_cannot_change(make_runner):
    runner = make_runner()
    runner.train()
    runner.test()
    log = log_of(runner)
    for noise in ("WARNING", "deprecated", "FileClient", "HardDiskBackend", "prefix is not set"):
        assert noise not in log


def test_the_reported_accuracy_is_that_of_the_model(make_runner):
    runner = make_runner()
    runner.train()
    metrics = runner.test()
    dataset = runner.test_dataloader.dataset
    model = runner.model.eval()
    with torch.no_grad():
        scores = model((dataset.images - 78.0) / 96.0)
    right = (scores.argmax(1) == torch.tensor(dataset.labels)).float().mean()
    assert metrics["accuracy/top1"] == pytest.approx(float(right))


@pytest.fixture
def backbone_file(model, tmp_path):
    torch.manual_seed(7)
    backbone = MODELS.build(model()["backbone"])
    path = tmp_path / "backbone.pth"
    torch.save(backbone.state_dict(), path)
    return path


@pytest.mark.parametrize("scope", ["framework", "mmengine"])
def test_weights_named_in_the_config_are_there_at_the_first_step(make_runner, model, backbone_file, scope):
    losses = Losses()
    cfg = model()
    cfg["backbone"]["pretrain"] = str(backbone_file)
    cfg["head"]["init_cfg"] = dict(type="Constant", layer="Linear", val=0.5)
    runner = make_runner(losses, model=cfg, default_scope=scope)
    assert DefaultScope.get_current_instance().scope_name == scope
    runner.train()
    expected = torch.load(backbone_file, weights_only=True)
    for name, value in expected.items():
        assert torch.equal(losses.weights[0][f"backbone.{name}"], value), name
    assert (losses.weights[0]["head.fc.weight"] == 0.5).all()
    assert str(backbone_file) in log_of(runner)


def test_load_from_beats_pretrain_and_takes_any_form(make_runner, model, backbone_file, tmp_path):
    torch.manual_seed(8)
    other = MODELS.build(model())
    torch.save({"state_dict": nn.DataParallel(other).state_dict()}, tmp_path / "other.pth")
    losses = Losses()
    cfg = model()
    cfg["backbone"]["pretrain"] = str(backbone_file)
    make_runner(losses, model=cfg, load_from=str(tmp_path / "other.pth")).train()
    for name, value in other.state_dict().items():
        assert torch.equal(losses.weights[0][name], value), name


def test_load_from_a_file_that_does_not_fit_is_an_error(make_runner, tmp_path):
    torch.save({"fc.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(CoverageError):
        make_runner(load_from=str(tmp_path / "other.pth")).train()


def test_the_config_is_not_changed(config):
    from framework.engine import Runner

    cfg = config(custom_hooks=[dict(type="EMAHook", priority="LOW")])
    before = copy.deepcopy(cfg.to_dict())
    runner = Runner.from_cfg(cfg)
    runner.train()
    runner.close()
    assert cfg.to_dict() == before


def test_the_test_after_the_training_uses_the_averaged_weights(make_runner):
    runner = make_runner(custom_hooks=[dict(type="EMAHook", momentum=0.9)])
    runner.train()
    average = next(hook for hook in runner.hooks if type(hook).__name__ == "EMAHook").ema_model
    seen = {}
    runner.register_hook(_Spy(seen))
    runner.test()
    for name, value in average.module.state_dict().items():
        assert torch.equal(seen["weights"][name], value), name


class _Spy(Hook):
    def __init__(self, seen):
        self.seen = seen

    def before_test_iter(self, runner, batch_idx, data_batch=None):
        self.seen["weights"] = weights(runner.model)


def test_unknown_parts_name_the_nearest(make_runner):
    with pytest.raises(ConfigError, match="no hook called 'LogerHook': did you mean LoggerHook"):
        make_runner(custom_hooks=[dict(type="LogerHook")])
    with pytest.raises(ConfigError, match="did you mean interval"):
        make_runner(default_hooks=dict(checkpoint=dict(type="CheckpointHook", intervall=3)))
    with pytest.raises(ConfigError, match="did you mean Accuracy"):
        make_runner(test_evaluator=dict(type="Acuracy")).test()
    loader = dict(dataset=dict(type="Digits"), bach_size=3)
    with pytest.raises(ConfigError, match=r"does not accept its config.*bach_size"):
        make_runner(train_dataloader=loader).train()
    with pytest.raises(ConfigError, match="needs a dataset"):
        make_runner(train_dataloader=dict(batch_size=3)).train()


def test_a_schedule_that_ends_before_it_begins_is_named(make_runner):
    schedule = dict(type="CosineAnnealingLR", by_epoch=True, begin=5, end=3, convert_to_iter_based=True)
    runner = make_runner(param_scheduler=[schedule])
    with pytest.raises(ConfigError, match=r"param_scheduler: .*begin=\d+, end=\d+ .* shorter schedules"):
        runner.train()


def test_workers_and_iteration_based_training(make_runner):
    losses = Losses()
    loader = dict(batch_size=50, num_workers=1, dataset=dict(type="Digits", test_size=1677))
    cfg = dict(by_epoch=False, max_iters=7, val_interval=5)
    hooks = dict(
        logger=dict(type="LoggerHook"), checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=4)
    )
    runner = make_runner(
        losses, train_dataloader=loader, train_cfg=cfg, default_hooks=hooks, param_scheduler=None
    )
    runner.train()
    assert len(losses.values) == 7
    assert [len(batch) for batch in losses.batches] == [50, 50, 20, 50, 50, 20, 50]
    assert losses.batches[0] == losses.batches[3]
    assert sorted(path.name for path in Path(runner.work_dir).glob("*.pth")) == ["iter_4.pth", "iter_7.pth"]


def test_mixed_precision_on_the_cpu_is_bfloat16(make_runner):
    dtypes = []

    class Spy(Hook):
        def before_run(self, runner):
            runner.model.head.register_forward_hook(
                lambda module, inputs, output: dtypes.append(output.dtype)
            )

    losses = Losses()
    wrapper = dict(
        type="AmpOptimWrapper", optimizer=dict(type="AdamW", lr=3e-3), clip_grad=dict(max_norm=1.0)
    )
    runner = make_runner(Spy(), losses, optim_wrapper=wrapper, train_cfg=dict(by_epoch=True, max_epochs=2))
    runner.train()
    assert type(runner.optim_wrapper) is AmpOptimWrapper
    assert dtypes[0] == torch.bfloat16
    assert {value.dtype for value in runner.model.state_dict().values()} == {torch.float32}
    assert losses.values[-1] < losses.values[0]


def test_mixed_precision_knows_its_dtypes(make_runner):
    wrapper = dict(type="AmpOptimWrapper", dtype="int8", optimizer=dict(type="SGD", lr=0.1))
    with pytest.raises(ConfigError, match="dtype is one of float16, bfloat16, got 'int8'"):
        make_runner(optim_wrapper=wrapper).train()


def test_two_runs_in_one_second_share_nothing(make_runner):
    first, second = make_runner(), make_runner()
    assert first.log_dir != second.log_dir
    assert first.message_hub is not second.message_hub


def test_the_number_of_threads_comes_from_the_config(make_runner):
    torch.set_num_threads(1)
    make_runner(env_cfg=dict(num_threads=2))
    assert torch.get_num_threads() == 2
