from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch
from mmengine.hooks import Hook
from torch import nn

from framework import MODELS
from framework.engine import Options, acceleration, read_checkpoint, train
from framework.engine.acceleration import keep_freed_memory, use_channels_last
from framework.engine.options import apply_options
from framework.errors import ConfigError

RESNET = {
    "type": "Classifier",
    "data_preprocessor": {"mean": [78.0], "std": [96.0]},
    "backbone": {"type": "ResNet", "depth": 18, "in_channels": 1, "stem_channels": 8, "base_channels": 8},
    "neck": {"type": "GlobalAveragePooling"},
    "head": {"type": "LinearClsHead", "num_classes": 10, "in_channels": 64},
}


class Spy(Hook):
    """What the first iteration works with."""

    def before_train(self, runner):
        self.start = {name: value.clone() for name, value in runner.bare_model.state_dict().items()}
        self.module = next(m for m in runner.bare_model.modules() if isinstance(m, nn.Conv2d))
        self.module.register_forward_pre_hook(self.look)
        self.layouts = []

    def look(self, module, inputs):
        self.layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.loss = outputs["loss"].item()


@pytest.fixture
def one_epoch(make_runner, tmp_path):
    """Train one epoch from the same weights; give the hook and the checkpoint's weights."""

    def run(cfg, **changes):
        torch.manual_seed(2)
        start = MODELS.build(cfg).state_dict()
        torch.save(start, tmp_path / "start.pth")
        spy = Spy()
        changes = {"train_cfg": {"by_epoch": True, "max_epochs": 1}, "val_cfg": None, **changes}
        changes |= {"val_dataloader": None, "val_evaluator": None}
        runner = make_runner(spy, model=cfg, load_from=str(tmp_path / "start.pth"), **changes)
        runner.train()
        state = read_checkpoint(f"{runner.work_dir}/epoch_1.pth")["state_dict"]
        assert list(state) == list(start)
        assert all(torch.equal(spy.start[name], value) for name, value in start.items())
        return spy, state

    return run


def test_a_compiled_model_keeps_its_weights_and_names(one_epoch, model):
    cfg = model()
    cfg["backbone"]["drop_rate"] = 0.0
    data = {"batch_size": 60, "dataset": {"type": "Digits", "test_size": 1677}}  # batches of one size
    plain, expected = one_epoch(cfg, train_dataloader=data)
    compiled, state = one_epoch(cfg, train_dataloader=data, compile={"backend": "eager"})
    assert plain.loss == pytest.approx(compiled.loss, rel=1e-4)
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_the_layout_changes_nothing_but_the_layout(one_epoch):
    plain, _ = one_epoch(RESNET)
    spy, _ = one_epoch(RESNET, channels_last=True)
    assert spy.module.weight.is_contiguous(memory_format=torch.channels_last) and all(spy.layouts)
    assert plain.loss == pytest.approx(spy.loss, rel=1e-3)


def test_every_layer_gets_and_every_weight_has_the_layout():
    model = use_channels_last(MODELS.build(RESNET))
    seen = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(
                lambda _, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
            )
    batch = model.data_preprocessor(
        {"inputs": torch.zeros(2, 1, 16, 16), "labels": torch.tensor([1, 2])}, True
    )
    model(**batch, mode="loss")
    assert len(seen) > 15 and all(seen)


def test_what_compile_may_be(make_runner):
    with pytest.raises(ConfigError, match=r"compile: expected True, False or arguments .* got 'fast'"):
        make_runner(compile="fast").train()
    with pytest.raises(ConfigError, match=r"torch\.compile does not accept \{'mod': 'x'\}"):
        make_runner(compile={"mod": "x"}).train()


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_every_option_in_one_run(config, tmp_path, optimizer):
    cfg = config(optim_wrapper={"optimizer": {"type": optimizer, "lr": 1e-3}})
    cfg.dump(tmp_path / "tiny.py")
    speed = {"amp": True, "channels_last": True, "fused": True, "accumulate": 2, "clip": 0.5, "ema": 0.1}
    metrics = train(tmp_path / "tiny.py", Options(changes={"train_cfg.max_epochs": 1}, **speed))
    assert set(metrics) == {"accuracy/top1", "accuracy/top5"}
    saved = read_checkpoint(tmp_path / "run" / "epoch_1.pth")
    assert saved["optimizer"]["param_groups"][0]["fused"] is True
    norms = saved["message_hub"]["log_scalars"]["train/grad_norm"]["values"]
    assert len(norms) == 2 and (norms > 0).all()  # four iterations, a step every second
    assert "ema_state_dict" in saved


def test_what_an_option_writes_into_the_config(config):
    cfg = config(custom_hooks=[{"type": "EMAHook", "begin_epoch": 2}])
    apply_options(cfg, Options(amp=True, clip=1.5, accumulate=3, ema=0.01, compile=True))
    assert cfg.optim_wrapper.type == "AmpOptimWrapper"
    assert (cfg.optim_wrapper.clip_grad.max_norm, cfg.optim_wrapper.accumulative_counts) == (1.5, 3)
    assert cfg.custom_hooks == [{"type": "EMAHook", "begin_epoch": 2, "momentum": 0.01}]
    assert cfg.compile is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 0}, "over 1 iteration or more, got 0"),
        ({"clip": -1.0}, r"must be above 0, got -1\.0"),
        ({"ema": 2.0}, r"between 0 and 1, got 2\.0"),
        ({"fused": True}, "The optimiser LBFGS has no fused form; Adam, AdamW, SGD, Adagrad have one"),
    ],
)
def test_options_that_make_no_sense(config, options, message):
    cfg = config(optim_wrapper={"optimizer": {"type": "LBFGS", "lr": 1e-3}})
    with pytest.raises(ConfigError, match=message):
        apply_options(cfg, Options(**options))


def page_faults(prepare: str) -> int:
    """Return the page faults of 20 rounds that use 40 MiB in blocks of 2 MiB; the last one is freed first."""
    code = f"""
import os, resource, runpy
import torch
keep_freed_memory = runpy.run_path({acceleration.__file__!r})["keep_freed_memory"]
{prepare}
def use():
    blocks = [torch.ones(2**19) for _ in range(20)]
    while blocks:
        blocks.pop()
use(), use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_that_is_free_between_iterations_is_kept():
    # without it there may be 200,000, or few where something lies at the end of the heap by chance
    assert page_faults("assert keep_freed_memory(os.environ)") < 1_000


def test_a_users_own_choice_of_the_allocator_counts():
    assert not keep_freed_memory({"MALLOC_TRIM_THRESHOLD_": "100000"})
    assert not keep_freed_memory({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=100000"})
