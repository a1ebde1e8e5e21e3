"""From the tensors of images to pixels on a screen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from framework.errors import ConfigError

WHITE = 255


def to_rgb(images: Tensor, limits: tuple[float, float]) -> Tensor:
    """Return images as uint8 RGB.

    Args:
        images: (batch, channels, height, width) with 1 channel, which is grey, or 3.
        limits: The values that are black and white; what lies outside is cut off.

    Raises:
        ConfigError: They have another number of channels.
    """
    channels = images.shape[1]
    if channels not in (1, 3):
        raise ConfigError(f"Images of {channels} channels cannot be drawn: expected are 1 (grey) or 3 (RGB)")
    low, high = limits
    scaled = ((images.double() - low) / (high - low)).clamp(0, 1) * 255
    return scaled.round().to(torch.uint8).expand(-1, 3, -1, -1)


def limits_of(images: Tensor) -> tuple[float, float]:
    """Return the values that stand for black and white.

    uint8 images have 0 and 255; floating ones 0 and 1, or 0 and 255, where they fit in, and else their own
    extremes, as images do that the pipeline has normalised.
    """
    if not images.is_floating_point():
        return 0.0, 255.0
    low, high = images.min().item(), images.max().item()
    if low >= 0 and high <= 255:
        return 0.0, 1.0 if high <= 1 else 255.0
    return low, max(high, low + 1e-6)


def mosaic(rows: Sequence[Tensor], least: int = 64, gap: int = 2) -> Tensor:
    """Set images in rows.

    Args:
        rows: For each column the images of all rows (rows, 3, height, width), uint8.
        least: Images that are smaller are enlarged by a whole factor to at least this height in pixels.
        gap: White pixels between images.

    Returns:
        (height, width, 3), uint8.
    """
    factor = -(-least // rows[0].shape[2])
    lines = []
    for images in torch.stack(list(rows), dim=1):  # the images of a row
        large = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        padded = torch.nn.functional.pad(large, (0, gap, 0, gap), value=WHITE)
        lines.append(torch.cat(list(padded), dim=2))
    return torch.cat(lines, dim=1)[:, :-gap, :-gap].permute(1, 2, 0).contiguous()
