"""The error of reconstructed pixels."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from framework.errors import ConfigError
from framework.registry import LOSSES

PENALTIES: dict[str, Callable[..., Tensor]] = {"L1": functional.l1_loss, "L2": functional.mse_loss}


@LOSSES.register_module()
class PixelReconstructionLoss(nn.Module):
    """The mean error over what was masked.

    Source: Masked Autoencoders, https://arxiv.org/abs/2111.06377, section 3 (L2, patches); SimMIM,
    https://arxiv.org/abs/2111.09886, section 3.4 (L1, pixels).

    Args:
        criterion: `L1`, the absolute error, or `L2`, the squared error.
        channel: Number of channels that the sum is divided by as well, for predictions whose mask has one
            entry for all channels.

    Raises:
        ConfigError: There is no such criterion.
    """

    def __init__(self, criterion: str, channel: int | None = None) -> None:
        super().__init__()
        if criterion not in PENALTIES:
            raise ConfigError(f"criterion={criterion!r}: accepted are {', '.join(PENALTIES)}")
        self.criterion = criterion
        self.channel = channel or 1

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compare a prediction with its target.

        Args:
            pred: Patches (batch, patches, values), of which each counts as one, or pixels (batch, channels,
                height, width).
            target: The same shape.
            mask: 1 for what counts, 0 for what does not: (batch, patches), or what can be broadcast to the
                pixels. Default: everything counts.

        Returns:
            A scalar.
        """
        error = PENALTIES[self.criterion](pred, target, reduction="none")
        if error.ndim == 3:
            error = error.mean(dim=-1)
        if mask is None:
            return error.mean()
        return (error * mask).sum() / mask.sum() / self.channel
