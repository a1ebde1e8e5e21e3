"""Augmentations that mix the images of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from framework.errors import ConfigError

#: mixup: https://arxiv.org/abs/1710.09412; CutMix: https://arxiv.org/abs/1905.04899.
AUGMENTS: dict[str, type[nn.Module]] = {"Mixup": v2.MixUp, "MixUp": v2.MixUp, "CutMix": v2.CutMix}


class BatchAugments(nn.Module):
    """Applies one of several augmentations to each batch, chosen at random.

    Args:
        num_classes: Number of classes.
        augments: One dict or several: `type` Mixup or CutMix, and `alpha`, the parameter of the beta
            distribution from which the share of the first image is drawn.
        probs: Probability of each augmentation; the rest to 1 leaves a batch as it is. Default: all equal.

    Raises:
        ConfigError: No such augmentation, or `probs` is no list of probabilities for them.
    """

    def __init__(
        self,
        num_classes: int,
        augments: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        probs: float | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        cfgs = [augments] if isinstance(augments, Mapping) else list(augments)
        self.augments = nn.ModuleList(_build(cfg, num_classes) for cfg in cfgs)
        self.probs = _checked_probs(probs, len(cfgs))

    def forward(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            inputs: Images (batch, channels, height, width).
            labels: Class indices (batch,) or probabilities (batch, num_classes).

        Returns:
            Images of the same shape, and probabilities (batch, num_classes), or both unchanged.
        """
        choice = int(torch.multinomial(torch.tensor([*self.probs, max(0.0, 1 - sum(self.probs))]), 1))
        if choice == len(self.augments):
            return inputs, labels
        return self.augments[choice](inputs, labels)


def _build(cfg: Mapping[str, Any], num_classes: int) -> nn.Module:
    args = {"num_classes": num_classes, **cfg}
    name = args.pop("type", None)
    if name not in AUGMENTS:
        raise ConfigError(f"there is no batch augmentation {name!r}: accepted are {', '.join(AUGMENTS)}")
    if set(args) != {"num_classes", "alpha"}:
        given = ", ".join(sorted(cfg))
        raise ConfigError(f"{name} takes alpha and, if need be, num_classes; got {given}")
    return AUGMENTS[name](**args)


def _checked_probs(probs: float | Sequence[float] | None, count: int) -> list[float]:
    if probs is None:
        return [1 / count] * count
    listed = [probs] if isinstance(probs, int | float) else list(probs)
    if len(listed) != count or min(listed) < 0 or sum(listed) > 1 + 1e-6:
        raise ConfigError(
            f"probs: one for each of the {count} augments, of a sum of at most 1; got {probs!r}"
        )
    return [float(p) for p in listed]
