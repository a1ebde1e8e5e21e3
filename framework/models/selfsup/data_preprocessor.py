"""From a batch of the data loader to the input of a self-supervised model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from framework.errors import ConfigError
from framework.models.classifiers.data_preprocessor import ClsDataPreprocessor
from framework.registry import MODELS


@MODELS.register_module()
class SelfSupDataPreprocessor(ClsDataPreprocessor):
    """Moves a batch of images, or of several views of each, to the model's device and normalises it there.

    Args:
        mean: Mean of each channel, in the units of the images that come in (0 to 255 for uint8), in the order
            of the channels after `to_rgb`. Default: images are not normalised.
        std: Standard deviation of each channel, likewise.
        to_rgb: Whether the channels are reversed, for images that come as BGR.
        bgr_to_rgb: The same.
        rgb_to_bgr: Whether the channels are reversed, for images that come as RGB.
        non_blocking: Whether copies to the device run beside the host.

    Raises:
        ConfigError: Only one of `mean` and `std`, or channels that are to be reversed twice.
    """

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        to_rgb: bool = False,
        bgr_to_rgb: bool = False,
        rgb_to_bgr: bool = False,
        non_blocking: bool = False,
    ) -> None:
        to_rgb = to_rgb or bgr_to_rgb
        if to_rgb and rgb_to_bgr:
            raise ConfigError("data_preprocessor: rgb_to_bgr and to_rgb (or bgr_to_rgb) exclude each other")
        super().__init__(mean, std, to_rgb=to_rgb or rgb_to_bgr, non_blocking=non_blocking)

    def forward(self, data: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare a batch.

        Args:
            data: `inputs`, images (batch, channels, height, width) or a list of views, each of that form and
                each with a size of its own; `data_samples`, or other entries such as labels.
            training: Of no account.

        Returns:
            `inputs`, floating and normalised, a list if views came in; `data_samples`, those that came in, or
                else a dict of all other entries, or None if there is none.
        """
        batch = dict(self.cast_data(dict(data)))
        inputs = batch.pop("inputs")
        views = inputs if isinstance(inputs, Tensor) else [self.normalise(view) for view in inputs]
        return {
            "inputs": self.normalise(inputs) if views is inputs else views,
            "data_samples": batch.pop("data_samples", batch or None),
        }
