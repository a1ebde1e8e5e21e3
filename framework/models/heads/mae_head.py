"""What a masked autoencoder reconstructs."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from framework.models.layers import to_pair
from framework.registry import HEADS, LOSSES

#: Added to the variance of a patch: facebookresearch/mae@efb2a80 models_mae.py.
EPS = 1e-6


@HEADS.register_module()
class MAEPretrainHead(BaseModule):
    """Compares predicted patches with those of the image.

    Source: Masked Autoencoders, https://arxiv.org/abs/2111.06377, section 3.

    Args:
        loss: Config of the loss, or the loss: called with prediction, target and mask.
        norm_pix: Whether each patch of the target is normalised by its own mean and deviation.
        patch_size: Size of a patch in pixels.
        in_channels: Channels of the images.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
    """

    def __init__(
        self,
        loss: dict[str, Any] | nn.Module,
        norm_pix: bool = False,
        patch_size: int | tuple[int, int] = 16,
        in_channels: int = 3,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.norm_pix = norm_pix
        self.patch_size = to_pair(patch_size)
        self.in_channels = in_channels
        self.loss_module = loss if isinstance(loss, nn.Module) else LOSSES.build(loss)

    def patchify(self, images: Tensor) -> Tensor:
        """Cut images (batch, channels, height, width) into patches.

        Returns:
            (batch, patches, patch height * patch width * channels): patches row by row, in each the pixels
            row by row, for each pixel its channels.

        Raises:
            ValueError: The patches do not cover the images exactly.
        """
        height, width = self.patch_size
        if images.shape[-2] % height or images.shape[-1] % width:
            raise ValueError(
                f"images of {images.shape[-2]}x{images.shape[-1]} pixels cannot be cut into patches of "
                f"{height}x{width}: set patch_size of backbone, neck and head alike"
            )
        cut = images.unfold(2, height, height).unfold(3, width, width)
        return cut.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)

    def unpatchify(self, patches: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Join patches to images: the inverse of `patchify`.

        Args:
            patches: (batch, patches, values).
            grid: Rows and columns of patches. Default: as many of one as of the other.
        """
        side = round(patches.shape[1] ** 0.5)
        rows, columns = grid or (side, side)
        height, width = self.patch_size
        cut = patches.reshape(len(patches), rows, columns, height, width, -1)
        return cut.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, rows * height, columns * width)

    def construct_target(self, images: Tensor) -> Tensor:
        """Return what is to be predicted for images (batch, channels, height, width): see `patchify`."""
        patches = self.patchify(images)
        if not self.norm_pix:
            return patches
        mean, scale = _statistics(patches)
        return (patches - mean) / scale

    def to_images(self, pred: Tensor, images: Tensor) -> Tensor:
        """Return predicted patches as an image; with `norm_pix` each gets mean and deviation of the true one.

        Args:
            pred: (batch, patches, values).
            images: The true ones (batch, channels, height, width).

        Returns:
            The shape of `images`.
        """
        if self.norm_pix:
            mean, scale = _statistics(self.patchify(images))
            pred = pred * scale + mean
        return self.unpatchify(pred, self.grid_of(images))

    def grid_of(self, images: Tensor) -> tuple[int, int]:
        """Return rows and columns of patches of images."""
        return images.shape[-2] // self.patch_size[0], images.shape[-1] // self.patch_size[1]

    def loss(self, pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Return the error of the masked patches.

        Args:
            pred: Predicted patches (batch, patches, values).
            target: The images (batch, channels, height, width).
            mask: 1 for masked patches, 0 for visible ones (batch, patches).
        """
        return self.loss_module(pred, self.construct_target(target), mask)


def _statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = patches.var(dim=-1, keepdim=True), patches.mean(dim=-1, keepdim=True)
    return mean, (variance + EPS).sqrt()
