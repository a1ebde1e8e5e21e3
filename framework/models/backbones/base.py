"""What all backbones have in common: freezing, and the depth of a parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from framework.errors import ConfigError, did_you_mean


class BaseBackbone(BaseModule):
    """Base of the backbones. A backbone maps images to a tuple of features, one per entry of `out_indices`.

    Args:
        init_cfg: mmengine's initialisers, applied when `init_weights` is called. The constructor has
            initialised everything before.

    Attributes:
        feature_dim: Channels of the last feature.
        out_channels: Channels of each feature.
        norm_eval: Whether batch normalisation keeps its statistics in training.
    """

    norm_eval = False

    feature_dim: int
    out_channels: tuple[int, ...]

    def __init__(self, init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None) -> None:
        super().__init__(init_cfg)

    def frozen_parts(self) -> Iterable[nn.Module | nn.Parameter]:
        """Return what does not learn. Overridden by backbones that can be frozen."""
        return ()

    def freeze(self) -> None:
        """Take the gradients of the frozen parts away and put them into evaluation mode."""
        for part in self.frozen_parts():
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> BaseBackbone:
        """Set training mode, except for frozen parts and, with `norm_eval`, batch normalisation."""
        super().train(mode)
        for module in self.modules() if self.norm_eval else ():
            if isinstance(module, _BatchNorm):
                module.eval()
        for part in self.frozen_parts():
            if isinstance(part, nn.Module):
                part.eval()
        return self

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Return where a parameter stands between input and head, for layer-wise decay of the learning rate.

        Source: mmpretrain's method of this name; BEiT, https://arxiv.org/abs/2106.08254, appendix H, for the
            decay.

        Args:
            param_name: Name of the parameter.
            prefix: What stands before this backbone's own names, such as `backbone.`.

        Returns:
            The depth, 0 for the stem to count - 1 for whatever follows the last block or does not start with
            `prefix`, and the count: the number of blocks + 2.
        """
        count = self.num_blocks() + 2
        if not param_name.startswith(prefix):
            return count - 1, count
        return self.block_of(param_name[len(prefix) :]), count

    def num_blocks(self) -> int:
        """Return the number of blocks between stem and output."""
        raise NotImplementedError

    def block_of(self, name: str) -> int:
        """Return 0 for the stem, i + 1 for block i, and the number of blocks + 1 for what follows."""
        raise NotImplementedError


def check_out_indices(out_indices: Sequence[int] | int, count: int) -> tuple[int, ...]:
    """Return the indices of the stages or blocks that give features, from 0 to `count` - 1 and ascending.

    Args:
        out_indices: One index or several; negative ones count from the end.
        count: Number of stages or blocks.

    Raises:
        ConfigError: An index is out of range, or comes twice.
    """
    given = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    indices = [i + count if i < 0 else i for i in given]
    if not indices or not all(0 <= i < count for i in indices) or len(set(indices)) < len(indices):
        raise ConfigError(
            f"out_indices={out_indices!r}: accepted are different indices from 0 to {count - 1}, "
            f"or from -{count} to -1 counted from the end"
        )
    return tuple(sorted(indices))


def check_frozen_stages(frozen_stages: int, count: int) -> int:
    """Return `frozen_stages` if it is -1 (nothing), 0 (the stem) or up to `count` (that many stages, too).

    Raises:
        ConfigError: It is something else.
    """
    if not -1 <= frozen_stages <= count:
        raise ConfigError(f"frozen_stages={frozen_stages}: accepted are -1 (nothing) to {count} (everything)")
    return frozen_stages


def named_arch(
    owner: str,
    arch: str | Mapping[str, Any],
    archs: Mapping[str, Mapping[str, Any]],
    fields: Sequence[str],
    aliases: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the sizes of an architecture.

    Args:
        owner: Name of the backbone, for messages.
        arch: A name, upper or lower case, or the sizes.
        archs: Sizes by name.
        fields: What sizes have to name.
        aliases: Other names for those in `archs`.

    Raises:
        ConfigError: No such name, or fields are missing or unknown.
    """
    aliases = aliases or {}
    if isinstance(arch, str):
        name = aliases.get(arch.lower(), arch.lower())
        if name in archs:
            return dict(archs[name])
        hint = did_you_mean(arch, [*archs, *aliases]) or "."
        names = ", ".join([*archs, *(alias for alias in aliases if len(alias) > 1)])
        raise ConfigError(
            f"{owner} has no arch {arch!r}{hint} Accepted: {names}; or a dict of {', '.join(fields)}"
        )
    if not isinstance(arch, Mapping) or set(arch) != set(fields):
        raise ConfigError(f"{owner}: arch is a name or a dict of {', '.join(fields)}; got {arch!r}")
    return dict(arch)


def check_fields(field: str, cfg: Mapping[str, Any], accepted: Sequence[str]) -> None:
    """Check the entries of a part of a config.

    Raises:
        ConfigError: One is not accepted.
    """
    unknown = sorted(set(cfg) - set(accepted))
    if unknown:
        raise ConfigError(f"{field}: unknown {', '.join(unknown)}; accepted are {', '.join(accepted)}")
