"""The same trainings with several seeds, side by side: what is better, and by more than chance?"""

from __future__ import annotations

import io
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framework.config import load_config, read_config
from framework.errors import ConfigError


@dataclass(frozen=True)
class Repeats:
    """What is repeated.

    Attributes:
        configs: Name of a row -> config file.
        seeds: The seeds of the runs.
        vary: Dotted names of the config that become the seed, too, such as that of a draw of the data.
        work_dir: Folder of the runs: `<work_dir>/<name>/seed_<seed>`.
        changes: Dotted names of the config and new values, for all runs.
        jobs: How many runs at the same time. Default: one on each core.
    """

    configs: Mapping[str, str | Path]
    seeds: Sequence[int]
    vary: Sequence[str] = ()
    work_dir: str | Path = "work_dirs/repeat"
    changes: Mapping[str, Any] = field(default_factory=dict)
    jobs: int | None = None


@dataclass(frozen=True)
class Run:
    """One training and what came out of it.

    Attributes:
        name: Its row.
        seed: Its seed.
        metrics: The metrics of the test.
        seconds: How long it took, imports left out.
    """

    name: str
    seed: int
    metrics: Mapping[str, float]
    seconds: float


def repeats_of(
    configs: Sequence[str], seeds: int | None = None, vary: Sequence[str] | None = None
) -> Repeats:
    """Read what is compared.

    Args:
        configs: Config files, each as `PATH` or `NAME=PATH`; or one file that describes a comparison by
            `configs`, a dict from names to files, and perhaps `seeds` and `vary`.
        seeds: How many seeds, from 0. Default: what the comparison says, else 5.
        vary: As in `Repeats`. Default: what the comparison says.

    Raises:
        ConfigError: Two configs have one name, or there is no seed.
    """
    described = read_config(configs[0]) if len(configs) == 1 and "=" not in configs[0] else {}
    named = [config.rpartition("=") for config in configs]
    rows = described.get("configs") or {name or Path(config).stem: config for name, _, config in named}
    if len(rows) < len(configs):
        raise ConfigError(f"Two configs have one name in {', '.join(configs)}: write NAME=CONFIG")
    number = seeds if seeds is not None else described.get("seeds", 5)
    if number < 1:
        raise ConfigError(f"seeds={number}: at least one is needed")
    return Repeats(dict(rows), range(number), described.get("vary", ()) if vary is None else vary)


def repeat(repeats: Repeats, tell: Callable[[Run], None] = lambda run: None) -> list[Run]:
    """Train every config with every seed, in processes of their own.

    Args:
        repeats: The configs and the seeds.
        tell: Called after each run.

    Returns:
        The runs, in the order of the configs and the seeds.

    Raises:
        ConfigError: A config is wrong, or has no test, or `jobs` is less than 1.
        PretrainError: Weights cannot be had, or do not fit.
    """
    _check(repeats)
    jobs = repeats.jobs or os.cpu_count() or 1
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_train, repeats, name, seed) for name, seed in _pairs(repeats)]
        for future in futures:
            future.add_done_callback(lambda done: _told(done, tell))
        ended, _ = wait(futures, return_when=FIRST_EXCEPTION)
        if any(one.exception() for one in ended):
            pool.shutdown(cancel_futures=True)
    return [future.result() for future in futures if not future.cancelled()]


def _check(repeats: Repeats) -> None:
    """Find out before the first training what could not be compared after the last one.

    Raises:
        ConfigError: A config cannot be read or has no test, or `jobs` is less than 1.
    """
    if repeats.jobs is not None and repeats.jobs < 1:
        raise ConfigError(f"jobs={repeats.jobs}: at least one is needed")
    for config in repeats.configs.values():
        if load_config(config, repeats.changes).get("test_cfg") is None:
            raise ConfigError(
                f"{config} has no test_cfg, so there is nothing to compare. "
                "What a pre-training gives is compared by the configs in its benchmarks/ folder"
            )


def table(runs: Sequence[Run], metric: str | None = None) -> str:
    """Return mean and standard deviation (of n - 1) of a metric as a Markdown table, a row for each config.

    Args:
        runs: The runs.
        metric: Name of the metric. Default: the first one of the runs.

    Raises:
        ConfigError: The runs have no such metric.
    """
    metric = metric or next(iter(runs[0].metrics))
    rows = {run.name: [one for one in runs if one.name == run.name] for run in runs}
    return "\n".join(
        [f"| | {metric} | range | runs | seconds each |", "|---|---|---|---|---|", *_rows(rows, metric)]
    )


def _rows(rows: Mapping[str, Sequence[Run]], metric: str) -> Iterator[str]:
    for name, runs in rows.items():
        missing = next((run for run in runs if metric not in run.metrics), None)
        if missing is not None:
            raise ConfigError(f"{name} has no metric '{metric}'. It has: {', '.join(missing.metrics)}")
        values = [run.metrics[metric] for run in runs]
        spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        seconds = statistics.mean(run.seconds for run in runs)
        extent = f"{min(values):.4f} to {max(values):.4f}"
        yield f"| {name} | {statistics.mean(values):.4f}{spread} | {extent} | {len(runs)} | {seconds:.1f} |"


def _pairs(repeats: Repeats) -> Iterator[tuple[str, int]]:
    for name in repeats.configs:
        for seed in repeats.seeds:
            yield name, seed


def _train(repeats: Repeats, name: str, seed: int) -> Run:
    """Train once, with what would be printed left to the log file of the run."""
    import torch

    from framework.engine.options import Options
    from framework.engine.run import train

    torch.set_num_threads(1)
    changes = {**repeats.changes, **dict.fromkeys(repeats.vary, seed)}
    work_dir = Path(repeats.work_dir, name.replace(" ", "_"), f"seed_{seed}")
    start = time.perf_counter()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        metrics = train(repeats.configs[name], Options(work_dir=work_dir, changes=changes, seed=seed))
    if not metrics:
        raise ConfigError(
            f"the test of {repeats.configs[name]} has no metrics, so there is nothing to compare"
        )
    return Run(name, seed, metrics, time.perf_counter() - start)


def _told(done: Future[Run], tell: Callable[[Run], None]) -> None:
    if not done.cancelled() and done.exception() is None:
        tell(done.result())
