"""Normalisation layers by the names that configs use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.errors import ConfigError, did_you_mean


class LayerNorm2d(nn.LayerNorm):
    """Normalises the channels at each position of a feature map.

    Args:
        num_channels: Number of channels.
        eps: Added to the variance.
    """

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__(num_channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        x = functional.layer_norm(
            x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return x.permute(0, 3, 1, 2)


class GlobalResponseNorm(nn.Module):
    """Lets the channels of a feature map compete by their norm over all positions.

    Source: ConvNeXt V2, https://arxiv.org/abs/2301.00808, section 3.1. Starts as the identity.

    Args:
        dim: Number of channels, the last dimension of the input.
        eps: Added to the mean norm.
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, dim) to the same shape."""
        norms = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        return x + self.bias + self.weight * (x * (norms / (norms.mean(dim=-1, keepdim=True) + self.eps)))


NORMS: dict[str, type[nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "BN1d": nn.BatchNorm1d,
    "BN2d": nn.BatchNorm2d,
    "BN3d": nn.BatchNorm3d,
    "SyncBN": nn.SyncBatchNorm,
    "GN": nn.GroupNorm,
    "LN": nn.LayerNorm,
    "LN2d": LayerNorm2d,
}


def build_norm_layer(cfg: Mapping[str, Any], num_features: int) -> nn.Module:
    """Build a normalisation layer.

    Args:
        cfg: `type`, a name in `NORMS`; `requires_grad` (default True) of its weight and bias; `num_groups`
            for GN; and the other arguments of that class, such as `eps`.
        num_features: Number of channels.

    Raises:
        ConfigError: No such layer, or `num_groups` missing.
    """
    args = dict(cfg)
    name = args.pop("type", None)
    requires_grad = args.pop("requires_grad", True)
    if name not in NORMS:
        hint = did_you_mean(str(name), NORMS) or "."
        raise ConfigError(f"norm_cfg: no layer {name!r}{hint} Accepted: {', '.join(NORMS)}")
    if name == "GN":
        if "num_groups" not in args:
            raise ConfigError("norm_cfg: GN needs num_groups, for example dict(type='GN', num_groups=32)")
        layer: nn.Module = nn.GroupNorm(num_channels=num_features, **args)
    else:
        layer = NORMS[name](num_features, **args)
    for parameter in layer.parameters():
        parameter.requires_grad_(requires_grad)
    return layer
