"""mmengine's Runner, with our registries, our checkpoints and a readable log."""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as _Runner
from mmengine.visualization import Visualizer as _Visualizer
from torch import nn
from torch.utils.data import DataLoader

from framework.config import without_pretrain
from framework.engine import resume, saving
from framework.engine.acceleration import compile_model, use_channels_last
from framework.engine.checks import check_classes, check_fields, check_schedulers
from framework.engine.console import ConsoleHandler, package_log_to
from framework.engine.dataloader import build_dataloader
from framework.engine.distributed import spread_model, start_processes
from framework.engine.header import describe_run
from framework.engine.sharded import build_model, is_sharded
from framework.engine.writer import Writer
from framework.errors import ConfigError
from framework.pretrain.nested import build_below
from framework.registry import (
    HOOKS,
    LOOPS,
    METRICS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    RUNNERS,
    SCOPE,
    VISUALIZERS,
)

#: Hooks of every run, by the name under which `default_hooks` of a config replaces them or (None) drops them.
DEFAULT_HOOKS: dict[str, dict[str, Any]] = {
    "runtime_info": {"type": "RuntimeInfoHook"},
    "timer": {"type": "IterTimerHook"},
    "sampler_seed": {"type": "SeedHook"},
    "logger": {"type": "LoggerHook"},
    "param_scheduler": {"type": "ParamSchedulerHook"},
    "loss_check": {"type": "LossCheckHook"},
    "checkpoint": {"type": "CheckpointHook", "interval": 1},
}


@RUNNERS.register_module()
class Runner(_Runner):
    """Trains and tests a model. The arguments are those of `mmengine.runner.Runner`.

    What differs: every part is built by this project's registries, whatever the default scope, so that
    `pretrain` works at every level of `model`. `load_from` takes whatever `pretrain` takes. Checkpoints hold
    plain values, are written whole or not at all, and resume together with the random generators. Without a
    GPU, several processes train through gloo.
    """

    optim_wrapper: Any
    param_schedulers: Any
    _has_loaded: bool
    _timestamp: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("default_scope", SCOPE)
        self._hooks_ran = self._compiled = False
        self.writer = Writer()
        self.resumed_from = ""
        self.start: resume.Start | None = None
        call = inspect.signature(_Runner.__init__).bind(self, *args, **kwargs)
        given = call.arguments | call.arguments.get("kwargs", {})
        self._start_from = given.get("load_from")
        self._starts_again = bool(given.get("resume"))
        check_fields(given)
        check_schedulers(given.get("param_scheduler"))
        saving.check_writable(given["work_dir"])
        try:
            super().__init__(*args, **kwargs)
        except BaseException:
            self._close_log()
            raise

    @classmethod
    def from_cfg(cls, cfg: Mapping[str, Any]) -> Runner:
        """Build a runner from a config, which is not changed."""
        missing = [name for name in ("model", "work_dir") if cfg.get(name) is None]
        if missing:
            raise ConfigError(f"A runner's config lacks {' and '.join(missing)}")
        own = copy.deepcopy(cfg)
        own.setdefault("default_scope", SCOPE)  # type: ignore[attr-defined]
        return super().from_cfg(own)

    @property
    def is_training(self) -> bool:
        """Whether the training loop has been built."""
        return isinstance(self._train_loop, BaseLoop)

    # Building ---------------------------------------------------------------------------------------------

    def build_model(self, model: nn.Module | Mapping[str, Any]) -> nn.Module:
        """Build the model; what its parts load is logged."""
        if isinstance(model, nn.Module):
            return model
        if self.start is not None:
            model = without_pretrain(model)  # what a resume overwrites is not fetched
        wrapper = self.cfg.get("model_wrapper_cfg") if self.distributed else None
        with package_log_to(self.logger):
            if self._load_from is None or self._resume or wrapper is not None:
                built = build_model(model, wrapper)
            else:
                built = build_below(lambda: build_model(model, None), self._load_from, "load_from")
        return use_channels_last(built) if self.cfg.get("channels_last") else built

    def build_optim_wrapper(self, optim_wrapper: Any) -> OptimWrapper:
        """Build the optimiser and its wrapper for the model."""
        if not isinstance(optim_wrapper, Mapping) or not isinstance(optim_wrapper.get("optimizer"), Mapping):
            return super().build_optim_wrapper(optim_wrapper)
        config = copy.deepcopy(dict(optim_wrapper))
        constructor = config.pop("constructor", "DefaultOptimWrapperConstructor")
        paramwise = config.pop("paramwise_cfg", None)
        config["type"] = _class(OPTIM_WRAPPERS, config.get("type", "OptimWrapper"))
        config["optimizer"]["type"] = _class(OPTIMIZERS, config["optimizer"].get("type"))
        build = {"type": constructor, "optim_wrapper_cfg": config, "paramwise_cfg": paramwise}
        return OPTIM_WRAPPER_CONSTRUCTORS.build(build)(self.model)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Build the schedules.

        Raises:
            ConfigError: A schedule ends before it begins, or has other values that it cannot have.
        """
        try:
            return super().build_param_scheduler(scheduler)
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(
                f"param_scheduler: {error} (in iterations, where convert_to_iter_based=True). A training "
                "that is made shorter needs shorter schedules, each with begin < end"
            ) from error

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader[Any] | Mapping[str, Any], seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader[Any]:
        """Build a data loader; see `framework.engine.dataloader`."""
        if isinstance(dataloader, DataLoader):
            return dataloader
        return build_dataloader(dataloader, seed, diff_rank_seed=diff_rank_seed)

    def build_train_loop(self, loop: BaseLoop | Mapping[str, Any]) -> BaseLoop:
        """Build the training loop from `dict(by_epoch=..., max_epochs=...)` or a dict with `type`."""
        if isinstance(loop, BaseLoop):
            return loop
        options = dict(loop)
        by_epoch = options.pop("by_epoch", "max_iters" not in options)
        options.setdefault("type", "EpochBasedTrainLoop" if by_epoch else "IterBasedTrainLoop")
        built = LOOPS.build(options, default_args={"runner": self, "dataloader": self._train_dataloader})
        check_classes(self.bare_model, built.dataloader.dataset)
        return built

    def build_val_loop(self, loop: BaseLoop | Mapping[str, Any]) -> BaseLoop:
        """Build the validation loop."""
        defaults = {"dataloader": self._val_dataloader, "evaluator": self._val_evaluator}
        return self._build_eval_loop(loop, "ValLoop", defaults)

    def build_test_loop(self, loop: BaseLoop | Mapping[str, Any]) -> BaseLoop:
        """Build the test loop."""
        defaults = {"dataloader": self._test_dataloader, "evaluator": self._test_evaluator}
        return self._build_eval_loop(loop, "TestLoop", defaults)

    def _build_eval_loop(self, loop: Any, default: str, defaults: dict[str, Any]) -> BaseLoop:
        if isinstance(loop, BaseLoop):
            return loop
        return LOOPS.build({"type": default, **loop}, default_args={"runner": self, **defaults})

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        """Build the evaluator from a metric's dict, a list of them, or `dict(metrics=[...])`."""
        if isinstance(evaluator, Evaluator):
            return evaluator
        metrics = evaluator.get("metrics", evaluator) if isinstance(evaluator, Mapping) else evaluator
        metrics = [metrics] if isinstance(metrics, Mapping) else list(metrics)
        return Evaluator([METRICS.build(m) if isinstance(m, Mapping) else m for m in metrics])

    def build_visualizer(self, visualizer: Any = None) -> _Visualizer:
        """Build what the curves are sent to; by default a file in the log folder."""
        if isinstance(visualizer, _Visualizer):
            return visualizer
        backends = {"vis_backends": [{"type": "LocalVisBackend"}]}
        own = {"type": "Visualizer", "name": self._experiment_name, "save_dir": self._log_dir}
        return VISUALIZERS.build({**own, **(backends if visualizer is None else visualizer)})

    def register_hook(self, hook: Hook | dict[str, Any], priority: Any = None) -> None:
        """Add a hook, built by `HOOKS` if it is a dict, in the order of the priorities."""
        if isinstance(hook, Mapping):
            options = dict(hook)
            priority = options.pop("priority", None) if priority is None else priority
            hook = HOOKS.build(options)
        super().register_hook(hook, priority)

    def register_default_hooks(self, hooks: Mapping[str, Any] | None = None) -> None:
        """Add `DEFAULT_HOOKS`, changed and extended by `hooks`."""
        for name, hook in {**DEFAULT_HOOKS, **(hooks or {})}.items():
            if isinstance(hook, Mapping) and "type" not in hook:
                hook = {**DEFAULT_HOOKS.get(name, {}), **hook}
            if hook is not None:
                self.register_hook(hook)

    # Environment ------------------------------------------------------------------------------------------

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Prepare processes and devices, then read what they resume from, before anything else is built.

        Args:
            env_cfg: See `framework.engine.distributed.start_processes`.
        """
        start_processes(env_cfg, self.launcher)
        with warnings.catch_warnings():  # the log says how many threads there are
            warnings.filterwarnings("ignore", "Setting (OMP|MKL)_NUM_THREADS", UserWarning)
            super().setup_env(env_cfg)
        self._timestamp = _unused(self._timestamp)
        if self._starts_again:
            self.start = resume.find_start(self.work_dir, self._start_from)

    def set_randomness(
        self, seed: int | None = None, diff_rank_seed: bool = False, deterministic: bool = False
    ) -> None:
        """Seed the generators; a run that goes on keeps its seed.

        Args:
            seed: The seed. Default: the processes draw one.
            diff_rank_seed: Whether each process has a seed of its own.
            deterministic: Whether operations on GPUs are to be deterministic.
        """
        own = None if self.start is None else self.start.state["meta"].get("seed")
        super().set_randomness(seed if own is None else own, diff_rank_seed, deterministic)

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Move the model to its device, and spread it over the processes; see `spread_model`."""
        return spread_model(model, model_wrapper_cfg, self.cfg, launched=self.distributed)

    def _init_model_weights(self) -> None:
        """Call `init_weights`, unless that was done before the parameters were spread over the processes."""
        if not is_sharded(self.model):
            super()._init_model_weights()

    def build_logger(
        self, log_level: int | str = "INFO", log_file: str | None = None, **kwargs: Any
    ) -> MMLogger:
        """Make the logger: everything to a file, what is short to the console."""
        logger = super().build_logger(log_level, log_file, logger_name=SCOPE, **kwargs)
        stream = next((h for h in logger.handlers if type(h) is logging.StreamHandler), None)
        if stream is not None:
            logger.handlers[logger.handlers.index(stream)] = ConsoleHandler(stream.formatter, stream.level)
        return logger

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """Log what is needed to repeat the run."""
        self.logger.info(describe_run(self.cfg, self.seed, self.world_size))
        self.logger.info(f"Log in {self.log_dir}")
        self.logger.info(
            f"Environment: {dict(env_cfg)}, {self._randomness_cfg}\nConfig:\n{self.cfg.pretty_text}"
        )

    # Running ----------------------------------------------------------------------------------------------

    def train(self) -> nn.Module:
        """Train; when this ends, in whatever way, nothing is being written any more."""
        try:
            return super().train()
        finally:
            self.writer.wait()

    def _maybe_compile(self, target: str) -> None:
        """Compile the model if the config says so, for the training or for `target`, a step without one."""
        options = self.cfg.get("compile")
        if options not in (None, False) and not self._compiled:
            compile_model(self.bare_model, options)
            self._compiled = True
            self.logger.info("The model is compiled at its first call, which takes a while")

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks. A test after the training belongs to the same run: no second `before_run`."""
        if fn_name == "before_run":
            if self._hooks_ran:
                return
            self._hooks_ran = True
        super().call_hook(fn_name, **kwargs)

    def load_or_resume(self) -> None:
        """Resume, from `load_from` or else the work dir's last checkpoint; or load its weights."""
        resume.load_or_resume(self)

    def load_weights(self, pretrain: Any) -> None:
        """Load weights into the model.

        Args:
            pretrain: Whatever a `pretrain` field may hold.
        """
        resume.load_weights(self, pretrain)

    @cached_property
    def config_text(self) -> str:
        """The config as the run found it; to write it takes long."""
        return self.cfg.pretty_text

    @property
    def bare_model(self) -> nn.Module:
        """The model without a wrapper for several processes."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def resume(
        self, filename: str, resume_optimizer: bool = True, resume_param_scheduler: bool = True
    ) -> None:
        """Go on where the run that wrote `filename` stood.

        Args:
            filename: A checkpoint of this project, or of mmengine.
            resume_optimizer: Whether the optimiser's state is restored, too.
            resume_param_scheduler: Whether the schedulers' state is restored, too.

        Raises:
            PretrainError: The file is missing, damaged, or no training checkpoint of this project.
        """
        resume.restore(self, filename, optimizer=resume_optimizer, schedulers=resume_param_scheduler)

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        *,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a checkpoint, and wait until it is on the disk. Every process must call this.

        Args:
            out_dir: A folder that exists.
            filename: Name of the file.
            save_optimizer: Whether the optimiser's state is part of it.
            save_param_scheduler: Whether the schedulers' state is part of it.
            meta: `epoch` and `iter`: how many are done.
        """
        path = Path(out_dir, filename)
        saving.save(self, path, optimizer=save_optimizer, schedulers=save_param_scheduler, meta=meta)

    def close(self) -> None:
        """Wait until nothing is being written, and close the visualiser and the log file."""
        try:
            self.writer.wait()
        finally:
            self.visualizer.close()
            self._close_log()

    def _close_log(self) -> None:
        for handler in self.logger.handlers if hasattr(self, "logger") else ():
            handler.close()


def _unused(timestamp: str) -> str:
    """Make the name of a run differ from those of the same second, whose logs it would share."""
    names = [name for name in MessageHub._instance_dict if timestamp in name]
    return f"{timestamp}_{len(names)}" if names else timestamp


def _class(registry: Any, name: Any) -> Any:
    """Look a type up before mmengine does, so that the default scope does not matter; it words the errors."""
    return (registry.get(name) or name) if isinstance(name, str) else name
