"""The command lines of `tools/train.py` and `tools/test.py`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from mmengine.config import DictAction

from framework.datasets import DatasetError
from framework.engine.run import Options, evaluate, summary, train
from framework.errors import ConfigError
from framework.pretrain.errors import PretrainError

LAUNCHERS = ("none", "pytorch", "slurm", "mpi")


def main(command: Callable[[], str]) -> None:
    """Run a command and print its result. An error that the user can mend is printed without a traceback."""
    try:
        result = command()
    except (ConfigError, DatasetError, PretrainError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    sys.stdout.write(f"{result}\n")


def train_command(arguments: Sequence[str] | None = None) -> str:
    """Train as the command line says; return the test metrics in one line."""
    parser = _parser("Train a model, then test it.")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="PATH",
        help="go on with the last checkpoint of the work dir, or with this one",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision (bfloat16 on the CPU)")
    parser.add_argument("--seed", type=int, help="seed of the run")
    given = parser.parse_args(arguments)
    options = Options(given.work_dir, given.cfg_options, given.resume, given.amp, given.seed, given.launcher)
    return summary(train(given.config, options))


def test_command(arguments: Sequence[str] | None = None) -> str:
    """Test as the command line says; return the metrics in one line."""
    parser = _parser("Test a model.")
    parser.add_argument("checkpoint", help="weights of the whole model: a path or an address")
    given = parser.parse_args(arguments)
    options = Options(given.work_dir, given.cfg_options, launcher=given.launcher)
    return summary(evaluate(given.config, given.checkpoint, options))


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="folder of checkpoints and logs")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        default={},
        metavar="NAME=VALUE",
        help="change the config, e.g. model.pretrain=weights.pth optim_wrapper.optimizer.lr=0.1",
    )
    parser.add_argument("--launcher", choices=LAUNCHERS, default="none", help="how processes were started")
    return parser
