"""What a caller sets besides the config, and how each setting changes the config."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from framework.errors import ConfigError
from framework.registry import OPTIMIZERS

#: Share of the new weights in an average of weights, mmengine's default.
EMA_MOMENTUM = 0.0002


@dataclass(frozen=True)
class Options:
    """What a caller sets besides the config.

    Attributes:
        work_dir: Folder of checkpoints and logs. Default: the config's, or `work_dirs/<name of the config>`.
        changes: Dotted names of the config and new values.
        resume: True: go on with the last checkpoint of the work dir, if there is one; a path: with that one.
        amp: Whether to train in mixed precision.
        seed: Seed of the run.
        launcher: 'none', 'pytorch' (torchrun), 'slurm' or 'mpi'.
        compile: Whether to compile the model with `torch.compile`.
        channels_last: Whether images and the weights of convolutions lie in memory with the channels last.
        fused: Whether the optimiser updates all parameters in one kernel.
        accumulate: Iterations whose gradients are added up before a step.
        clip: Largest norm of the gradients; larger ones are scaled down to it.
        ema: Share of the new weights in an average of the weights that is validated and tested; True for
            the default of mmengine, 0.0002.
    """

    work_dir: str | Path | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    resume: bool | str | Path = False
    amp: bool = False
    seed: int | None = None
    launcher: str = "none"
    compile: bool = False
    channels_last: bool = False
    fused: bool = False
    accumulate: int | None = None
    clip: float | None = None
    ema: bool | float = False


def apply_options(cfg: Config, options: Options) -> None:
    """Write into a config what the options say about speed and precision.

    Raises:
        ConfigError: An option does not fit the config; nothing is trained then.
    """
    if options.amp:
        _set_amp(cfg)
    if options.compile:
        cfg.compile = cfg.get("compile") or True
    if options.channels_last:
        cfg.channels_last = True
    if options.fused:
        _set_fused(cfg)
    if options.accumulate is not None:
        if options.accumulate < 1:
            raise ConfigError(f"Gradients are accumulated over 1 iteration or more, got {options.accumulate}")
        cfg.optim_wrapper.accumulative_counts = options.accumulate
    if options.clip is not None:
        if not options.clip > 0:
            raise ConfigError(f"The largest norm of the gradients must be above 0, got {options.clip}")
        cfg.optim_wrapper.clip_grad = ConfigDict(max_norm=options.clip)
    if options.ema is not False:
        _set_ema(cfg, EMA_MOMENTUM if options.ema is True else options.ema)


def _set_amp(cfg: Config) -> None:
    kind = cfg.optim_wrapper.get("type", "OptimWrapper")
    if kind not in ("OptimWrapper", "AmpOptimWrapper"):
        raise ConfigError(f"Mixed precision replaces OptimWrapper, but optim_wrapper.type is {kind}")
    cfg.optim_wrapper.type = "AmpOptimWrapper"


def _set_fused(cfg: Config) -> None:
    kind = cfg.optim_wrapper.get("optimizer", {}).get("type")
    target = OPTIMIZERS.get(kind) if isinstance(kind, str) else kind
    if target is None or "fused" not in inspect.signature(target).parameters:
        known = [name for name in ("Adam", "AdamW", "SGD", "Adagrad") if name != kind]
        raise ConfigError(f"The optimiser {kind} has no fused form; {', '.join(known)} have one")
    cfg.optim_wrapper.optimizer.fused = True


def _set_ema(cfg: Config, momentum: float) -> None:
    if not 0 < momentum < 1:
        raise ConfigError(f"The share of the new weights in the average is between 0 and 1, got {momentum}")
    hooks = list(cfg.get("custom_hooks") or [])
    own = next((hook for hook in hooks if str(hook.get("type")).endswith("EMAHook")), None)
    if own is None:
        hooks.append(ConfigDict(type="EMAHook"))
        own = hooks[-1]
    own["momentum"] = momentum
    cfg.custom_hooks = hooks
