"""Datasets that torchvision downloads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor
from torchvision import datasets

from framework.datasets.base import ClassificationDataset, DatasetError
from framework.errors import ConfigError
from framework.registry import DATASETS


class TorchvisionDataset(ClassificationDataset):
    """One of torchvision's datasets that keep all images in memory.

    Args:
        root: Folder of the data.
        split: 'train' or 'test'.
        download: Whether to fetch the data when it is not in `root`.
        pipeline: Transforms of the image, uint8 of shape `(channels, height, width)`.

    Raises:
        DatasetError: The data is not in `root`, and may not or cannot be downloaded.
    """

    source: type[Any]

    def __init__(
        self,
        root: str | Path = "data",
        split: str = "train",
        download: bool = True,
        pipeline: Sequence[Any] = (),
    ) -> None:
        if split not in ("train", "test"):
            raise ConfigError(f"{type(self).__name__} has the splits train and test, not {split!r}")
        folder = Path(root).expanduser().absolute()
        self.data = self._open(folder, split, download)
        super().__init__(self.data.classes, pipeline)
        images = torch.as_tensor(self.data.data)
        self.images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
        self.labels: list[int] = torch.as_tensor(self.data.targets).tolist()

    def _open(self, folder: Path, split: str, download: bool) -> Any:
        try:
            return self.source(str(folder), train=split == "train", download=download)
        except (RuntimeError, URLError, OSError) as error:
            advice = (
                "check the connection, or put the files there"
                if download
                else "set download=True, or put the files there"
            )
            raise DatasetError(f"{type(self).__name__} is not in {folder}: {error}. {advice}") from error

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, index: int) -> tuple[Tensor, int]:
        """Return the image, uint8 of shape `(channels, height, width)`, and its label."""
        return self.images[index], self.labels[index]


@DATASETS.register_module()
class CIFAR10(TorchvisionDataset):
    """60,000 colour images of 32 x 32 pixels, ten classes."""

    source = datasets.CIFAR10


@DATASETS.register_module()
class CIFAR100(TorchvisionDataset):
    """60,000 colour images of 32 x 32 pixels, a hundred classes."""

    source = datasets.CIFAR100


@DATASETS.register_module()
class FashionMNIST(TorchvisionDataset):
    """70,000 grey images of 28 x 28 pixels, ten classes of clothes."""

    source = datasets.FashionMNIST
