"""Swin Transformer V2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from framework.errors import ConfigError
from framework.models.backbones import swin_transformer
from framework.models.backbones.swin_transformer import BLOCK_FIELDS, Configs, SwinTransformer, per_item
from framework.models.layers import PatchMergingV2, SwinBlockV2
from framework.registry import BACKBONES

#: Sizes by name: https://arxiv.org/abs/2111.09883, section 4.1; the heads of huge and giant are mmpretrain's.
ARCHS: dict[str, dict[str, Any]] = {
    **{name: {**sizes, "extra_norm_every_n_blocks": 0} for name, sizes in swin_transformer.ARCHS.items()},
    "huge": {
        "embed_dims": 352,
        "depths": (2, 2, 18, 2),
        "num_heads": (8, 16, 32, 64),
        "extra_norm_every_n_blocks": 6,
    },
    "giant": {
        "embed_dims": 512,
        "depths": (2, 2, 42, 4),
        "num_heads": (16, 32, 64, 128),
        "extra_norm_every_n_blocks": 6,
    },
}


@BACKBONES.register_module()
class SwinTransformerV2(SwinTransformer):
    """Swin Transformer V2. Its parameters are named as timm's, its arguments as mmpretrain's.

    Source: Swin Transformer V2, https://arxiv.org/abs/2111.09883.

    Args:
        arch: tiny, small, base, large, huge or giant, or a dict of embed_dims, depths, num_heads and
            extra_norm_every_n_blocks (0 for none).
        img_size: As in `SwinTransformer`, and so are all arguments not listed here.
        patch_size: See there.
        in_channels: See there.
        window_size: Rows and columns of the attention windows; one number for all stages, or one for each.
        drop_rate: See there.
        drop_path_rate: See there.
        out_indices: See there.
        use_abs_pos_embed: See there.
        interpolate_mode: See there.
        with_cp: See there.
        frozen_stages: See there.
        norm_eval: See there.
        pad_small_map: See there.
        norm_cfg: See there.
        stage_cfgs: See there.
        patch_cfg: See there.
        pretrained_window_sizes: Window of each stage in pre-training, which scales the offsets; 0 for
            `window_size`.
        init_cfg: See there.
        plugins: See there.

    Raises:
        ConfigError: An argument's value is not among the accepted ones.
    """

    archs = ARCHS
    arch_fields = (*swin_transformer.ARCH_FIELDS, "extra_norm_every_n_blocks")
    block = SwinBlockV2
    merging = PatchMergingV2

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "tiny",
        img_size: int | tuple[int, int] = 256,
        patch_size: int | tuple[int, int] = 4,
        in_channels: int = 3,
        window_size: int | Sequence[int] = 8,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        out_indices: Sequence[int] | int = (3,),
        use_abs_pos_embed: bool = False,
        interpolate_mode: str = "bicubic",
        with_cp: bool = False,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        pad_small_map: bool = False,
        norm_cfg: Mapping[str, Any] | None = {"type": "LN"},
        stage_cfgs: Configs = None,
        patch_cfg: Mapping[str, Any] | None = None,
        pretrained_window_sizes: Sequence[int] = (0, 0, 0, 0),
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        plugins: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self.pretrained_window_sizes = tuple(pretrained_window_sizes)
        super().__init__(
            arch=arch,
            img_size=img_size,
            patch_size=patch_size,
            in_channels=in_channels,
            window_size=window_size,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            out_indices=out_indices,
            use_abs_pos_embed=use_abs_pos_embed,
            interpolate_mode=interpolate_mode,
            with_cp=with_cp,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            pad_small_map=pad_small_map,
            norm_cfg=norm_cfg,
            stage_cfgs=stage_cfgs,
            patch_cfg=patch_cfg,
            init_cfg=init_cfg,
            plugins=plugins,
        )

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
        cfgs = super().stage_configs(sizes, window_size, shared, stage_cfgs)
        pretrained, every = self.pretrained_window_sizes, sizes["extra_norm_every_n_blocks"]
        if len(pretrained) != len(cfgs):
            raise ConfigError(
                f"pretrained_window_sizes needs one entry for each of the {len(cfgs)} stages, "
                f"got {pretrained}"
            )
        for depth, cfg, size in zip(sizes["depths"], cfgs, pretrained, strict=True):
            cfg["pretrained_window_size"] = size
            if every:
                own = per_item(cfg.get("block_cfgs"), depth, "block_cfgs", BLOCK_FIELDS)
                cfg["block_cfgs"] = [{"extra_norm": (j + 1) % every == 0, **own[j]} for j in range(depth)]
        return cfgs
