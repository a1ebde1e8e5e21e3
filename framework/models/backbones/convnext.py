"""ConvNeXt, versions 1 and 2."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from framework.errors import ConfigError
from framework.models.backbones.base import BaseBackbone, check_frozen_stages, check_out_indices, named_arch
from framework.models.layers import (
    GlobalResponseNorm,
    PluginPlan,
    build_activation,
    build_drop_path,
    build_norm_layer,
    linear_rates,
    own_modules,
)
from framework.registry import BACKBONES

#: Sizes by name. tiny to xlarge: https://arxiv.org/abs/2201.03545, section 3; atto to nano and huge:
#: https://arxiv.org/abs/2301.00808, appendix A.
ARCHS: dict[str, dict[str, Any]] = {
    "atto": {"depths": (2, 2, 6, 2), "channels": (40, 80, 160, 320)},
    "femto": {"depths": (2, 2, 6, 2), "channels": (48, 96, 192, 384)},
    "pico": {"depths": (2, 2, 6, 2), "channels": (64, 128, 256, 512)},
    "nano": {"depths": (2, 2, 8, 2), "channels": (80, 160, 320, 640)},
    "tiny": {"depths": (3, 3, 9, 3), "channels": (96, 192, 384, 768)},
    "small": {"depths": (3, 3, 27, 3), "channels": (96, 192, 384, 768)},
    "base": {"depths": (3, 3, 27, 3), "channels": (128, 256, 512, 1024)},
    "large": {"depths": (3, 3, 27, 3), "channels": (192, 384, 768, 1536)},
    "xlarge": {"depths": (3, 3, 27, 3), "channels": (256, 512, 1024, 2048)},
    "huge": {"depths": (3, 3, 27, 3), "channels": (352, 704, 1408, 2816)},
}
ARCH_FIELDS = ("depths", "channels")
POSITIONS = ("after_block", "after_stage")


@dataclass(frozen=True)
class BlockOptions:
    """What all blocks of a network share, by the names that `ConvNeXt` has for it."""

    norm_cfg: Mapping[str, Any]
    act_cfg: Mapping[str, Any]
    linear_pw_conv: bool
    use_grn: bool
    layer_scale_init_value: float
    with_cp: bool


class PointwiseMlp(nn.Module):
    """Two pointwise layers with an activation between them, and response normalisation if wanted.

    Args:
        dim: Channels of input and output; four times as many between the layers.
        options: The activation, whether to normalise, and whether the layers are linear or 1x1 convolutions.
    """

    def __init__(self, dim: int, options: BlockOptions) -> None:
        super().__init__()
        self.linear = options.linear_pw_conv
        self.fc1 = self._layer(dim, 4 * dim)
        self.act = build_activation(options.act_cfg)
        self.grn = GlobalResponseNorm(4 * dim) if options.use_grn else nn.Identity()
        self.fc2 = self._layer(4 * dim, dim)

    def _layer(self, in_channels: int, out_channels: int) -> nn.Module:
        return (
            nn.Linear(in_channels, out_channels) if self.linear else nn.Conv2d(in_channels, out_channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, dim, height, width) to the same shape."""
        if self.linear:
            x = self.grn(self.act(self.fc1(x.permute(0, 2, 3, 1))))
            return self.fc2(x).permute(0, 3, 1, 2)
        x = self.grn(self.act(self.fc1(x)).permute(0, 2, 3, 1))
        return self.fc2(x.permute(0, 3, 1, 2))


class ConvNeXtBlock(nn.Module):
    """A 7x7 depthwise convolution, a normalisation and a pointwise MLP, added to what came in.

    Source: A ConvNet for the 2020s, https://arxiv.org/abs/2201.03545, figure 4.

    Args:
        dim: Number of channels.
        options: What all blocks share.
        drop_path_rate: Rate of stochastic depth.
        plugins: What the output passes through, or None.
    """

    def __init__(
        self, dim: int, options: BlockOptions, drop_path_rate: float, plugins: nn.Module | None
    ) -> None:
        super().__init__()
        self.with_cp = options.with_cp
        self.conv_dw = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = build_norm_layer(options.norm_cfg, dim)
        self.mlp = PointwiseMlp(dim, options)
        scale = options.layer_scale_init_value
        self.gamma = nn.Parameter(torch.full((dim,), float(scale))) if scale > 0 else None
        self.drop_path = build_drop_path(drop_path_rate)
        self.after_block = plugins or nn.Identity()

    def residual(self, x: Tensor) -> Tensor:
        """Return `x` plus the branch."""
        branch = self.mlp(self.norm(self.conv_dw(x)))
        if self.gamma is not None:
            branch = branch * self.gamma.view(1, -1, 1, 1)
        return self.after_block(x + self.drop_path(branch))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, dim, height, width) to the same shape."""
        if self.with_cp and x.requires_grad:
            return checkpoint(self.residual, x, use_reentrant=False)
        return self.residual(x)


@BACKBONES.register_module()
class ConvNeXt(BaseBackbone):
    """ConvNeXt. Its parameters are named as timm's, its arguments as mmpretrain's.

    Version 2 is `use_grn=True, layer_scale_init_value=0`. The norm of the last stage is called `head.norm`,
    as timm calls it, and those of earlier stages `norm0`, `norm1`, ...

    Source: A ConvNet for the 2020s, https://arxiv.org/abs/2201.03545; ConvNeXt V2,
    https://arxiv.org/abs/2301.00808. Weights start from a normal distribution of standard deviation 0.02, cut
    off at two, biases from 0.

    Args:
        arch: atto, femto, pico, nano, tiny, small, base, large, xlarge or huge, or a dict of depths (number
            of blocks of each stage) and channels (of each stage).
        in_channels: Channels of the images.
        stem_patch_size: Size and stride in pixels of the first convolution.
        norm_cfg: The normalisation layers. Default LN2d with eps 1e-6.
        act_cfg: The activation. Default GELU.
        linear_pw_conv: Whether pointwise layers are linear layers, or else 1x1 convolutions.
        use_grn: Whether blocks have response normalisation (version 2).
        drop_path_rate: Rate of stochastic depth of the last block; it rises from 0 in equal steps.
        layer_scale_init_value: Initial value of the factors on each branch; 0 for none.
        out_indices: The stages, from 0, that give features; negative ones count from the end.
        frozen_stages: What does not learn: n the stem and the first n stages, 0 nothing.
        gap_before_final_norm: Whether a feature is averaged over all positions before it is normalised.
        with_cp: Whether training saves memory by computing the blocks a second time in the backward pass.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
        plugins: Modules after blocks or stages, as `PluginPlan` describes them, with `position` after_block
            (the default) or after_stage.

    Raises:
        ConfigError: An argument's value is not among the accepted ones.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "tiny",
        in_channels: int = 3,
        stem_patch_size: int = 4,
        norm_cfg: Mapping[str, Any] | None = None,
        act_cfg: Mapping[str, Any] | None = None,
        linear_pw_conv: bool = True,
        use_grn: bool = False,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        out_indices: Sequence[int] | int = -1,
        frozen_stages: int = 0,
        gap_before_final_norm: bool = True,
        with_cp: bool = False,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        plugins: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        sizes = named_arch("ConvNeXt", arch, ARCHS, ARCH_FIELDS)
        self.depths, channels = tuple(sizes["depths"]), tuple(sizes["channels"])
        _check_lengths(self.depths, channels)
        self.out_indices = check_out_indices(out_indices, len(self.depths))
        self.frozen_stages = check_frozen_stages(frozen_stages, len(self.depths))
        self.gap_before_final_norm = gap_before_final_norm
        norm_cfg = norm_cfg or {"type": "LN2d", "eps": 1e-6}
        options = BlockOptions(
            norm_cfg, act_cfg or {"type": "GELU"}, linear_pw_conv, use_grn, layer_scale_init_value, with_cp
        )
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels[0], stem_patch_size, stride=stem_patch_size),
            build_norm_layer(norm_cfg, channels[0]),
        )
        plan = PluginPlan(plugins, POSITIONS, len(channels), default="after_block")
        self._make_stages(channels, options, drop_path_rate, plan)
        self._make_norms(channels, norm_cfg)
        self.out_channels = tuple(channels[i] for i in self.out_indices)
        self.feature_dim = self.out_channels[-1]
        self._initialise()
        self.freeze()

    def _make_stages(
        self, channels: Sequence[int], options: BlockOptions, drop_path_rate: float, plan: PluginPlan
    ) -> None:
        rates = iter(linear_rates(drop_path_rate, sum(self.depths)))
        self.stages = nn.Sequential()
        for i, (depth, dim) in enumerate(zip(self.depths, channels, strict=True)):
            stage = nn.Sequential()
            stage.downsample = (
                nn.Identity() if i == 0 else _downsample(channels[i - 1], dim, options.norm_cfg)
            )
            stage.blocks = nn.Sequential(
                *(
                    ConvNeXtBlock(dim, options, next(rates), plan.build("after_block", i, dim))
                    for _ in range(depth)
                )
            )
            after = plan.build("after_stage", i, dim)
            if after is not None:
                stage.after_stage = after
            self.stages.append(stage)

    def _make_norms(self, channels: Sequence[int], norm_cfg: Mapping[str, Any]) -> None:
        for i in self.out_indices:
            norm = build_norm_layer(norm_cfg, channels[i])
            if i == len(channels) - 1:
                self.head = nn.Sequential(OrderedDict(norm=norm))
            else:
                self.add_module(f"norm{i}", norm)

    def _norm(self, stage: int) -> nn.Module:
        return self.get_submodule("head" if stage == len(self.depths) - 1 else f"norm{stage}")

    def _initialise(self) -> None:
        for module in own_modules(self):
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def frozen_parts(self) -> Iterable[nn.Module | nn.Parameter]:
        """Return the stem and stages that `frozen_stages` names."""
        return [self.stem, *self.stages[: self.frozen_stages]] if self.frozen_stages > 0 else []

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the features of the stages in `out_indices`.

        Args:
            x: Images (batch, in_channels, height, width).

        Returns:
            For each stage (batch, channels), or without `gap_before_final_norm` (batch, channels, rows,
            columns).
        """
        x = self.stem(x)
        features = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                features.append(self._feature(x, self._norm(i)))
        return tuple(features)

    def _feature(self, x: Tensor, norm: nn.Module) -> Tensor:
        if self.gap_before_final_norm:
            return norm(x.mean(dim=(2, 3), keepdim=True)).flatten(1)
        return norm(x).contiguous()

    def num_blocks(self) -> int:
        """Return the number of groups of blocks: stages, of which the third is counted by three blocks.

        Source: the official fine-tuning, https://github.com/facebookresearch/ConvNeXt, optim_factory.py, and
        mmpretrain's method `get_layer_depth`: 12 groups where the third stage has more than 9 blocks, else 6.
        """
        return 12 if self.depths[-2] > 9 else 6

    def block_of(self, name: str) -> int:
        """Return 0 for the stem, the number of the group of blocks, and one more for the norms."""
        parts = name.split(".")
        if parts[0] == "stem":
            return 0
        if parts[0] != "stages":
            return self.num_blocks() + 1
        stage, from_end = int(parts[1]), len(self.depths) - 1 - int(parts[1])
        if from_end == 0:
            return self.num_blocks()
        if from_end > 1:
            return stage + 1
        block = int(parts[3]) if parts[2] == "blocks" else 0
        return stage + 1 + min(block // 3, self.num_blocks() - stage - 2)


def _downsample(in_channels: int, out_channels: int, norm_cfg: Mapping[str, Any]) -> nn.Sequential:
    norm = build_norm_layer(norm_cfg, in_channels)
    return nn.Sequential(norm, nn.Conv2d(in_channels, out_channels, kernel_size=2, stride=2))


def _check_lengths(depths: Sequence[int], channels: Sequence[int]) -> None:
    if len(depths) != len(channels) or len(depths) < 2:
        raise ConfigError(
            f"ConvNeXt: depths and channels need one entry for each stage, two stages or more; "
            f"got depths={depths}, channels={channels}"
        )
