"""The command lines of `tools/train.py`, `tools/test.py`, `tools/plot.py` and `tools/repeat.py`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from mmengine.config import DictAction
from mmengine.dist import is_main_process
from torch.distributed.elastic.multiprocessing.errors import record

from framework.datasets import DatasetError
from framework.engine.curves import plot_curves
from framework.engine.interrupt import Interrupted, go_on_command
from framework.engine.options import EMA_MOMENTUM, Options
from framework.engine.repeat import Run, repeat, repeats_of, table
from framework.engine.run import evaluate, plan, summary, train
from framework.errors import ConfigError, SaveError, TrainingError
from framework.pretrain.errors import PretrainError

LAUNCHERS = ("none", "pytorch", "slurm", "mpi")


def main(command: Callable[[], str]) -> None:
    """Run a command and print its result.

    An error that the user can mend is printed without a traceback. A training that was interrupted says how
    to go on, and ends with the code of the signal, as shells know it. Started by torchrun, a process leaves
    word of its error, so that torchrun names the one that failed first.
    """
    try:
        result = (record(command) if "TORCHELASTIC_ERROR_FILE" in os.environ else command)()
    except (ConfigError, DatasetError, PretrainError, SaveError, TrainingError) as error:
        sys.exit(f"{type(error).__name__}: {_without_worker(str(error))}")
    except Interrupted as stop:
        if is_main_process():
            go_on = go_on_command(sys.argv, os.environ)
            sys.stderr.write(f"{stop}\nGo on with: {go_on}\n")
        sys.exit(128 + stop.signal)
    if is_main_process():
        sys.stdout.write(f"{result}\n")


def _without_worker(message: str) -> str:
    """Take the traceback of a data worker, which ends with the error's name, off a message."""
    if not message.startswith("Caught "):
        return message
    return re.sub(r"^[\w.]+Error: ", "", message.strip().splitlines()[-1])


def train_command(arguments: Sequence[str] | None = None) -> str:
    """Train as the command line says; return the test metrics in one line."""
    given = vars(train_parser().parse_args(arguments))
    config, dry_run = given.pop("config"), given.pop("dry_run")
    options = Options(changes=given.pop("cfg_options"), **given)
    return plan(config, options) if dry_run else summary(train(config, options))


def train_parser() -> argparse.ArgumentParser:
    """Return the parser of `tools/train.py`."""
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
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan after one batch, and write nothing"
    )
    return parser


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


def repeat_command(arguments: Sequence[str] | None = None) -> str:
    """Train with several seeds as the command line says; return the table."""
    parser = argparse.ArgumentParser(description="Train configs with several seeds, and compare.")
    parser.add_argument(
        "configs",
        nargs="+",
        metavar="[NAME=]CONFIG",
        help="a config, and the name of its row; or a comparison",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="how many seeds, from 0 (default: 5)")
    parser.add_argument("--vary", nargs="+", metavar="NAME", help="values that become the seed, too")
    parser.add_argument("--work-dir", default="work_dirs/repeat", help="folder of the runs")
    parser.add_argument("--metric", help="what is compared (default: the first metric of the test)")
    parser.add_argument("--jobs", type=int, help="runs at the same time (default: one on each core)")
    _add_changes(parser)
    given = parser.parse_args(arguments)
    repeats = repeats_of(given.configs, given.seeds, given.vary)
    repeats = replace(repeats, work_dir=given.work_dir, changes=given.cfg_options, jobs=given.jobs)
    return table(repeat(repeats, _tell_run), given.metric)


def _tell_run(run: Run) -> None:
    name, value = next(iter(run.metrics.items()))  # `repeat` refuses runs without a test
    sys.stderr.write(f"{run.name}, seed {run.seed}: {name} {value:.4f} ({run.seconds:.0f} s)\n")


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
    _add_changes(parser)
    parser.add_argument("--launcher", choices=LAUNCHERS, default="none", help="how processes were started")
    return parser


def _add_changes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        default={},
        metavar="NAME=VALUE",
        help="change the config, e.g. model.pretrain=weights.pth optim_wrapper.optimizer.lr=0.1",
    )
