"""Training and testing from a config, on mmengine's Runner."""

import framework.lean_import  # noqa: F401  # isort: skip  # before any import of mmengine.optim
from framework.config import load_config
from framework.engine.checkpoint import read_checkpoint, save_checkpoint
from framework.engine.checkpoint_hook import CheckpointHook
from framework.engine.dino_hooks import DINOFreezeLastLayerHook, DINOTeacherTempWarmupHook
from framework.engine.early_stopping import EarlyStoppingHook
from framework.engine.lars import LARS
from framework.engine.logger_hook import LoggerHook
from framework.engine.loops import EpochBasedTrainLoop, IterBasedTrainLoop, TestLoop, ValLoop
from framework.engine.loss_hook import LossCheckHook
from framework.engine.optim import AmpOptimWrapper, OptimWrapper
from framework.engine.options import Options
from framework.engine.param_groups import (
    DefaultOptimWrapperConstructor,
    LearningRateDecayOptimWrapperConstructor,
)
from framework.engine.reconstruction_hook import ReconstructionHook
from framework.engine.run import evaluate, train
from framework.engine.runner import Runner
from framework.engine.runtime_hook import IterTimerHook, ParamSchedulerHook, RuntimeInfoHook
from framework.engine.seed_hook import SeedHook
from framework.engine.selfsup_hooks import SimSiamHook, SwAVHook
from framework.engine.visualizer import Visualizer

__all__ = [
    "LARS",
    "AmpOptimWrapper",
    "CheckpointHook",
    "DINOFreezeLastLayerHook",
    "DINOTeacherTempWarmupHook",
    "DefaultOptimWrapperConstructor",
    "EarlyStoppingHook",
    "EpochBasedTrainLoop",
    "IterBasedTrainLoop",
    "IterTimerHook",
    "LearningRateDecayOptimWrapperConstructor",
    "LoggerHook",
    "LossCheckHook",
    "OptimWrapper",
    "Options",
    "ParamSchedulerHook",
    "ReconstructionHook",
    "Runner",
    "RuntimeInfoHook",
    "SeedHook",
    "SimSiamHook",
    "SwAVHook",
    "TestLoop",
    "ValLoop",
    "Visualizer",
    "evaluate",
    "load_config",
    "read_checkpoint",
    "save_checkpoint",
    "train",
]
