"""From a batch of the data loader to the input of a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor
from torch.nn import functional

from framework.errors import ConfigError
from framework.models.classifiers.batch_augments import BatchAugments
from framework.registry import MODELS


@MODELS.register_module()
class ClsDataPreprocessor(BaseDataPreprocessor):
    """Moves a batch to the model's device, normalises the images there, and mixes them in training.

    Args:
        mean: Mean of each channel, in the units of the images that come in (0 to 255 for uint8), in the order
            of the channels after `to_rgb`. Default: images are not normalised.
        std: Standard deviation of each channel, likewise.
        to_rgb: Whether the channels are reversed, for images that come as BGR.
        to_onehot: Whether labels become one probability per class in training.
        num_classes: Number of classes, for mixing and `to_onehot`. Default: the head's.
        batch_augments: How images and labels are mixed in training: `augments`, one dict or several of type
            Mixup or CutMix with `alpha`; and `probs`, their probabilities (the rest to 1 leaves a batch as it
            is). Default probabilities are equal.
        non_blocking: Whether copies to the device run beside the host.

    Raises:
        ConfigError: Only one of `mean` and `std`, or mixing without a number of classes.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        to_rgb: bool = False,
        to_onehot: bool = False,
        num_classes: int | None = None,
        batch_augments: Mapping[str, Any] | None = None,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        if (mean is None) != (std is None):
            raise ConfigError(
                f"data_preprocessor: mean and std come together, got mean={mean!r}, std={std!r}"
            )
        if (batch_augments or to_onehot) and num_classes is None:
            raise ConfigError("data_preprocessor: mixing and one-hot labels need num_classes")
        self.to_rgb = to_rgb
        self.to_onehot = to_onehot
        self.num_classes = num_classes
        self.augments = None
        if batch_augments:
            self.augments = MODELS.build(
                {"type": BatchAugments, "num_classes": num_classes, **batch_augments}
            )
        self.register_buffer("mean", _per_channel(mean), persistent=False)
        self.register_buffer("std", _per_channel(std), persistent=False)

    def forward(self, data: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare a batch.

        Args:
            data: `inputs`, images (batch, channels, height, width) of any dtype or a sequence of images of
                one size; `labels`, class indices (batch,) or probabilities (batch, classes), or none; other
                entries stay.
            training: Whether to mix.

        Returns:
            The entries on the device; `inputs` floating, normalised; `labels` (batch, num_classes) if mixed.
        """
        batch = dict(self.cast_data(dict(data)))
        batch["inputs"] = self.normalise(batch["inputs"])
        if training and batch.get("labels") is not None:
            if self.to_onehot and batch["labels"].ndim == 1:
                assert self.num_classes is not None
                batch["labels"] = functional.one_hot(batch["labels"].long(), self.num_classes).float()
            if self.augments is not None:
                batch["inputs"], batch["labels"] = self.augments(batch["inputs"], batch["labels"])
        return batch

    def normalise(self, inputs: Tensor | Sequence[Tensor]) -> Tensor:
        """Return images as one floating tensor, (x - mean) / std."""
        images = inputs if isinstance(inputs, Tensor) else torch.stack(list(inputs))
        images = images if images.is_floating_point() else images.float()
        if self.to_rgb:
            images = images.flip(1)
        return images if self.mean is None or self.std is None else (images - self.mean) / self.std


def _per_channel(values: Sequence[float] | None) -> Tensor | None:
    return None if values is None else torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
