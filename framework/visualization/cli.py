"""The command line of `tools/visualize.py`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from mmengine.config import DictAction
from mmengine.device import get_device

from framework.apis import get_model
from framework.config import load_config
from framework.visualization.attention import attention_of
from framework.visualization.features import METHODS, features_of, project
from framework.visualization.figures import check_output, draw_attention, draw_reconstruction, draw_scatter
from framework.visualization.reconstruction import reconstruct
from framework.visualization.sources import dataset_of, draw, stack

#: Images that go through the model at a time.
BATCH = 64


def visualize_command(arguments: Sequence[str] | None = None) -> str:
    """Draw what the command line says; return what was drawn."""
    given = visualize_parser().parse_args(arguments)
    return given.draw(given)


def visualize_parser() -> argparse.ArgumentParser:
    """Return the parser of `tools/visualize.py`."""
    parser = argparse.ArgumentParser(description="Draw what a model sees.")
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    mae = _add(commands, "mae", _mae, "images, masked images and their reconstructions (MAE, SimMIM)")
    attention = _add(commands, "attention", _attention, "attention maps of a ViT's class token")
    features = _add(commands, "features", _features, "a scatter of the frozen features of the test data")
    for command, count in ((mae, 8), (attention, 4)):
        command.add_argument(
            "images",
            nargs="*",
            metavar="IMAGES",
            help="files and folders, or 'digits'. Default: some of the config's test data",
        )
        command.add_argument("--count", type=int, default=count, help=f"how many images (default: {count})")
    attention.add_argument("--layer", type=int, default=-1, help="which layer (default: -1, the last)")
    features.add_argument("--count", type=int, default=1000, help="at most so many images (default: 1000)")
    features.add_argument("--method", choices=METHODS, default="pca", help="default: pca")
    return parser


def _add(commands: Any, name: str, draw_it: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"Draw {text}.")
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="weights of the model: a path or an address")
    parser.add_argument("-o", "--output", default=f"{name}.png", help="the picture: .png, .svg or .pdf")
    parser.add_argument("--seed", type=int, default=0, help="which images, and which patches are masked")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={}, metavar="NAME=VALUE")
    parser.set_defaults(draw=draw_it, images=[])
    return parser


def _mae(given: argparse.Namespace) -> str:
    output = check_output(given.output)
    model, dataset = _opened(given)
    images, _ = stack(dataset, draw(dataset, given.count, given.seed))
    found = reconstruct(model, images, given.seed)
    draw_reconstruction(found, output)
    squared = ((found.predicted - found.images) ** 2).mean(1, keepdim=True)
    error = (squared * found.mask).sum() / found.mask.sum()
    return f"{output}: {len(images)} images; root mean square error of the masked pixels {error.sqrt():.3g}"


def _attention(given: argparse.Namespace) -> str:
    output = check_output(given.output)
    model, dataset = _opened(given)
    images, _ = stack(dataset, draw(dataset, given.count, given.seed))
    found = attention_of(model, images, given.layer)
    draw_attention(images, found, output)
    rows, columns = found.grid
    return f"{output}: {len(images)} images, {found.weights.shape[1]} heads, {rows} x {columns} patches"


def _features(given: argparse.Namespace) -> str:
    output = check_output(given.output)
    model, dataset = _opened(given)
    chosen = draw(dataset, given.count, given.seed)
    batches, labels = [], []
    for start in range(0, len(chosen), BATCH):
        images, of_batch = stack(dataset, chosen[start : start + BATCH])
        batches.append(images)
        labels += of_batch
    places, about = project(features_of(model, batches), given.method, given.seed)
    title = f"{'PCA' if given.method == 'pca' else 't-SNE'} of the features of {len(labels)} images: {about}"
    draw_scatter(places, labels, getattr(dataset, "metainfo", {}).get("classes", ()), title, output)
    return f"{output}: {title}"


def _opened(given: argparse.Namespace) -> tuple[Any, Any]:
    """Return the model with its weights, and the images that the command line names."""
    cfg = load_config(given.config, given.cfg_options)
    model: Any = get_model(cfg.model, given.checkpoint)
    return model.to(get_device()), dataset_of(cfg, model, given.images)
