"""Normalisation layers by the names that configs use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from framework.errors import ConfigError, did_you_mean

NORMS: dict[str, type[nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "BN1d": nn.BatchNorm1d,
    "BN2d": nn.BatchNorm2d,
    "BN3d": nn.BatchNorm3d,
    "SyncBN": nn.SyncBatchNorm,
    "GN": nn.GroupNorm,
    "LN": nn.LayerNorm,
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
