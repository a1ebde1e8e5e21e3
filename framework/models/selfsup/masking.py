"""Which patches of an image are masked."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size
from torch import Tensor

from framework.errors import ConfigError


def check_mask_ratio(mask_ratio: float) -> float:
    """Return a share of patches that are masked if some are and some are not.

    Raises:
        ConfigError: It is not between 0 and 1.
    """
    if not 0 < mask_ratio < 1:
        raise ConfigError(f"mask_ratio={mask_ratio}: accepted are shares between 0 and 1, such as 0.75")
    return mask_ratio


def agree(owner: str, field: str, value: Any, wanted: Any) -> None:
    """Check that a part of a model is made for the backbone.

    Raises:
        ConfigError: It is not.
    """
    if value != wanted:
        raise ConfigError(f"{owner}: {field} is {value}, and the backbone needs {wanted}")


def draw_noise(batch: int, patches: int, device: torch.device) -> Tensor:
    """Return one random number for each patch (batch, patches), in [0, 1).

    They differ between processes whose generators are in the same state: together, these draw what one
    process with the whole batch draws.
    """
    everyone = torch.rand(get_world_size() * batch, patches, device=device)
    return everyone[get_rank() * batch :][:batch]


def shuffle(noise: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the patches that stay visible: those of the least noise.

    Source: Masked Autoencoders, https://arxiv.org/abs/2111.06377, section 3, "Simple implementation".

    Args:
        noise: One random number for each patch (batch, patches).
        mask_ratio: Share of the patches that are masked.

    Returns:
        ids_keep: The visible patches, in the shuffled order (batch, visible).
        mask: 1 for masked patches, 0 for visible ones (batch, patches).
        ids_restore: Place of each patch in the shuffled order (batch, patches).
    """
    visible = int(noise.shape[1] * (1 - mask_ratio))
    ids_shuffle = noise.argsort(dim=1)
    ids_restore = ids_shuffle.argsort(dim=1)
    return ids_shuffle[:, :visible], (ids_restore >= visible).to(noise.dtype), ids_restore


def take(tokens: Tensor, ids: Tensor) -> Tensor:
    """Return tokens (batch, tokens, channels) at indices (batch, count): (batch, count, channels)."""
    return tokens.gather(1, ids[..., None].expand(-1, -1, tokens.shape[-1]))


def block_mask(
    grid: tuple[int, int], batch: int, mask_ratio: float, size: int, device: torch.device
) -> Tensor:
    """Mask squares of patches at random, as many in every image.

    Source: SimMIM, https://arxiv.org/abs/2111.09886, section 3.2.

    Args:
        grid: Rows and columns of patches.
        batch: Number of images.
        mask_ratio: Share of the squares that are masked, rounded up.
        size: Rows and columns of patches of a square.
        device: Where the mask is to be.

    Returns:
        1 for masked patches, 0 for visible ones (batch, rows, columns).
    """
    rows, columns = grid[0] // size, grid[1] // size
    masked = -int(-rows * columns * mask_ratio // 1)
    noise = draw_noise(batch, rows * columns, device)
    mask = (noise.argsort(dim=1).argsort(dim=1) < masked).float().view(batch, rows, columns)
    return mask.repeat_interleave(size, 1).repeat_interleave(size, 2)
