"""What the classification datasets share: a pipeline, and items that can be batched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from framework.registry import TRANSFORMS


class DatasetError(ValueError):
    """The data is not there, or is not what it is said to be."""


class ClassificationDataset(Dataset[Any]):
    """Images with one label each.

    A subclass implements `__len__` and `load`.

    Args:
        classes: Names of the classes; a label is an index into it.
        pipeline: Transforms of `TRANSFORMS` (dicts or callables), applied to the image in this order.

    Attributes:
        corrupt: None, or flags of the items that could not be read and were left out, in memory that the
            workers of a data loader share.
    """

    corrupt: Tensor | None = None

    def __init__(self, classes: Sequence[str], pipeline: Sequence[Any] = ()) -> None:
        self.metainfo = {"classes": tuple(classes)}
        self.pipeline = [TRANSFORMS.build(step) if isinstance(step, Mapping) else step for step in pipeline]

    def __len__(self) -> int:
        raise NotImplementedError

    def load(self, index: int) -> tuple[Tensor, int]:
        """Return the image, uint8 of shape `(channels, height, width)`, and its label."""
        raise NotImplementedError

    def name_of(self, index: int) -> str:
        """Return what an item is called in messages."""
        return f"item {index}"

    def __getitem__(self, index: int) -> dict[str, Any] | None:
        """Return `dict(inputs, labels)`: the transformed image, a plain tensor, or a list of views, and its
        label, an int. None stands for an image that cannot be read, where those are left out.

        Raises:
            DatasetError: The image cannot be read, and is not to be left out.
        """
        try:
            image, label = self.load(index)
        except DatasetError:
            if self.corrupt is None:
                raise
            self.corrupt[index] = 1
            return None
        transformed: Any = tv_tensors.Image(image)
        for step in self.pipeline:
            transformed = step(transformed)
        if isinstance(transformed, list):  # views of a `MultiView`
            return {"inputs": [self._as_tensor(view) for view in transformed], "labels": label}
        return {"inputs": self._as_tensor(transformed), "labels": label}

    def _as_tensor(self, image: Any) -> Tensor:
        if not isinstance(image, Tensor):
            try:
                image = F.to_image(image)
            except TypeError as error:
                raise TypeError(
                    f"The pipeline of {type(self).__name__} must end with an image, "
                    f"got {type(image).__name__} after {self.pipeline[-1]}"
                ) from error
        return image.as_subclass(torch.Tensor)


def newly_corrupt(dataset: Any) -> list[str]:
    """Return the names of the items that were left out since the last call, as they could not be read."""
    flags = getattr(dataset, "corrupt", None)
    if flags is None:
        return []
    found = (flags == 1).nonzero().flatten().tolist()
    flags[found] = 2
    return [dataset.name_of(index) for index in found]
