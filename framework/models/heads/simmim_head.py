"""What SimMIM reconstructs."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from framework.registry import HEADS, LOSSES


@HEADS.register_module()
class SimMIMHead(BaseModule):
    """Compares the masked pixels with those of the image.

    Source: SimMIM, https://arxiv.org/abs/2111.09886, section 3.4.

    Args:
        patch_size: Size in pixels of a patch that is masked or not.
        loss: Config of the loss, or the loss: called with prediction, target and mask.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
    """

    def __init__(
        self,
        patch_size: int,
        loss: dict[str, Any] | nn.Module,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.patch_size = patch_size
        self.loss_module = loss if isinstance(loss, nn.Module) else LOSSES.build(loss)

    def loss(self, pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Return the error of the masked pixels.

        Args:
            pred: Predicted images (batch, channels, height, width).
            target: The images, in the same shape.
            mask: 1 for masked patches, 0 for visible ones (batch, rows, columns).

        Raises:
            ValueError: Prediction and image differ in shape.
        """
        if pred.shape != target.shape:
            raise ValueError(
                f"the decoder predicts images of shape {tuple(pred.shape[1:])}, and they are of shape "
                f"{tuple(target.shape[1:])}: encoder_stride is the number of pixels to one position of the "
                "backbone's map, target_channels that of the image's channels"
            )
        return self.loss_module(pred, target, self.to_pixels(mask))

    def to_pixels(self, mask: Tensor) -> Tensor:
        """Return a mask of patches (batch, rows, columns) as one of pixels (batch, 1, height, width)."""
        return mask.repeat_interleave(self.patch_size, 1).repeat_interleave(self.patch_size, 2)[:, None]
