"""Global average pooling."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from framework.errors import ConfigError
from framework.registry import NECKS

POOLS: dict[int, type[nn.Module]] = {
    1: nn.AdaptiveAvgPool1d,
    2: nn.AdaptiveAvgPool2d,
    3: nn.AdaptiveAvgPool3d,
}


@NECKS.register_module()
class GlobalAveragePooling(nn.Module):
    """Averages features over all positions.

    Args:
        dim: Number of dimensions of the positions: 1 for sequences, 2 for images, 3 for videos.

    Raises:
        ConfigError: `dim` is not 1, 2 or 3.
    """

    def __init__(self, dim: int = 2) -> None:
        super().__init__()
        if dim not in POOLS:
            raise ConfigError(f"GlobalAveragePooling has no dim={dim!r}: accepted are 1, 2, 3")
        self.dim = dim
        self.pool = POOLS[dim](1)

    def forward(self, features: Tensor | Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
        """Average each feature.

        Args:
            features: (batch, channels, and `dim` sizes), or several of them.

        Returns:
            (batch, channels) for each, a tuple where several came in.

        Raises:
            ValueError: A feature has another number of dimensions.
        """
        if isinstance(features, Tensor):
            return self._average(features)
        return tuple(self._average(feature) for feature in features)

    def _average(self, feature: Tensor) -> Tensor:
        if feature.ndim != self.dim + 2:
            hint = "it is pooled already: leave the neck out" if feature.ndim == 2 else "set dim to fit"
            raise ValueError(
                f"GlobalAveragePooling(dim={self.dim}) takes features of {self.dim + 2} dimensions, batch "
                f"and channels first; got {tuple(feature.shape)}: {hint}"
            )
        return self.pool(feature).flatten(1)
