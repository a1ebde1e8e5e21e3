"""Modules that users put between the layers of a backbone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from framework.errors import ConfigError, did_you_mean
from framework.registry import MODELS

FIELDS = ("cfg", "stages", "position")


class PluginSequence(nn.Sequential):
    """Plugins of one place, in the order of the config. They initialise themselves."""


@dataclass(frozen=True)
class _Plugin:
    cfg: Mapping[str, Any]
    stages: tuple[bool, ...]
    position: str


class PluginPlan:
    """Which plugins stand where in a backbone. The words are mmdetection's.

    A plugin is any registered module that takes `in_channels` and maps feature maps (batch, in_channels,
    height, width) to the same shape.

    Args:
        plugins: Dicts of `cfg`, the config of the plugin without `in_channels`; `stages`, one boolean for
            each stage (default: all true); and `position`.
        positions: The positions that the backbone knows.
        num_stages: Number of its stages.
        default: The position of a plugin that names none. Default: it has to name one.

    Raises:
        ConfigError: A plugin is not as described.
    """

    def __init__(
        self,
        plugins: Sequence[Mapping[str, Any]] | None,
        positions: Sequence[str],
        num_stages: int,
        default: str | None = None,
    ) -> None:
        entries = [plugins] if isinstance(plugins, Mapping) else list(plugins or [])
        self._plugins = [_checked(entry, positions, num_stages, default) for entry in entries]

    def build(self, position: str, stage: int, channels: int) -> PluginSequence | None:
        """Build the plugins of one place.

        Args:
            position: One of the positions.
            stage: Index of the stage.
            channels: Channels of the features there.

        Returns:
            The plugins, or None where there are none.
        """
        here = [p for p in self._plugins if p.position == position and p.stages[stage]]
        if not here:
            return None
        return PluginSequence(*(MODELS.build(p.cfg, default_args={"in_channels": channels}) for p in here))


def own_modules(root: nn.Module) -> Iterator[nn.Module]:
    """Return a module and all below it except plugins, which initialise themselves."""
    yield root
    for child in root.children():
        if not isinstance(child, PluginSequence):
            yield from own_modules(child)


def on_channels_first(module: nn.Module, x: Tensor) -> Tensor:
    """Pass maps (batch, rows, columns, channels) through a module that takes the channels first."""
    if isinstance(module, nn.Identity):
        return x
    return module(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _checked(entry: Any, positions: Sequence[str], num_stages: int, default: str | None) -> _Plugin:
    if not isinstance(entry, Mapping) or "cfg" not in entry or set(entry) - set(FIELDS):
        raise ConfigError(f"plugins: expected dicts of {', '.join(FIELDS)}; got {entry!r}")
    position = entry.get("position", default)
    if position not in positions:
        hint = did_you_mean(str(position), positions) or "."
        raise ConfigError(f"plugins: no position {position!r}{hint} Accepted: {', '.join(positions)}")
    stages = entry.get("stages")
    stages = (True,) * num_stages if stages is None else tuple(stages)
    if len(stages) != num_stages or not all(isinstance(stage, bool) for stage in stages):
        raise ConfigError(
            f"plugins: stages needs one boolean for each of the {num_stages} stages, got {stages!r}"
        )
    return _Plugin(entry["cfg"], stages, position)
