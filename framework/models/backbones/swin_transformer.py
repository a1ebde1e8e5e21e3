"""Swin Transformer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.errors import ConfigError
from framework.models.backbones.base import (
    BaseBackbone,
    check_fields,
    check_frozen_stages,
    check_out_indices,
    named_arch,
)
from framework.models.layers import (
    INTERPOLATIONS,
    PatchEmbed,
    PatchMerging,
    PluginPlan,
    SwinBlock,
    build_norm_layer,
    linear_rates,
    on_channels_first,
    own_modules,
    resize_pos_embed,
)
from framework.registry import BACKBONES

#: Sizes by name: https://arxiv.org/abs/2103.14030, section 3.3.
ARCHS: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dims": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)},
    "small": {"embed_dims": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)},
    "base": {"embed_dims": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)},
    "large": {"embed_dims": 192, "depths": (2, 2, 18, 2), "num_heads": (6, 12, 24, 48)},
}
ALIASES = {"t": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge", "g": "giant"}
ARCH_FIELDS = ("embed_dims", "depths", "num_heads")
POSITIONS = ("after_block", "after_stage")
PATCH_FIELDS = ("stride", "padding", "bias", "norm_cfg")
BLOCK_FIELDS = (
    *("num_heads", "window_size", "shift", "ffn_ratio", "drop_path", "pad_small_map", "with_cp"),
    *("attn_cfgs", "ffn_cfgs", "norm_cfg", "pretrained_window_size", "extra_norm"),
)
STAGE_FIELDS = ("block_cfgs", "window_size", "num_heads", "pad_small_map", "with_cp")

Configs = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None


class SwinStage(nn.Module):
    """Blocks on maps of one size, after patch merging where the stage begins with it.

    Args:
        downsample: Patch merging, or an identity.
        blocks: The blocks.
        after_stage: Plugins after the last block, or None.
    """

    def __init__(
        self,
        downsample: nn.Module,
        blocks: Iterable[nn.Module],
        after_stage: nn.Module | None,
    ) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)
        self.after_stage = after_stage or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Pass maps (batch, rows, columns, channels) through the blocks; `downsample` comes before."""
        return on_channels_first(self.after_stage, self.blocks(x))


@BACKBONES.register_module()
class SwinTransformer(BaseBackbone):
    """Swin Transformer. Its parameters are named as timm's, its arguments as mmpretrain's.

    The norm of the last stage is called `norm`, as timm calls it, and those of earlier stages `norm0`,
    `norm1`, ...

    Source: Swin Transformer, https://arxiv.org/abs/2103.14030. Linear layers start from a normal distribution
    of standard deviation 0.02, cut off at two, biases from 0.

    Args:
        arch: tiny, small, base or large, or a dict of embed_dims (channels of the first stage; each later one
            has twice as many), depths (blocks of each stage) and num_heads (attention heads of each stage).
        img_size: Size in pixels of the images that `use_abs_pos_embed` is made for. All sizes are accepted.
        patch_size: Size of a patch in pixels.
        in_channels: Channels of the images.
        window_size: Rows and columns of the attention windows; one number for all stages, or one for each.
        drop_rate: Dropout of the patch embeddings.
        drop_path_rate: Rate of stochastic depth of the last block; it rises from 0 in equal steps.
        out_indices: The stages, from 0, that give features; negative ones count from the end.
        out_after_downsample: Whether a feature is taken after the patch merging that follows the stage.
        use_abs_pos_embed: Whether there is an absolute positional embedding, too.
        interpolate_mode: How it is interpolated for other sizes: bicubic, bilinear or nearest.
        with_cp: Whether training saves memory by computing the blocks a second time in the backward pass.
        frozen_stages: What does not learn: -1 nothing, n the patch embedding and the stages 0 to n.
        norm_eval: Whether batch normalisation keeps its statistics in training.
        pad_small_map: Whether maps smaller than a window are padded to its size, and maps of its size are
            shifted, which detection and segmentation do. Otherwise the first is an error, and maps of the
            window's size are not shifted.
        norm_cfg: The normalisation of the features, None for none. Default LN.
        stage_cfgs: What differs between stages: one dict for all stages, or one for each, of `window_size`,
            `num_heads`, `pad_small_map`, `with_cp`, and `block_cfgs`, one dict for all blocks or one for each
            of arguments of the blocks.
        patch_cfg: `stride`, `padding`, `bias` and `norm_cfg` of the patch embedding.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
        plugins: Modules after blocks or stages, as `PluginPlan` describes them, with `position` after_block
            (the default) or after_stage.

    Raises:
        ConfigError: An argument's value is not among the accepted ones.
    """

    archs: Mapping[str, Mapping[str, Any]] = ARCHS
    arch_fields: Sequence[str] = ARCH_FIELDS
    block: type[SwinBlock] = SwinBlock
    merging: type[PatchMerging] = PatchMerging

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "tiny",
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 4,
        in_channels: int = 3,
        window_size: int | Sequence[int] = 7,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        out_indices: Sequence[int] | int = (3,),
        out_after_downsample: bool = False,
        use_abs_pos_embed: bool = False,
        interpolate_mode: str = "bicubic",
        with_cp: bool = False,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        pad_small_map: bool = False,
        norm_cfg: Mapping[str, Any] | None = {"type": "LN"},
        stage_cfgs: Configs = None,
        patch_cfg: Mapping[str, Any] | None = None,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        plugins: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        sizes = named_arch(type(self).__name__, arch, self.archs, self.arch_fields, ALIASES)
        self.depths, stages = tuple(sizes["depths"]), len(sizes["depths"])
        self.out_indices = check_out_indices(out_indices, stages)
        self.frozen_stages = check_frozen_stages(frozen_stages, stages - 1)
        self.out_after_downsample, self.norm_eval = out_after_downsample, norm_eval
        self.interpolate_mode = _checked_mode(interpolate_mode)
        self._make_embedding(sizes["embed_dims"], img_size, patch_size, in_channels, patch_cfg)
        self.absolute_pos_embed = None
        if use_abs_pos_embed:
            rows, columns = self.patch_embed.grid_size
            self.absolute_pos_embed = nn.Parameter(torch.zeros(1, rows * columns, sizes["embed_dims"]))
        self.pos_drop = nn.Dropout(drop_rate)
        shared = {"pad_small_map": pad_small_map, "with_cp": with_cp}
        cfgs = self.stage_configs(sizes, window_size, shared, stage_cfgs)
        self._make_layers(cfgs, drop_path_rate, PluginPlan(plugins, POSITIONS, stages, "after_block"))
        self._make_norms(norm_cfg)
        self._initialise()
        self.freeze()

    def _make_embedding(
        self,
        embed_dims: int,
        img_size: int | tuple[int, int],
        patch_size: int | tuple[int, int],
        in_channels: int,
        patch_cfg: Mapping[str, Any] | None,
    ) -> None:
        check_fields("patch_cfg", patch_cfg or {}, PATCH_FIELDS)
        args = {"norm_cfg": {"type": "LN"}, **(patch_cfg or {})}
        self.patch_embed = PatchEmbed(img_size, patch_size, in_channels, embed_dims, **args)

    def stage_configs(
        self,
        sizes: Mapping[str, Any],
        window_size: int | Sequence[int],
        shared: Mapping[str, Any],
        stage_cfgs: Configs,
    ) -> list[dict[str, Any]]:
        """Return the arguments of the blocks of each stage, with `block_cfgs`.

        Raises:
            ConfigError: Not as many entries as stages, or one is unknown.
        """
        count = len(sizes["depths"])
        windows = [window_size] * count if isinstance(window_size, int) else list(window_size)
        own = per_item(stage_cfgs, count, "stage_cfgs", STAGE_FIELDS)
        if not len(windows) == len(sizes["num_heads"]) == count:
            raise ConfigError(
                f"{type(self).__name__}: window_size and num_heads need one entry for each of the {count} "
                f"stages, got window_size={window_size}, num_heads={tuple(sizes['num_heads'])}"
            )
        cfgs = []
        for i, cfg in enumerate(own):
            unknown = set(cfg) - set(STAGE_FIELDS)
            if unknown:
                accepted = ", ".join(STAGE_FIELDS)
                raise ConfigError(
                    f"stage_cfgs: unknown {', '.join(sorted(unknown))}; accepted are {accepted}"
                )
            defaults = {"dim": sizes["embed_dims"] * 2**i, "num_heads": sizes["num_heads"][i]}
            cfgs.append({**shared, **defaults, "window_size": windows[i], **cfg})
        return cfgs

    def _make_layers(self, cfgs: Sequence[dict[str, Any]], drop_path_rate: float, plan: PluginPlan) -> None:
        rates = iter(linear_rates(drop_path_rate, sum(self.depths)))
        self.layers = nn.ModuleList()
        for i, (depth, cfg) in enumerate(zip(self.depths, cfgs, strict=True)):
            own = per_item(cfg.pop("block_cfgs", None), depth, "block_cfgs", BLOCK_FIELDS)
            dim = cfg["dim"]
            blocks = []
            for j in range(depth):
                args = {**cfg, "shift": j % 2 == 1, "drop_path": next(rates), **own[j]}
                blocks.append(self.block(**args, plugins=plan.build("after_block", i, dim)))
            downsample = nn.Identity() if i == 0 else self.merging(dim // 2, dim)
            self.layers.append(SwinStage(downsample, blocks, plan.build("after_stage", i, dim)))
        self.dims = tuple(cfg["dim"] for cfg in cfgs)

    def _make_norms(self, norm_cfg: Mapping[str, Any] | None) -> None:
        after = [*self.dims[1:], self.dims[-1]] if self.out_after_downsample else self.dims
        self.out_channels = tuple(after[i] for i in self.out_indices)
        self.feature_dim = self.out_channels[-1]
        for i, channels in zip(self.out_indices, self.out_channels, strict=True):
            norm = nn.Identity() if norm_cfg is None else build_norm_layer(norm_cfg, channels)
            self.add_module(self._norm_name(i), norm)

    def _norm_name(self, stage: int) -> str:
        return "norm" if stage == len(self.depths) - 1 else f"norm{stage}"

    def _initialise(self) -> None:
        for module in own_modules(self):
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.absolute_pos_embed is not None:
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)

    def frozen_parts(self) -> Iterable[nn.Module | nn.Parameter]:
        """Return what `frozen_stages` names, with the norms of those stages."""
        if self.frozen_stages < 0:
            return []
        norms = [self.get_submodule(self._norm_name(i)) for i in self.out_indices if i <= self.frozen_stages]
        return [self.patch_embed, *self.layers[: self.frozen_stages + 1], *norms]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the features of the stages in `out_indices`.

        Args:
            x: Images (batch, in_channels, height, width); padded with zeros at the right and the bottom to
                whole patches.

        Returns:
            For each stage (batch, channels, rows, columns).

        Raises:
            ValueError: A map is smaller than the window, and `pad_small_map` is not set.
        """
        return self.encode(*self.embed_patches(x))

    def encode(self, x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, ...]:
        """Return the features of embedded patches (batch, rows * columns, channels), without positions."""
        x = self._with_positions(x, grid)
        features = []
        for i, layer in enumerate(self.layers):
            x = layer(x)
            merged = self.layers[i + 1].get_submodule("downsample")(x) if i + 1 < len(self.layers) else x
            if i in self.out_indices:
                norm = self.get_submodule(self._norm_name(i))
                feature = norm(merged if self.out_after_downsample else x)
                features.append(feature.permute(0, 3, 1, 2).contiguous())
            x = merged
        return tuple(features)

    def embed(self, x: Tensor) -> Tensor:
        """Return the embedded patches (batch, rows, columns, channels) of images, with positions."""
        return self._with_positions(*self.embed_patches(x))

    def _with_positions(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        if self.absolute_pos_embed is not None:
            old = self.patch_embed.grid_size
            x = x + resize_pos_embed(self.absolute_pos_embed, old, grid, 0, self.interpolate_mode)
        return self.pos_drop(x).unflatten(1, grid)

    def embed_patches(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return the embedded patches (batch, rows * columns, channels) of images, and (rows, columns)."""
        height, width = self.patch_embed.proj.stride
        return self.patch_embed(functional.pad(x, (0, -x.shape[-1] % width, 0, -x.shape[-2] % height)))

    def num_blocks(self) -> int:
        """Return the number of blocks."""
        return sum(self.depths)

    def block_of(self, name: str) -> int:
        """Return 0 for the embedding, i + 1 for block i, and one more for the norms.

        Patch merging counts as part of the block that follows it.
        """
        parts = name.split(".")
        if parts[0] != "layers":
            return self.num_blocks() + 1 if parts[0].startswith("norm") else 0
        stage = int(parts[1])
        block = {"blocks": lambda: int(parts[3]), "after_stage": lambda: self.depths[stage] - 1}
        return sum(self.depths[:stage]) + block.get(parts[2], lambda: 0)() + 1


def per_item(cfgs: Configs, count: int, field: str, accepted: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    """Return one config for each item, where one may stand for all.

    Raises:
        ConfigError: There are not as many as items, or one has entries that are not accepted.
    """
    listed = [cfgs or {}] * count if cfgs is None or isinstance(cfgs, Mapping) else list(cfgs)
    if len(listed) != count:
        raise ConfigError(f"{field}: one dict, or one for each of the {count} items; got {len(listed)}")
    for cfg in listed:
        check_fields(field, cfg, accepted)
    return listed


def _checked_mode(mode: str) -> str:
    if mode not in INTERPOLATIONS:
        raise ConfigError(f"interpolate_mode={mode!r}: accepted are {', '.join(INTERPOLATIONS)}")
    return mode
