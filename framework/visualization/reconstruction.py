"""What masked image models make of the patches that they do not see."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from framework.errors import ConfigError
from framework.visualization.pixels import limits_of, to_rgb

#: Colour of a masked patch: neither grey, as digits are, nor frequent in photographs.
MASK_COLOUR = (176, 196, 222)


@dataclass(frozen=True)
class Reconstruction:
    """Images, and what a model makes of a part of their patches.

    Attributes:
        images: (batch, channels, height, width), as they come from the dataset.
        predicted: What the model predicts for all pixels, in the same units, visible patches included.
        mask: 1 for masked pixels, 0 for visible ones (batch, 1, height, width).
    """

    images: Tensor
    predicted: Tensor
    mask: Tensor

    @property
    def pasted(self) -> Tensor:
        """The visible pixels of the images, and the predicted ones where they are masked."""
        return torch.where(self.mask.bool(), self.predicted, self.images.to(self.predicted.dtype))

    def pictures(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the images, the masked ones and the reconstructions, each uint8 RGB."""
        limits = limits_of(self.images)
        images = to_rgb(self.images, limits)
        colour = torch.tensor(MASK_COLOUR, dtype=torch.uint8, device=images.device).view(1, 3, 1, 1)
        return images, torch.where(self.mask.bool(), colour, images), to_rgb(self.pasted, limits)


@torch.no_grad()
def reconstruct(model: Any, images: Tensor, seed: int = 0) -> Reconstruction:
    """Mask images and let a model fill them in.

    The model and the random numbers of the process are afterwards as they were before, so that a training
    goes on as if nothing had happened.

    Args:
        model: A model with `reconstruct` and a data preprocessor, such as `MAE` and `SimMIM`.
        images: (batch, channels, height, width), as they come from the dataset.
        seed: Seed of the mask.

    Raises:
        ConfigError: The model reconstructs no images.
    """
    if not hasattr(model, "reconstruct"):
        raise ConfigError(
            f"{type(model).__name__} reconstructs no images: expected is the config of a masked image model, "
            f"MAE or SimMIM, and a checkpoint of it"
        )
    with _evaluating(model):
        inputs = model.data_preprocessor({"inputs": images}, False)["inputs"]
        devices = [inputs.device] if inputs.is_cuda else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            predicted, mask = model.reconstruct(inputs)
    predicted = _in_units_of_the_dataset(predicted, model.data_preprocessor)
    return Reconstruction(images.to(predicted.device), predicted, mask)


def _in_units_of_the_dataset(images: Tensor, preprocessor: Any) -> Tensor:
    """Undo what a data preprocessor does."""
    mean, std = getattr(preprocessor, "mean", None), getattr(preprocessor, "std", None)
    if mean is not None and std is not None:
        images = images * std + mean
    return images.flip(1) if getattr(preprocessor, "to_rgb", False) else images


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a while."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
