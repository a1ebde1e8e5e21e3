"""The projector of DINO."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from framework.errors import ConfigError
from framework.models.necks.nonlinear_neck import as_vectors, check_channels
from framework.registry import NECKS


class Prototypes(nn.Module):
    """Similarities with prototypes: a linear layer whose rows have a length of their own.

    Source: Weight Normalization, https://arxiv.org/abs/1602.07868. The names are torch's for such a layer.

    Args:
        in_channels: Channels of the embeddings.
        out_channels: Number of prototypes.
        unit: Whether all prototypes keep the length 1.

    Attributes:
        weight_g: Lengths of the prototypes (out_channels, 1).
        weight_v: Their directions (out_channels, in_channels), of any length.
        frozen: Whether the prototypes rest: their gradients are zeros.
    """

    def __init__(self, in_channels: int, out_channels: int, unit: bool) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(out_channels, 1), requires_grad=not unit)
        self.weight_v = nn.Parameter(torch.empty(out_channels, in_channels))
        nn.init.trunc_normal_(self.weight_v, std=0.02)
        self.frozen = False

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels) to (batch, out_channels)."""
        weight = self.weight_g * functional.normalize(self.weight_v, dim=1)
        if self.frozen:  # zeros and not nothing, for which DistributedDataParallel would wait
            weight = weight.detach() + 0 * weight
        return functional.linear(x, weight)


@NECKS.register_module()
class DINONeck(BaseModule):
    """Linear layers with GELU, `mlp`; the length is made 1; and similarities with prototypes, `last_layer`.

    Source: Emerging Properties in Self-Supervised Vision Transformers, https://arxiv.org/abs/2104.14294,
        section 3.1 and appendix C.

    Args:
        in_channels: Channels of the features.
        hidden_channels: Channels between the layers.
        out_channels: Number of prototypes.
        bottleneck_channels: Channels of the embeddings that are compared with the prototypes.
        num_layers: Number of linear layers, at least 1.
        norm_last_layer: Whether the prototypes keep the length 1, which makes the training stable.
        with_avg_pool: Whether feature maps are averaged over all positions first.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Raises:
        ConfigError: No layer.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        bottleneck_channels: int = 256,
        num_layers: int = 3,
        norm_last_layer: bool = True,
        with_avg_pool: bool = True,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_layers < 1:
            raise ConfigError(f"DINONeck: num_layers={num_layers}, expected 1 or more")
        widths = [in_channels, *[hidden_channels] * (num_layers - 1), bottleneck_channels]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.GELU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.last_layer = Prototypes(bottleneck_channels, out_channels, norm_last_layer)
        self.with_avg_pool = with_avg_pool
        self.in_channels, self.out_channels = in_channels, out_channels
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor | Sequence[Any]) -> tuple[Tensor]:
        """Return a tuple of (batch, out_channels).

        Args:
            features: (batch, in_channels) or, if they are to be averaged, (batch, in_channels, height,
                width); or several of them, of which the last one counts.
        """
        x = as_vectors(features, self.with_avg_pool)
        check_channels(self, x, self.in_channels)
        return (self.last_layer(functional.normalize(self.mlp(x), dim=1)),)
