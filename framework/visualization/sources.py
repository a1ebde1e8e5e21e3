"""Which images a picture shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from framework.datasets import ClassificationDataset
from framework.datasets.image_folder import EXTENSIONS, find_images, read_image
from framework.errors import ConfigError, did_you_mean
from framework.registry import DATASETS

#: The word that stands for the digits that scikit-learn carries.
DIGITS = "digits"


class ImageFiles(ClassificationDataset):
    """Images in files of any place, without labels.

    Args:
        paths: The files.
        pipeline: Transforms of the image, uint8 of shape `(channels, height, width)`.
        grey: Whether the images are turned grey, with one channel.
    """

    def __init__(self, paths: Sequence[str], pipeline: Sequence[Any] = (), grey: bool = False) -> None:
        super().__init__([""], pipeline)
        self.paths, self.grey = list(paths), grey

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> tuple[Tensor, int]:
        """Return the image, and 0."""
        image = read_image(self.paths[index])
        return F.rgb_to_grayscale(image) if self.grey else image, 0

    def name_of(self, index: int) -> str:
        """Return the path of an image."""
        return self.paths[index]


def dataset_of(cfg: Mapping[str, Any], model: nn.Module, sources: Sequence[str] = ()) -> Any:
    """Return a dataset of the images that a user names.

    Args:
        cfg: The config. Its test data (or validation data) say how images are prepared; where they say
            nothing, images are resized and cropped to the size that the model is built for.
        model: The model that is to see them.
        sources: Files and folders; or `digits`; or nothing for the test data of the config (its validation
            data, or else its training data).

    Raises:
        ConfigError: There are no such images, or the config has no data.
        DatasetError: The data cannot be had.
    """
    pipeline = _pipeline(cfg, model)
    if not sources:
        return DATASETS.build({**_data(cfg), "pipeline": pipeline})
    if list(sources) == [DIGITS] and not Path(DIGITS).exists():
        return DATASETS.build({"type": "Digits", "split": "test", "pipeline": pipeline})
    paths = [path for source in sources for path in _files(Path(source).expanduser())]
    return ImageFiles(paths, pipeline, grey=_channels(model) == 1)


def draw(dataset: Any, count: int, seed: int) -> list[int]:
    """Draw which images are shown, in their order; those of files are the first ones.

    Raises:
        ConfigError: `count` is less than 1.
    """
    if count < 1:
        raise ConfigError(f"--count must be at least 1, got {count}")
    if isinstance(dataset, ImageFiles) or count >= len(dataset):
        return list(range(min(count, len(dataset))))
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))
    return sorted(order[:count].tolist())


def stack(dataset: Any, indices: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Return images (batch, channels, height, width) of a dataset, and their labels.

    Raises:
        ConfigError: They differ in shape.
        DatasetError: An image cannot be read.
    """
    items = [item for item in (dataset[index] for index in indices) if item is not None]
    images = [item["inputs"] if isinstance(item["inputs"], Tensor) else item["inputs"][0] for item in items]
    shapes = sorted({tuple(image.shape) for image in images})
    if len(shapes) != 1:
        raise ConfigError(
            f"The images come in the shapes {', '.join(map(str, shapes)) or 'of nothing'}, and a model takes "
            f"those of one: put a Resize and a CenterCrop into the pipeline of test_dataloader"
        )
    return torch.stack(images), [int(item["labels"]) for item in items]


def _data(cfg: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in ("test_dataloader", "val_dataloader", "train_dataloader"):
        if cfg.get(name) is not None:
            return cfg[name]["dataset"]
    raise ConfigError(
        f"The config has no data: name files or folders of images, or '{DIGITS}', or add a test_dataloader"
    )


def _pipeline(cfg: Mapping[str, Any], model: nn.Module) -> list[Any]:
    data = cfg.get("test_dataloader") or cfg.get("val_dataloader")
    given = [] if data is None else list(data["dataset"].get("pipeline", ()))
    embed: Any = getattr(getattr(model, "backbone", None), "patch_embed", None)
    if given or not hasattr(embed, "grid_size"):
        return given
    size = [cells * step for cells, step in zip(embed.grid_size, embed.proj.stride, strict=True)]
    return [dict(type="Resize", size=min(size), antialias=True), dict(type="CenterCrop", size=size)]


def _channels(model: nn.Module) -> int | None:
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return None if first is None else first.in_channels


def _files(path: Path) -> list[str]:
    if path.is_dir():
        return find_images(path)
    if path.is_file():
        return [str(path)]
    there = [
        near.name for near in path.parent.glob("*") if near.suffix.lower() in EXTENSIONS or near.is_dir()
    ]
    raise ConfigError(
        f"There is no image or folder {path}{did_you_mean(path.name, there)} (the word for the digits of "
        f"scikit-learn is '{DIGITS}')"
    )
