"""Curves of one or several runs in one picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from framework.engine.metrics_file import read_metrics
from framework.errors import ConfigError, did_you_mean

#: Points by panel, that is mode and name of the number, such as 'train loss'.
Panels = dict[str, list[tuple[int, float]]]

#: Numbers that are drawn only when they are asked for.
LEFT_OUT = ("time", "data_time", "memory", "base_lr", "momentum")


def plot_curves(runs: Sequence[str | Path], output: str | Path, names: Sequence[str] = ()) -> list[str]:
    """Draw what runs logged, one panel per number and one colour per run.

    Args:
        runs: Work dirs, or `metrics.jsonl` files.
        output: The picture; its suffix (.png, .svg, .pdf) says the format.
        names: Panels to draw, such as 'train loss' or 'val accuracy/top1'. Default: all but the times.

    Returns:
        The panels that were drawn.

    Raises:
        ConfigError: A run has no numbers, no run has what `names` asks for, or the format is unknown.
    """
    curves = {str(run): panels_of(read_metrics(run)) for run in runs}
    there = dict.fromkeys(panel for panels in curves.values() for panel in panels)
    for name in names:
        if name not in there:
            hint = did_you_mean(name, there) or f". There are: {', '.join(there)}"
            raise ConfigError(f"No run has logged '{name}'{hint}")
    chosen = list(names) or [panel for panel in there if panel.split(" ", 1)[1] not in LEFT_OUT]
    _draw(curves, chosen, Path(output))
    return chosen


def panels_of(lines: Sequence[Mapping[str, Any]]) -> Panels:
    """Sort the numbers of a run by what they are, in the order of the steps."""
    panels: Panels = {}
    for line in sorted(lines, key=lambda entry: entry["step"]):
        if line["mode"] == "test":
            continue
        for name, value in line.items():
            if name not in ("mode", "step", "epoch"):
                point = (line["step"], math.nan if value is None else value)
                panels.setdefault(f"{line['mode']} {name}", []).append(point)
    return panels


def _draw(curves: Mapping[str, Panels], chosen: Sequence[str], output: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # half a second
    from matplotlib.figure import Figure

    columns = min(3, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    figure = Figure(figsize=(4.5 * columns, 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for place, panel in enumerate(chosen, 1):
        axes = figure.add_subplot(rows, columns, place, title=panel, xlabel="iteration")
        for colour, (run, panels) in enumerate(curves.items()):
            points = panels.get(panel, [])
            marker = "o" if len(points) < 30 else None
            steps, values = [step for step, _ in points], [value for _, value in points]
            axes.plot(steps, values, label=run, color=f"C{colour}", marker=marker, markersize=3)
        axes.grid(alpha=0.3)
        if place == 1:
            axes.legend(fontsize="small")
    try:
        figure.savefig(output, dpi=120)
    except ValueError as error:  # unknown suffix
        raise ConfigError(f"{output} cannot be drawn: {error}") from error
