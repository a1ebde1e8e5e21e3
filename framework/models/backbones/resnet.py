"""ResNet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from framework.errors import ConfigError
from framework.models.backbones.base import BaseBackbone, check_frozen_stages, check_out_indices
from framework.models.layers import build_drop_path, build_norm_layer
from framework.registry import BACKBONES


@dataclass(frozen=True)
class BlockOptions:
    """What all residual blocks of a network share, by the names that `ResNet` has for it."""

    expansion: int
    style: str
    avg_down: bool
    with_cp: bool
    norm_cfg: Mapping[str, Any]
    drop_path_rate: float


@dataclass(frozen=True)
class BlockShape:
    """Channels, stride and dilation of one residual block."""

    in_channels: int
    out_channels: int
    stride: int
    dilation: int


class ResidualBlock(nn.Module):
    """What the two kinds of residual blocks share: the shortcut, and its sum with the branch."""

    expansion = 1

    def __init__(self, shape: BlockShape, options: BlockOptions) -> None:
        super().__init__()
        self.with_cp = options.with_cp
        self.make_branch(shape, options)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_downsample(shape, options)
        self.drop_path = build_drop_path(options.drop_path_rate)

    def make_branch(self, shape: BlockShape, options: BlockOptions) -> None:
        """Create the layers of the residual branch."""
        raise NotImplementedError

    def branch(self, x: Tensor) -> Tensor:
        """Return the residual branch of `x`."""
        raise NotImplementedError

    def last_norm(self) -> nn.Module:
        """Return the normalisation layer at the end of the branch, which has a weight."""
        raise NotImplementedError

    def residual(self, x: Tensor) -> Tensor:
        """Return shortcut plus branch, before the last activation."""
        out = self.drop_path(self.branch(x))
        out += x if self.downsample is None else self.downsample(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to (batch, out_channels, h / stride, w / stride)."""
        if self.with_cp and x.requires_grad:
            return self.relu(checkpoint(self.residual, x, use_reentrant=False))
        return self.relu(self.residual(x))


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions, for ResNet-18 and 34 (https://arxiv.org/abs/1512.03385, figure 5, left)."""

    def make_branch(self, shape: BlockShape, options: BlockOptions) -> None:
        """Create the layers of the residual branch."""
        mid = shape.out_channels // options.expansion
        self.conv1 = conv3x3(shape.in_channels, mid, shape.stride, shape.dilation)
        self.bn1 = build_norm_layer(options.norm_cfg, mid)
        self.conv2 = conv3x3(mid, shape.out_channels)
        self.bn2 = build_norm_layer(options.norm_cfg, shape.out_channels)

    def branch(self, x: Tensor) -> Tensor:
        """Return the residual branch of `x`."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))

    def last_norm(self) -> nn.Module:
        """Return the normalisation layer at the end of the branch."""
        return self.bn2


class Bottleneck(ResidualBlock):
    """1x1, 3x3, 1x1 convolutions, for the deeper ones (https://arxiv.org/abs/1512.03385, figure 5, right)."""

    expansion = 4

    def make_branch(self, shape: BlockShape, options: BlockOptions) -> None:
        """Create the layers of the residual branch."""
        mid = shape.out_channels // options.expansion
        first, second = (1, shape.stride) if options.style == "pytorch" else (shape.stride, 1)
        self.conv1 = conv1x1(shape.in_channels, mid, first)
        self.bn1 = build_norm_layer(options.norm_cfg, mid)
        self.conv2 = conv3x3(mid, mid, second, shape.dilation)
        self.bn2 = build_norm_layer(options.norm_cfg, mid)
        self.conv3 = conv1x1(mid, shape.out_channels)
        self.bn3 = build_norm_layer(options.norm_cfg, shape.out_channels)

    def branch(self, x: Tensor) -> Tensor:
        """Return the residual branch of `x`."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))

    def last_norm(self) -> nn.Module:
        """Return the normalisation layer at the end of the branch."""
        return self.bn3


DEPTHS: dict[int, tuple[type[ResidualBlock], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
STYLES = ("pytorch", "caffe")


@BACKBONES.register_module()
class ResNet(BaseBackbone):
    """ResNet. Its parameters are named as torchvision's; with `deep_stem` and `avg_down` as timm's resnet50d.

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
            (Bag of Tricks, https://arxiv.org/abs/1812.01187, ResNet-C).
        avg_down: Average pooling before a 1x1 convolution in a shortcut with a stride (the same, ResNet-D).
        frozen_stages: What does not learn: -1 nothing, 0 the stem, n the stem and the first n stages.
        conv_cfg: None; there is only one kind of convolution.
        norm_cfg: The normalisation layers, with `type` BN, SyncBN or GN.
        norm_eval: Whether batch normalisation keeps its statistics in training.
        with_cp: Whether training saves memory by computing the blocks a second time in the backward pass.
        zero_init_residual: Whether the last normalisation of each block starts with weight 0, so that blocks
            start as identities (https://arxiv.org/abs/1706.02677).
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
        drop_path_rate: Rate of stochastic depth, the same for all blocks.

    Raises:
        ConfigError: An argument's value is not among the accepted ones.
    """

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
        deep_stem: bool = False,
        avg_down: bool = False,
        frozen_stages: int = -1,
        conv_cfg: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        norm_eval: bool = False,
        with_cp: bool = False,
        zero_init_residual: bool = True,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        drop_path_rate: float = 0.0,
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
        expansion = block.expansion if expansion is None else expansion
        options = BlockOptions(expansion, style, avg_down, with_cp, norm_cfg, drop_path_rate)

        self.conv1 = (
            make_stem(in_channels, stem_channels, norm_cfg)
            if deep_stem
            else conv7x7(in_channels, stem_channels)
        )
        self.bn1 = build_norm_layer(norm_cfg, stem_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        widths = [base_channels * expansion * 2**i for i in range(num_stages)]
        for i, before in enumerate([stem_channels, *widths[:-1]]):
            shape = BlockShape(before, widths[i], strides[i], dilations[i])
            self.add_module(f"layer{i + 1}", make_stage(block, self.stage_blocks[i], shape, options))
        self.out_channels = tuple(widths[i] for i in self.out_indices)
        self.feature_dim = self.out_channels[-1]
        self._initialise(zero_init_residual)
        self.freeze()

    def _initialise(self, zero_init_residual: bool) -> None:
        for module in self.modules():
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
        return sum(self.stage_blocks[: int(stage) - 1]) + int(block) + 1


def make_stage(
    block: type[ResidualBlock], count: int, first: BlockShape, options: BlockOptions
) -> nn.Sequential:
    """Return a stage of `count` blocks, of which the first changes channels and resolution."""
    others = BlockShape(first.out_channels, first.out_channels, 1, first.dilation)
    return nn.Sequential(*(block(others if i else first, options) for i in range(count)))


def make_downsample(shape: BlockShape, options: BlockOptions) -> nn.Sequential | None:
    """Return what brings the shortcut to the shape of the branch, or None where it has that shape."""
    if shape.stride == 1 and shape.in_channels == shape.out_channels:
        return None
    norm = build_norm_layer(options.norm_cfg, shape.out_channels)
    if not options.avg_down:
        return nn.Sequential(conv1x1(shape.in_channels, shape.out_channels, shape.stride), norm)
    pool: nn.Module = nn.Identity()
    if shape.stride > 1:
        pool = nn.AvgPool2d(shape.stride, shape.stride, ceil_mode=True, count_include_pad=False)
    return nn.Sequential(pool, conv1x1(shape.in_channels, shape.out_channels), norm)


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


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution without bias that keeps the resolution at stride 1."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 1x1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


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
