"""The decoder of SimMIM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from framework.registry import NECKS


@NECKS.register_module()
class SimMIMLinearDecoder(BaseModule):
    """Predicts the pixels of each patch of a feature map from its features alone.

    Source: SimMIM, https://arxiv.org/abs/2111.09886, section 3.3. A 1x1 convolution, `decoder.0`, whose
    channels are then spread over the pixels, as in microsoft/SimMIM@d3e29bc models/simmim.py.

    Args:
        in_channels: Channels of the feature map.
        encoder_stride: Pixels of the image to one position of the map.
        target_channels: Channels of the image.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
    """

    def __init__(
        self,
        in_channels: int,
        encoder_stride: int,
        target_channels: int = 3,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.decoder = nn.Sequential(
            nn.Conv2d(in_channels, encoder_stride**2 * target_channels, kernel_size=1),
            nn.PixelShuffle(encoder_stride),
        )

    def forward(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """Map features (batch, in_channels, rows, columns), or the last of several, to an image.

        Returns:
            (batch, target_channels, rows * encoder_stride, columns * encoder_stride).
        """
        return self.decoder(features if isinstance(features, Tensor) else features[-1])
