"""The command lines of `tools/train.py`, `tools/test.py` and `tools/plot.py`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from mmengine.config import DictAction
from mmengine.dist import is_main_process
from torch.distributed.elastic.multiprocessing.errors import record

from framework.datasets import DatasetError
from framework.engine.curves import plot_curves
from framework.engine.interrupt import Interrupted, go_on_command
from framework.engine.options import EMA_MOMENTUM, Options
from framework.engine.run import evaluate, summary, train
from framework.errors import ConfigError, SaveError
from framework.pretrain.errors import PretrainError

LAUNCHERS = ("none", "pytorch", "slurm", "mpi")


def main(command: Callable[[], str]) -> None:
    """Run a command and print its result.

    An error that the user can mend is printed without a traceback. A training that was interrupted says how
    to go on, and ends with the code of the signal, as shells know it. Started by torchrun, a process leaves
    word of its error, so that torchrun names the one that failed first.
    """
    try:
        result = record(command)()
    except (ConfigError, DatasetError, PretrainError, SaveError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except Interrupted as stop:
        if is_main_process():
            go_on = go_on_command(sys.argv, os.environ)
            sys.stderr.write(f"{stop}\nGo on with: {go_on}\n")
        sys.exit(128 + stop.signal)
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
    _add_speed(parser)
    parser.add_argument("--seed", type=int, help="seed of the run")
    given = vars(parser.parse_args(arguments))
    config = given.pop("config")
    return summary(train(config, Options(changes=given.pop("cfg_options"), **given)))


def test_command(arguments: Sequence[str] | None = None) -> str:
    """Test as the command line says; return the metrics in one line."""
    parser = _parser("Test a model.")
    parser.add_argument("checkpoint", help="weights of the whole model: a path or an address")
    given = parser.parse_args(arguments)
    options = Options(work_dir=given.work_dir, changes=given.cfg_options, launcher=given.launcher)
    return summary(evaluate(given.config, given.checkpoint, options))


def plot_command(arguments: Sequence[str] | None = None) -> str:
    """Draw curves as the command line says; return what was drawn."""
    parser = argparse.ArgumentParser(description="Draw what runs logged, over the iterations.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="work dir, or metrics.jsonl")
    parser.add_argument("-o", "--output", default="curves.png", help="the picture: .png, .svg or .pdf")
    parser.add_argument("--names", nargs="+", default=[], metavar="NAME", help="e.g. 'train loss' 'train lr'")
    given = parser.parse_args(arguments)
    return f"{given.output}: {', '.join(plot_curves(given.runs, given.output, given.names))}"


def _add_speed(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("speed and precision")
    group.add_argument("--amp", action="store_true", help="mixed precision (bfloat16 on the CPU)")
    group.add_argument("--compile", action="store_true", help="compile the model with torch.compile")
    group.add_argument("--channels-last", action="store_true", help="memory layout with the channels last")
    group.add_argument("--fused", action="store_true", help="update all parameters in one kernel")
    group.add_argument("--accumulate", type=int, metavar="N", help="add up the gradients of N iterations")
    group.add_argument("--clip", type=float, metavar="X", help="scale gradients down to the norm X")
    group.add_argument(
        "--ema",
        nargs="?",
        type=float,
        const=EMA_MOMENTUM,
        default=False,
        metavar="SHARE",
        help=f"validate and test an average of the weights (share of the new ones: {EMA_MOMENTUM})",
    )


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
