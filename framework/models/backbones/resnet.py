"""ResNet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from framework.errors import ConfigError
from framework.models.backbones.base import BaseBackbone, check_frozen_stages, check_out_indices
from framework.models.layers import PluginPlan, build_norm_layer, own_modules
from framework.models.layers.residual_block import (
    BasicBlock,
    BlockOptions,
    BlockShape,
    Bottleneck,
    ResidualBlock,
    conv3x3,
)
from framework.registry import BACKBONES

DEPTHS: dict[int, tuple[type[ResidualBlock], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
STYLES = ("pytorch", "caffe")
AFTER_STAGE = "after_stage"


@dataclass(frozen=True)
class Variant:
    """What a member of the family has where the config does not say it, by the names of the arguments."""

    deep_stem: bool = False
    avg_down: bool = False
    groups: int = 1
    width_per_group: int | None = None
    se_ratio: float | None = None


@BACKBONES.register_module()
class ResNet(BaseBackbone):
    """ResNet. Its parameters are named as torchvision's; those that torchvision lacks as timm's.

    Source: Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385. Convolutions are
    initialised as in https://arxiv.org/abs/1502.01852, from the fan out.

    Args:
        depth: 18, 34, 50, 101 or 152.
        in_channels: Channels of the images.
        stem_channels: Channels after the stem.
        base_channels: Channels inside the blocks of the first stage; each later stage doubles them.
        expansion: Channels at the end of a block / channels inside it. Default: 1 for depths 18 and 34, else
            4.
        num_stages: Number of stages, 1 to 4.
        strides: Stride of the first block of each stage.
        dilations: Dilation of the 3x3 convolutions of each stage.
        out_indices: The stages, from 0, that give features.
        style: Where a bottleneck has its stride: `pytorch` in the 3x3 convolution, `caffe` in the first 1x1.
        deep_stem: Three 3x3 convolutions in the stem instead of one 7x7
            (Bag of Tricks, https://arxiv.org/abs/1812.01187, ResNet-C). Default: as the class has it.
        avg_down: Average pooling before a 1x1 convolution in a shortcut with a stride (the same, ResNet-D).
            Default: as the class has it.
        frozen_stages: What does not learn: -1 nothing, 0 the stem, n the stem and the first n stages.
        conv_cfg: None; there is only one kind of convolution.
        norm_cfg: The normalisation layers, with `type` BN, SyncBN or GN.
        norm_eval: Whether batch normalisation keeps its statistics in training.
        with_cp: Whether training saves memory by computing the blocks a second time in the backward pass.
        zero_init_residual: Whether the last normalisation of each block starts with weight 0, so that blocks
            start as identities (https://arxiv.org/abs/1706.02677).
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
        drop_path_rate: Rate of stochastic depth, the same for all blocks.
        groups: Groups of the 3x3 convolutions of bottlenecks. Default: as the class has it.
        width_per_group: Channels of each group in the first stage, with `base_channels` 64: 128 and one group
            make a Wide ResNet-2. Default: as the class has it.
        se_ratio: Channels / those of squeeze and excitation at the end of each branch. Default: as the class
            has it.
        plugins: Modules after layers or stages, as `PluginPlan` describes them, with `position` after_conv1,
            after_conv2, after_conv3 (in bottlenecks) or after_stage.

    Raises:
        ConfigError: An argument's value is not among the accepted ones.
    """

    variant = Variant()

    def __init__(
        self,
        depth: int = 50,
        in_channels: int = 3,
        stem_channels: int = 64,
        base_channels: int = 64,
        expansion: int | None = None,
        num_stages: int = 4,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        out_indices: Sequence[int] | int = (3,),
        style: str = "pytorch",
        deep_stem: bool | None = None,
        avg_down: bool | None = None,
        frozen_stages: int = -1,
        conv_cfg: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        norm_eval: bool = False,
        with_cp: bool = False,
        zero_init_residual: bool = True,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        drop_path_rate: float = 0.0,
        groups: int | None = None,
        width_per_group: int | None = None,
        se_ratio: float | None = None,
        plugins: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        _check(depth=depth, style=style, conv_cfg=conv_cfg)
        _check_stages(num_stages, strides, dilations)
        block, blocks = DEPTHS[depth]
        self.stage_blocks = blocks[:num_stages]
        self.out_indices = check_out_indices(out_indices, num_stages)
        self.frozen_stages = check_frozen_stages(frozen_stages, num_stages)
        self.norm_eval = norm_eval
        norm_cfg = {"type": "BN"} if norm_cfg is None else norm_cfg
        kind = _resolved(self.variant, deep_stem, avg_down, groups, width_per_group, se_ratio)
        _check_groups(depth, kind)
        options = BlockOptions(
            base_channels=base_channels,
            expansion=block.expansion if expansion is None else expansion,
            style=style,
            avg_down=kind.avg_down,
            with_cp=with_cp,
            norm_cfg=norm_cfg,
            drop_path_rate=drop_path_rate,
            groups=kind.groups,
            width_per_group=kind.width_per_group,
            se_ratio=kind.se_ratio,
            plan=PluginPlan(plugins, (*block.positions, AFTER_STAGE), num_stages),
        )
        self._make_stem(in_channels, stem_channels, norm_cfg, kind.deep_stem)
        widths = [base_channels * options.expansion * 2**i for i in range(num_stages)]
        for i, before in enumerate([stem_channels, *widths[:-1]]):
            shape = BlockShape(i, before, widths[i], strides[i], dilations[i])
            self.add_module(f"layer{i + 1}", make_stage(block, self.stage_blocks[i], shape, options))
        self.out_channels = tuple(widths[i] for i in self.out_indices)
        self.feature_dim = self.out_channels[-1]
        self._initialise(zero_init_residual)
        self.freeze()

    def _make_stem(
        self, in_channels: int, stem_channels: int, norm_cfg: Mapping[str, Any], deep: bool
    ) -> None:
        self.conv1 = (
            make_stem(in_channels, stem_channels, norm_cfg) if deep else conv7x7(in_channels, stem_channels)
        )
        self.bn1 = build_norm_layer(norm_cfg, stem_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

    def _initialise(self, zero_init_residual: bool) -> None:
        for module in own_modules(self):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual:
            for module in self.modules():
                if isinstance(module, ResidualBlock):
                    nn.init.zeros_(module.last_norm().get_parameter("weight"))

    def stages(self) -> list[nn.Module]:
        """Return the stages in order."""
        return [self.get_submodule(f"layer{i + 1}") for i in range(len(self.stage_blocks))]

    def frozen_parts(self) -> Iterable[nn.Module | nn.Parameter]:
        """Return the stem and stages that `frozen_stages` names."""
        if self.frozen_stages < 0:
            return []
        return [self.conv1, self.bn1, *self.stages()[: self.frozen_stages]]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the features of the stages in `out_indices`.

        Args:
            x: Images (batch, in_channels, height, width).

        Returns:
            For stage i (batch, base_channels * expansion * 2**i, height / 2**(i + 2), width / 2**(i + 2))
            with the default strides, sizes rounded up.
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        features = []
        for i, stage in enumerate(self.stages()):
            x = stage(x)
            if i in self.out_indices:
                features.append(x)
        return tuple(features)

    def num_blocks(self) -> int:
        """Return the number of residual blocks."""
        return sum(self.stage_blocks)

    def block_of(self, name: str) -> int:
        """Return 0 for the stem, and i + 1 for the residual block i, counted over all stages."""
        if not name.startswith("layer"):
            return 0
        stage, block = name.removeprefix("layer").split(".")[:2]
        last = self.stage_blocks[int(stage) - 1] - 1
        return sum(self.stage_blocks[: int(stage) - 1]) + (last if block == AFTER_STAGE else int(block)) + 1


def make_stage(
    block: type[ResidualBlock], count: int, first: BlockShape, options: BlockOptions
) -> nn.Sequential:
    """Return a stage of `count` blocks, of which the first changes channels and resolution, and plugins."""
    others = BlockShape(first.stage, first.out_channels, first.out_channels, 1, first.dilation)
    stage = nn.Sequential(*(block(others if i else first, options) for i in range(count)))
    plugins = options.plan.build(AFTER_STAGE, first.stage, first.out_channels)
    if plugins is not None:
        stage.add_module(AFTER_STAGE, plugins)
    return stage


def make_stem(in_channels: int, out_channels: int, norm_cfg: Mapping[str, Any]) -> nn.Sequential:
    """Return the deep stem: three 3x3 convolutions, of which the first halves the resolution."""
    mid = out_channels // 2
    return nn.Sequential(
        conv3x3(in_channels, mid, stride=2),
        build_norm_layer(norm_cfg, mid),
        nn.ReLU(inplace=True),
        conv3x3(mid, mid),
        build_norm_layer(norm_cfg, mid),
        nn.ReLU(inplace=True),
        conv3x3(mid, out_channels),
    )


def conv7x7(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return the convolution of the plain stem, which halves the resolution."""
    return nn.Conv2d(in_channels, out_channels, 7, stride=2, padding=3, bias=False)


def _check(depth: int, style: str, conv_cfg: Mapping[str, Any] | None) -> None:
    if depth not in DEPTHS:
        raise ConfigError(f"ResNet has no depth {depth!r}: accepted are {', '.join(map(str, DEPTHS))}")
    if style not in STYLES:
        raise ConfigError(f"ResNet has no style {style!r}: accepted are {', '.join(STYLES)}")
    if conv_cfg is not None:
        raise ConfigError(f"ResNet has only plain convolutions: accepted is conv_cfg=None, got {conv_cfg!r}")


def _check_stages(num_stages: int, strides: Sequence[int], dilations: Sequence[int]) -> None:
    if not 1 <= num_stages <= 4:
        raise ConfigError(f"num_stages={num_stages}: accepted are 1 to 4")
    if len(strides) != num_stages or len(dilations) != num_stages:
        raise ConfigError(
            f"strides and dilations need one entry for each of the {num_stages} stages, "
            f"got strides={tuple(strides)}, dilations={tuple(dilations)}"
        )


def _resolved(
    variant: Variant,
    deep_stem: bool | None,
    avg_down: bool | None,
    groups: int | None,
    width_per_group: int | None,
    se_ratio: float | None,
) -> Variant:
    """Return the variant with what the config says instead."""
    groups = variant.groups if groups is None else groups
    if width_per_group is None and groups == variant.groups:
        width_per_group = variant.width_per_group
    elif width_per_group is None and groups > 1:
        width_per_group = variant.width_per_group or 4
    return Variant(
        variant.deep_stem if deep_stem is None else deep_stem,
        variant.avg_down if avg_down is None else avg_down,
        groups,
        width_per_group,
        variant.se_ratio if se_ratio is None else se_ratio,
    )


def _check_groups(depth: int, variant: Variant) -> None:
    if depth < 50 and (variant.groups != 1 or variant.width_per_group is not None):
        raise ConfigError(
            f"depth={depth} has no bottlenecks, which groups={variant.groups} and "
            f"width_per_group={variant.width_per_group} are for: choose depth 50, 101 or 152"
        )
