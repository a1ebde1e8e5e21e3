"""Activations by the names that configs use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from framework.errors import ConfigError, did_you_mean


class QuickGELU(nn.Module):
    """CLIP's activation, the sigmoid approximation of GELU (https://arxiv.org/abs/1606.08415, section 2)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x * sigmoid(1.702 x), of the shape of `x`."""
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "ReLU": nn.ReLU,
    "GELU": nn.GELU,
    "QuickGELU": QuickGELU,
    "SiLU": nn.SiLU,
    "Swish": nn.SiLU,
    "Tanh": nn.Tanh,
    "Sigmoid": nn.Sigmoid,
}


def build_activation(cfg: Mapping[str, Any]) -> nn.Module:
    """Build an activation layer.

    Args:
        cfg: `type`, a name in `ACTIVATIONS`, and the arguments of that class.

    Raises:
        ConfigError: No such activation.
    """
    args = dict(cfg)
    name = args.pop("type", None)
    if name not in ACTIVATIONS:
        hint = did_you_mean(str(name), ACTIVATIONS) or "."
        raise ConfigError(f"act_cfg: no activation {name!r}{hint} Accepted: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name](**args)
