"""Training and testing, from a config file to the final metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config

from framework.config import load_config, without_pretrain
from framework.engine.interrupt import InterruptHook
from framework.engine.options import Options, apply_options
from framework.engine.resume import checkpoints_of
from framework.engine.runner import Runner
from framework.errors import ConfigError


def train(config: str | Path, options: Options | None = None) -> dict[str, float]:
    """Train a model, then test it if the config says how.

    Args:
        config: A config file.
        options: What to change.

    Returns:
        The metrics of the test, or {} without one.

    Raises:
        ConfigError: The config or a change to it is wrong.
        PretrainError: Weights or checkpoint cannot be had, or do not fit.
        Interrupted: Ctrl-C or a termination; the training was saved before.
    """
    cfg = _training(config, options or Options())
    runner = Runner.from_cfg(cfg)
    interrupt = InterruptHook()
    runner.register_hook(interrupt)
    try:
        runner.train()
        interrupt.release()
        return runner.test() if cfg.get("test_cfg") is not None else {}
    finally:
        interrupt.release()
        runner.close()


def plan(config: str | Path, options: Options | None = None) -> str:
    """Do the first iteration of a training and forget it; nothing is written.

    Args:
        config: A config file.
        options: What to change.

    Returns:
        The plan of the run: data, model and its weights, optimiser, schedule, checkpoints.

    Raises:
        ConfigError: The config or a change to it is wrong.
        PretrainError: Weights or checkpoint cannot be had, or do not fit.
    """
    from framework.engine.dry_run import dry_run

    return dry_run(_training(config, options or Options()))


def evaluate(config: str | Path, checkpoint: str | Path, options: Options | None = None) -> dict[str, float]:
    """Test a model.

    Args:
        config: A config file.
        checkpoint: Weights for the whole model, in any form that `pretrain` takes.
        options: What to change.

    Returns:
        The metrics.

    Raises:
        ConfigError: The config or a change to it is wrong.
        PretrainError: The checkpoint cannot be had, or leaves a parameter of the model without a value.
    """
    cfg = _prepared(config, options or Options())
    if cfg.get("test_cfg") is None:
        raise ConfigError(f"{config} has no test_cfg, so it cannot be tested with")
    cfg.model = without_pretrain(cfg.model)
    cfg.update({"load_from": {"path": str(checkpoint), "min_coverage": 1.0}, "resume": False})
    runner = Runner.from_cfg(cfg)
    try:
        return runner.test()
    finally:
        runner.close()


def summary(metrics: Mapping[str, float]) -> str:
    """Return the test metrics in one line, such as 'test accuracy: 0.9870 (top-5: 0.9990)'."""
    if not metrics:
        return "no test: the config has no test_cfg"
    names = {name: name.replace("accuracy/top", "top-") for name in metrics}
    values = [f"{names[name]}: {value:.4f}" for name, value in metrics.items()]
    if next(iter(metrics)) != "accuracy/top1":
        return f"test {', '.join(values)}"
    others = f" ({', '.join(values[1:])})" if len(values) > 1 else ""
    return f"test accuracy: {metrics['accuracy/top1']:.4f}{others}"


def _training(config: str | Path, options: Options) -> Config:
    cfg = _prepared(config, options)
    if cfg.get("train_cfg") is None:
        raise ConfigError(f"{config} has no train_cfg, so it cannot be trained with")
    apply_options(cfg, options)
    _set_resume(cfg, options)
    return cfg


def _prepared(config: str | Path, options: Options) -> Config:
    cfg = load_config(config, options.changes)
    cfg.launcher = options.launcher
    if options.work_dir is not None:
        cfg.work_dir = str(options.work_dir)
    elif cfg.get("work_dir") is None:
        cfg.work_dir = str(Path("work_dirs", Path(config).stem))
    if options.seed is not None:
        cfg.randomness = {**cfg.get("randomness", {}), "seed": options.seed}
    return cfg


def _set_resume(cfg: Config, options: Options) -> None:
    """Say what to resume. With nothing to resume in the work dir, `load_from` of the config counts."""
    if options.resume is True and cfg.get("load_from") and not checkpoints_of(Path(cfg.work_dir)):
        return
    if options.resume:
        cfg.resume = True
        cfg.load_from = None if options.resume is True else str(options.resume)
