"""A folder of images, one folder per class."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision import io

from framework.datasets.base import ClassificationDataset, DatasetError
from framework.errors import ConfigError
from framework.registry import DATASETS

#: Suffixes that are read as images.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")

#: Suffixes that torchvision decodes, too. Not PNG: there a damaged file can end the process.
TORCHVISION_SUFFIXES = (".jpg", ".jpeg", ".webp")

#: What Pillow's readers raise at damaged files.
UNREADABLE = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, struct.error),
    *(zlib.error, Image.DecompressionBombError),
)

LAYOUT = "expected is one folder per class: {root}/<class>/<image>.jpg"


@DATASETS.register_module()
class ImageFolder(ClassificationDataset):
    """Images under `root/<class>/`, sub-folders included; the classes are the folders' names, sorted.

    Args:
        root: The folder. `~` and environment variables are expanded.
        pipeline: Transforms of the image, uint8 of shape `(3, height, width)`, RGB.
        decoder: 'pillow', or 'torchvision', whose decoder takes JPEG and WebP, and Pillow the rest.
        skip_corrupt: Whether an image that cannot be read is left out of its batch, and named in the log at
            the end of the epoch. By default it ends the run with an error that names it.

    Raises:
        DatasetError: There is no such folder, or no class, or a class without images in it.
        ConfigError: There is no such decoder.
    """

    def __init__(
        self,
        root: str | Path,
        pipeline: Sequence[Any] = (),
        decoder: str = "pillow",
        skip_corrupt: bool = False,
    ) -> None:
        if decoder not in DECODERS:
            raise ConfigError(f"ImageFolder has the decoders {', '.join(DECODERS)}, not {decoder!r}")
        self.root = Path(os.path.expandvars(root)).expanduser().absolute()
        classes = find_classes(self.root)
        super().__init__(classes, pipeline)
        self.samples = [
            (path, label) for label, name in enumerate(classes) for path in find_images(self.root / name)
        ]
        self.read = DECODERS[decoder]
        if skip_corrupt:
            self.corrupt = torch.zeros(len(self.samples), dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, index: int) -> tuple[Tensor, int]:
        """Return the image, uint8 of shape `(3, height, width)`, and its label."""
        path, label = self.samples[index]
        return self.read(path), label

    def name_of(self, index: int) -> str:
        """Return the path of an image."""
        return self.samples[index][0]


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
            pixels = np.array(_eight_bits(_upright(image), image.format).convert("RGB"))
    except UNREADABLE as error:
        raise DatasetError(f"The image {path} cannot be read: {error}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def decode_image(path: str) -> Tensor:
    """Decode an image file as `read_image` does, by torchvision where it knows the format.

    Returns:
        uint8 tensor of shape `(3, height, width)`.

    Raises:
        DatasetError: The file is missing or cannot be decoded; the message names it.
    """
    if os.path.splitext(path)[1].lower() not in TORCHVISION_SUFFIXES:
        return read_image(path)
    try:
        # From torchvision 0.29 on, its functions warn that TorchCodec is to replace these operators.
        data = torch.ops.image.read_file(path)
        image = torch.ops.image.decode_image(data, io.ImageReadMode.RGB.value, True)
    except RuntimeError as error:
        reason = str(error).splitlines()[0].rsplit(", ", 1)[-1]
        raise DatasetError(f"The image {path} cannot be read: {reason}") from error
    return image


def _eight_bits(image: Image.Image, source: str | None) -> Image.Image:
    """Scale grey values of 16 bits, which Pillow would clip, to 8 bits."""
    if image.mode.startswith("I;16") or (image.mode == "I" and source == "PNG"):
        return Image.fromarray((np.asarray(image, dtype=np.int64) // 257).astype(np.uint8))
    return image


def _upright(image: Image.Image) -> Image.Image:
    """Turn the image as its EXIF data says; broken EXIF data is no reason to lose an image."""
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, struct.error):
        return image


#: How a file is decoded, by the name in the config.
DECODERS: dict[str, Callable[[str], Tensor]] = {"pillow": read_image, "torchvision": decode_image}
