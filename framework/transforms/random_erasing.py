"""Random erasing before the normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torchvision.transforms import v2

from framework.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomErasingPixels(v2.RandomErasing):
    """Fill a random rectangle of an image of 0 to 255 with noise of the images' mean and deviation.

    After the normalisation this equals erasing with standard normal noise, the mode 'pixel' of Zhong et al.,
    "Random Erasing Data Augmentation" (https://arxiv.org/abs/1708.04896), apart from the rounding and the
    clipping to 0 to 255. torchvision's own `RandomErasing(value='random')` needs a normalised float image.

    Args:
        p: Probability that an image is erased.
        scale: Least and greatest share of the area.
        ratio: Least and greatest aspect ratio of the rectangle.
        mean: Mean of the channels, 0 to 255.
        std: Standard deviation of the channels, 0 to 255.
    """

    def __init__(
        self,
        p: float = 0.25,
        scale: Sequence[float] = (0.02, 1 / 3),
        ratio: Sequence[float] = (0.3, 3.3),
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
    ) -> None:
        super().__init__(p=p, scale=scale, ratio=ratio, value="random")
        self.mean = torch.tensor(mean)[:, None, None]
        self.std = torch.tensor(std)[:, None, None]

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the rectangle and its content, `v`, of shape `(channels, height, width)`."""
        params = super().make_params(flat_inputs)
        if params["v"] is not None:
            params["v"] = (params["v"] * self.std + self.mean).round().clamp(0, 255)
        return params
