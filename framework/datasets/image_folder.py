"""A folder of images, one folder per class."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from framework.datasets.base import ClassificationDataset, DatasetError
from framework.registry import DATASETS

#: Suffixes that are read as images.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")

LAYOUT = "expected is one folder per class: {root}/<class>/<image>.jpg"


@DATASETS.register_module()
class ImageFolder(ClassificationDataset):
    """Images under `root/<class>/`, sub-folders included; the classes are the folders' names, sorted.

    Args:
        root: The folder. `~` and environment variables are expanded.
        pipeline: Transforms of the image, uint8 of shape `(3, height, width)`, RGB.

    Raises:
        DatasetError: There is no such folder, or no class, or a class without images in it.
    """

    def __init__(self, root: str | Path, pipeline: Sequence[Any] = ()) -> None:
        self.root = Path(os.path.expandvars(root)).expanduser().absolute()
        classes = find_classes(self.root)
        super().__init__(classes, pipeline)
        self.samples = [
            (path, label) for label, name in enumerate(classes) for path in find_images(self.root / name)
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, index: int) -> tuple[Tensor, int]:
        """Return the image, uint8 of shape `(3, height, width)`, and its label."""
        path, label = self.samples[index]
        return read_image(path), label


def find_classes(root: Path) -> list[str]:
    """Return the names of the folders in `root`, sorted; hidden ones are left out."""
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DatasetError(f"The dataset folder {root} {what}; {LAYOUT.format(root=root)}")
    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if not classes:
        raise DatasetError(
            f"The dataset folder {root} has no folders in it, so no classes; {LAYOUT.format(root=root)}"
        )
    return classes


def find_images(folder: Path) -> list[str]:
    """Return the paths of all images below `folder`, sorted."""
    paths = [
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if os.path.splitext(name)[1].lower() in EXTENSIONS
    ]
    if not paths:
        raise DatasetError(
            f"The class folder {folder} has no images; suffixes that are read: {', '.join(EXTENSIONS)}"
        )
    return sorted(paths)


def read_image(path: str) -> Tensor:
    """Decode an image file to RGB, turned as its EXIF orientation says.

    Returns:
        uint8 tensor of shape `(3, height, width)`.

    Raises:
        DatasetError: The file is missing or cannot be decoded; the message names it.
    """
    try:
        with Image.open(path) as image:
            pixels = np.array(_upright(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DatasetError(f"The image {path} cannot be read: {error}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _upright(image: Image.Image) -> Image.Image:
    """Turn the image as its EXIF data says; broken EXIF data is no reason to lose an image."""
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, struct.error):
        return image
