"""The figures: images in rows, attention maps, scatters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from framework.errors import ConfigError
from framework.visualization.attention import Attention
from framework.visualization.pixels import limits_of, to_rgb
from framework.visualization.reconstruction import Reconstruction

#: Titles of the three pictures of a reconstruction.
STAGES = ("image", "masked", "reconstruction")

#: Width and height of a picture in inches, and the gap between groups of pictures, in pictures.
CELL, GAP = 1.25, 0.12

#: From this number of classes on, a bar of colours takes the place of a legend.
MANY_CLASSES = 21


def check_output(output: str | Path) -> Path:
    """Return the path of a figure whose suffix can be drawn.

    Raises:
        ConfigError: It cannot.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # half a second

    path = Path(output).expanduser()
    known = sorted(FigureCanvasAgg.get_supported_filetypes())
    if path.suffix.removeprefix(".").lower() not in known:
        raise ConfigError(f"{path} cannot be drawn: its suffix must be one of .{', .'.join(known)}")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: give the file to write, such as {path / 'picture.png'}")
    return path


def draw_reconstruction(found: Reconstruction, output: Path) -> None:
    """Draw image, masked image and reconstruction side by side, two images in a row."""
    pictures = [stage.permute(0, 2, 3, 1).cpu().numpy() for stage in found.pictures()]
    count = len(found.images)
    across = min(2, count)
    rows = -(-count // across)
    widths = ([1.0] * len(STAGES) + [GAP]) * across
    figure, grid = _grid(rows, widths[:-1])
    for index in range(count):
        row, group = divmod(index, across)
        for place, (title, stage) in enumerate(zip(STAGES, pictures, strict=True)):
            axes = _cell(figure, grid, (row, group * (len(STAGES) + 1) + place), title)
            axes.imshow(stage[index], interpolation="nearest")
    _save(figure, output)


def draw_attention(images: Tensor, found: Attention, output: Path) -> None:
    """Draw each image, the mean attention of its class token, and that of each head; black is none.

    Args:
        images: As they come from the dataset.
        found: Their attention.
        output: The picture.
    """
    pictures = to_rgb(images, limits_of(images)).permute(0, 2, 3, 1).cpu().numpy()
    maps = found.of_class_token.float().cpu().numpy()
    heads = maps.shape[1]
    figure, grid = _grid(len(images), [1.0, GAP, 1.0, GAP, *[1.0] * heads])
    for row, (picture, of_heads) in enumerate(zip(pictures, maps, strict=True)):
        _cell(figure, grid, (row, 0), "image").imshow(picture, interpolation="nearest")
        titled = [("mean", of_heads.mean(0)), *((f"head {head}", of_heads[head]) for head in range(heads))]
        for place, (title, values) in zip((2, *range(4, 4 + heads)), titled, strict=True):
            axes = _cell(figure, grid, (row, place), title)
            axes.imshow(values, cmap="inferno", vmin=0, interpolation="nearest")
    _save(figure, output)


def draw_scatter(
    places: np.ndarray, labels: Sequence[int], names: Sequence[str], title: str, to: Path
) -> None:
    """Draw a point for each image, coloured by its class.

    Args:
        places: (images, 2).
        labels: The class of each image.
        names: Names of the classes.
        title: Title of the figure.
        to: The picture.
    """
    figure = _figure((6.4, 5.0))
    axes = figure.add_subplot(title=title, xticks=[], yticks=[])
    axes.set_aspect("equal", "datalim")
    given, many = np.asarray(labels), len(set(labels)) >= MANY_CLASSES
    if many:
        points = axes.scatter(*places.T, c=given, s=8, cmap="turbo", linewidths=0)
        figure.colorbar(points, label="class")
    for place, label in enumerate([] if many else sorted(set(labels))):
        colour = f"C{place}" if len(set(labels)) <= 10 else _colours("tab20")(place)
        name = names[label] if label < len(names) else str(label)
        axes.scatter(*places[given == label].T, s=12, color=colour, label=name, alpha=0.85, linewidths=0)
    if not many:
        figure.legend(loc="outside right center", title="class", markerscale=1.6, frameon=False)
    _save(figure, to)


def _colours(name: str) -> Any:
    from matplotlib import colormaps

    return colormaps[name]


def _figure(size: tuple[float, float], layout: Literal["constrained"] | None = "constrained") -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _grid(rows: int, widths: Sequence[float]) -> tuple[Any, Any]:
    """Return a figure, and a grid of square pictures in it with room for titles above the first row."""
    width, height = CELL * (sum(widths) + 0.06 * (len(widths) - 1)), CELL * (1.06 * rows - 0.06)
    margin, title = 0.08, 0.28
    size = (width + 2 * margin, height + margin + title)
    figure = _figure(size, None)
    edges = {"left": margin / size[0], "right": 1 - margin / size[0]}
    edges |= {"bottom": margin / size[1], "top": 1 - title / size[1]}
    spaces = {"wspace": 0.06 * len(widths) / sum(widths), "hspace": 0.06}
    return figure, figure.add_gridspec(rows, len(widths), width_ratios=widths, **edges, **spaces)


def _cell(figure: Any, grid: Any, place: tuple[int, int], title: str) -> Any:
    axes = figure.add_subplot(grid[place], xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if place[0] == 0:
        axes.set_title(title, fontsize=9, pad=4)
    return axes


def _save(figure: Any, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120)
