"""Generalized mean pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from framework.errors import ConfigError
from framework.registry import NECKS


@NECKS.register_module()
class GeneralizedMeanPooling(nn.Module):
    """The p-th root of the mean of p-th powers over all positions: the mean for p = 1, towards the maximum
    for large p.

    Source: Fine-tuning CNN Image Retrieval with No Human Annotation, https://arxiv.org/abs/1711.02512,
    equation 3.

    Args:
        p: The exponent, at least 1.
        eps: Values are raised to this one, if `clamp`.
        clamp: See `eps`.
        p_trainable: Whether the exponent learns.

    Raises:
        ConfigError: `p` is below 1.
    """

    def __init__(
        self, p: float = 3.0, eps: float = 1e-6, clamp: bool = True, p_trainable: bool = True
    ) -> None:
        super().__init__()
        if p < 1:
            raise ConfigError(f"GeneralizedMeanPooling: p={p}, expected 1 or more")
        self.p = nn.Parameter(torch.full((1,), float(p)), requires_grad=p_trainable)
        self.eps, self.clamp = eps, clamp

    def forward(self, features: Tensor | Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
        """Pool each feature.

        Args:
            features: (batch, channels, height, width), or several of them.

        Returns:
            (batch, channels) for each, a tuple where several came in.

        Raises:
            ValueError: A feature has another number of dimensions.
        """
        if isinstance(features, Tensor):
            return self._pool(features)
        return tuple(self._pool(feature) for feature in features)

    def _pool(self, feature: Tensor) -> Tensor:
        if feature.ndim != 4:
            raise ValueError(
                "GeneralizedMeanPooling takes features (batch, channels, height, width), got "
                f"{tuple(feature.shape)}"
            )
        values = feature.clamp(min=self.eps) if self.clamp else feature
        return values.pow(self.p).mean(dim=(2, 3)).pow(1 / self.p)
