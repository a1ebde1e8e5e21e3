"""The handwritten digits that scikit-learn carries: real images, no download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framework.datasets.base import ClassificationDataset
from framework.errors import ConfigError
from framework.registry import DATASETS

SPLITS = ("train", "test", "all")


@DATASETS.register_module()
class Digits(ClassificationDataset):
    """1797 grey images of 8 x 8 pixels, ten classes.

    The source is the test part of the UCI set "Optical Recognition of Handwritten Digits". Its 17 grey
    levels are spread over 0 to 255.

    Args:
        split: 'train', 'test' or 'all'.
        test_size: Share of the images that the test split holds, drawn class by class.
        seed: Seed of the split: the same seed gives the same images.
        shots: How many images of each class are taken, drawn at random. Default: all.
        shots_seed: Seed of that draw.
        pipeline: Transforms of the image, uint8 of shape `(1, 8, 8)`.

    Raises:
        ConfigError: There is no such split, or it has not as many images of each class.
    """

    def __init__(
        self,
        split: str = "train",
        test_size: float = 0.3,
        seed: int = 0,
        shots: int | None = None,
        shots_seed: int = 0,
        pipeline: Sequence[Any] = (),
    ) -> None:
        super().__init__([str(digit) for digit in range(10)], pipeline)
        if split not in SPLITS:
            raise ConfigError(f"Digits has the splits {', '.join(SPLITS)}, not {split!r}")
        from sklearn.datasets import load_digits  # more than a second, for those who need it
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        indices = np.arange(len(digits.target))
        if split != "all":
            train, test = train_test_split(
                indices, test_size=test_size, random_state=seed, stratify=digits.target
            )
            indices = np.sort(train if split == "train" else test)
        if shots is not None:
            indices = _shots(indices, digits.target, shots, shots_seed)
        self.images = torch.from_numpy(np.rint(digits.images[indices] * (255 / 16)).astype(np.uint8))[:, None]
        self.labels: list[int] = digits.target[indices].tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, index: int) -> tuple[Tensor, int]:
        """Return the image, uint8 of shape `(1, 8, 8)`, and the digit."""
        return self.images[index], self.labels[index]


def _shots(indices: np.ndarray, labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Draw as many of each class."""
    generator = np.random.default_rng(seed)
    classes = [indices[labels[indices] == digit] for digit in range(10)]
    least = min(len(members) for members in classes)
    if not 1 <= shots <= least:
        raise ConfigError(f"Digits: shots={shots}, but there are 1 to {least} images of each class")
    return np.sort(np.concatenate([generator.choice(members, shots, replace=False) for members in classes]))
