"""Modules that let every position of a feature map see all others. They serve as plugins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from framework.errors import ConfigError
from framework.models.layers.norm import build_norm_layer
from framework.registry import MODELS

POOLING_TYPES = ("att", "avg")
FUSION_TYPES = ("channel_add", "channel_mul")
MODES = ("embedded_gaussian", "gaussian", "dot_product")


@MODELS.register_module()
class ContextBlock(nn.Module):
    """Global context: all positions are pooled, transformed, and given back to each one.

    Source: GCNet, https://arxiv.org/abs/1904.11492, figure 4d. With `channel_add` alone it starts as the
    identity.

    Args:
        in_channels: Number of channels.
        ratio: Channels of the layer between / channels.
        pooling_type: `att` (weights from a 1x1 convolution) or `avg`.
        fusion_types: `channel_add`, `channel_mul` (behind a sigmoid), or both.

    Raises:
        ConfigError: No such pooling or fusion.
    """

    def __init__(
        self,
        in_channels: int,
        ratio: float = 1 / 16,
        pooling_type: str = "att",
        fusion_types: Sequence[str] = ("channel_add",),
    ) -> None:
        super().__init__()
        if pooling_type not in POOLING_TYPES:
            accepted = ", ".join(POOLING_TYPES)
            raise ConfigError(f"ContextBlock has no pooling_type {pooling_type!r}: accepted are {accepted}")
        if not fusion_types or set(fusion_types) - set(FUSION_TYPES):
            accepted = ", ".join(FUSION_TYPES)
            raise ConfigError(f"fusion_types={fusion_types!r}: accepted are one or more of {accepted}")
        self.conv_mask = None
        if pooling_type == "att":
            self.conv_mask = nn.Conv2d(in_channels, 1, 1)
            nn.init.kaiming_normal_(self.conv_mask.weight)
            nn.init.zeros_(self.conv_mask.bias)  # type: ignore[arg-type]
        width = max(int(in_channels * ratio), 1)
        add, mul = (kind in fusion_types for kind in FUSION_TYPES)
        self.channel_add_conv = _transform(in_channels, width) if add else None
        self.channel_mul_conv = _transform(in_channels, width) if mul else None

    def pool(self, x: Tensor) -> Tensor:
        """Return the weighted mean over all positions, (batch, in_channels, 1, 1)."""
        if self.conv_mask is None:
            return x.mean(dim=(2, 3), keepdim=True)
        weights = self.conv_mask(x).flatten(2).softmax(dim=2)
        return (x.flatten(2) @ weights.transpose(1, 2)).unsqueeze(-1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, height, width) to the same shape."""
        context = self.pool(x)
        if self.channel_mul_conv is not None:
            x = x * self.channel_mul_conv(context).sigmoid()
        return x if self.channel_add_conv is None else x + self.channel_add_conv(context)


@MODELS.register_module()
class NonLocal2d(nn.Module):
    """Attention of one head over all positions of a feature map, added to what came in.

    Source: Non-local Neural Networks, https://arxiv.org/abs/1711.07971, section 3. Starts as the identity.

    Args:
        in_channels: Number of channels.
        reduction: Channels / those of queries, keys and values (`theta`, `phi` and `g`).
        use_scale: Whether the products of `embedded_gaussian` are divided by the root of those channels.
        norm_cfg: Normalisation of the output. Default: none.
        mode: `embedded_gaussian` (softmax of the products of queries and keys), `gaussian` (the input is
            both), or `dot_product` (products divided by the number of positions).
        sub_sample: Whether keys and values are pooled to half the rows and columns.

    Raises:
        ConfigError: No such mode.
    """

    def __init__(
        self,
        in_channels: int,
        reduction: int = 2,
        use_scale: bool = True,
        norm_cfg: Mapping[str, Any] | None = None,
        mode: str = "embedded_gaussian",
        sub_sample: bool = False,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ConfigError(f"NonLocal2d has no mode {mode!r}: accepted are {', '.join(MODES)}")
        inner = max(in_channels // reduction, 1)
        self.mode = mode
        self.scale = inner**-0.5 if use_scale and mode == "embedded_gaussian" else 1.0
        embed = mode != "gaussian"
        self.g = _embedding(in_channels, inner)
        self.theta = _embedding(in_channels, inner) if embed else nn.Identity()
        self.phi = _embedding(in_channels, inner) if embed else nn.Identity()
        self.pool = nn.MaxPool2d(2, ceil_mode=True) if sub_sample else nn.Identity()
        self.conv_out = nn.Conv2d(inner, in_channels, 1, bias=norm_cfg is None)
        self.norm = nn.Identity() if norm_cfg is None else build_norm_layer(norm_cfg, in_channels)
        for parameter in (self.conv_out if norm_cfg is None else self.norm).parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, height, width) to the same shape."""
        query = self.theta(x).flatten(2).transpose(1, 2)
        key, value = (self.pool(layer(x)).flatten(2) for layer in (self.phi, self.g))
        products = query @ key * self.scale
        weights = products / key.shape[2] if self.mode == "dot_product" else products.softmax(dim=-1)
        attended = (value @ weights.transpose(1, 2)).unflatten(2, tuple(x.shape[2:]))
        return x + self.norm(self.conv_out(attended))


def _transform(channels: int, width: int) -> nn.Sequential:
    last = nn.Conv2d(width, channels, 1)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    norm = nn.LayerNorm((width, 1, 1))
    return nn.Sequential(nn.Conv2d(channels, width, 1), norm, nn.ReLU(inplace=True), last)


def _embedding(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 1)
    nn.init.normal_(conv.weight, std=0.01)
    return conv
