"""What the training loop costs, next to a loop written by hand.

    python benchmarks/train.py                    # the table of the documentation, under four minutes
    python benchmarks/train.py --rounds 1 --iterations 10 --models resnet18

Each training runs in a process of its own (`benchmarks/train_once.py`); the variants take turns, each time in
another order. Images per second are over all iterations but the first five, the log lines included: by the
wall, and by the processor's time of the process, which hardly depends on what else the machine does. The time
to the first iteration runs from the start of the process, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

VARIANTS = ("bare", "loop", "framework")
NAMES = {"bare": "by hand, torchvision's model", "loop": "by hand, this model", "framework": "framework"}
TITLES = {"resnet18": "ResNet-18, 32 px, batch 64", "vit_tiny": "ViT-tiny, 64 px, patch 8, batch 16"}

Result = dict[str, float]


def run_once(variant: str, model: str, given: argparse.Namespace) -> Result:
    """Start one training and return what it measured."""
    root = Path(__file__).resolve().parent
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(given.threads),
        "PYTHONPATH": str(root.parent),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # libraries are compiled, so this package is as well
    command = [sys.executable, str(root / "train_once.py"), variant, model, str(time.time())]
    command += [str(given.iterations), str(given.threads), *(["--amp"] if given.amp else [])]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{variant}, {model} failed:\n{run.stderr}")
    return json.loads(run.stdout.rpartition("\nresult ")[2])


def measure(model: str, given: argparse.Namespace) -> dict[str, list[Result]]:
    """Run all variants in turns."""
    results: dict[str, list[Result]] = {variant: [] for variant in VARIANTS}
    for turn in range(given.rounds):
        for place in range(len(VARIANTS)):
            variant = VARIANTS[(turn + place) % len(VARIANTS)]
            results[variant].append(run_once(variant, model, given))
            print(f"{model} {variant}: {results[variant][-1]}", file=sys.stderr)
    return results


def ratio(results: dict[str, list[Result]], other: str, what: str) -> str:
    """Return the median over the rounds of framework / other, and the range."""
    pairs = zip(results["framework"], results[other], strict=True)
    ratios = [mine[what] / theirs[what] for mine, theirs in pairs]
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})"


def rows(model: str, results: dict[str, list[Result]]) -> list[str]:
    """Return the lines of one model."""
    lines = []
    for variant in VARIANTS:
        median = {
            what: statistics.median(one[what] for one in results[variant]) for what in results[variant][0]
        }
        speed = (
            f"{median['wall']:.1f} | {median['cpu']:.1f} | {median['first']:.2f} | {median['first_cpu']:.2f}"
        )
        lines.append(f"| {TITLES[model]} | {NAMES[variant]} | {speed} |")
    for other in ("loop", "bare"):
        title = f"| {TITLES[model]} | framework / {NAMES[other]} "
        lines.append(f"{title}| {ratio(results, other, 'wall')} | {ratio(results, other, 'cpu')} | | |")
    return lines


def describe_machine(given: argparse.Namespace) -> str:
    """Return one line on where this was measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "mmengine"))
    load = f"load average at the start {os.getloadavg()[0]:.1f}"
    precision = "bfloat16 autocast" if given.amp else "float32"
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {versions}; {given.threads} thread(s), "
        f"{precision}, {given.iterations} iterations, {given.rounds} rounds; {load}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=20, help="of each training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--models", nargs="+", choices=tuple(TITLES), default=list(TITLES))
    given = parser.parse_args()
    head = [describe_machine(given), ""]
    head += [
        "| model | loop | images/s | images/s of processor time | first iteration, s | of processor time |"
    ]
    head += ["|---|---|---|---|---|---|"]
    lines = [line for model in given.models for line in rows(model, measure(model, given))]
    print("\n".join([*head, *lines]))


if __name__ == "__main__":
    main()
