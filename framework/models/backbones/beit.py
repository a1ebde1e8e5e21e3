"""BEiT, versions 1 and 2."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from framework.errors import ConfigError
from framework.models.backbones.vision_transformer import VisionTransformer
from framework.models.layers import BEiTBlock, RelativePositionBias
from framework.registry import BACKBONES


@BACKBONES.register_module()
class BEiTViT(VisionTransformer):
    """The Vision Transformer of BEiT and data2vec, with relative position bias.

    Its parameters are named as timm's `Beit`, its arguments as mmpretrain's.

    Source: BEiT, https://arxiv.org/abs/2106.08254; BEiT v2, https://arxiv.org/abs/2208.06366; data2vec,
    https://arxiv.org/abs/2202.03555. Weights start as `VisionTransformer`'s, of which the last linear layer
    of each branch of layer i is divided by sqrt(2 i), i from 1.

    Args:
        arch: As in `VisionTransformer`, and so are all arguments not explained here.
        img_size: Size in pixels of the images. With relative positions no other size is accepted.
        patch_size: See there.
        in_channels: See there.
        out_indices: See there.
        drop_rate: See there.
        drop_path_rate: See there.
        bias: `qv_bias` (queries and values have one), True (keys, too) or False.
        norm_cfg: See there.
        final_norm: See there.
        out_type: See there.
        with_cls_token: See there.
        frozen_stages: See there.
        use_abs_pos_emb: Whether there is an absolute positional embedding.
        use_rel_pos_bias: Whether each layer has a bias for relative positions.
        use_shared_rel_pos_bias: Whether all layers share one. Excludes the former.
        layer_scale_init_value: Initial value of the factors on each branch; 0 for none.
        interpolate_mode: See there.
        patch_cfg: See there.
        layer_cfgs: Arguments of `BEiTBlock` that replace the above: one dict for all layers, or one for each.
        init_cfg: See there.
        plugins: See there.

    Raises:
        ConfigError: An argument's value is not among the accepted ones.
    """

    block = BEiTBlock

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "base",
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_channels: int = 3,
        out_indices: Sequence[int] | int = -1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        bias: str | bool = "qv_bias",
        norm_cfg: Mapping[str, Any] | None = None,
        final_norm: bool = False,
        out_type: str = "avg_featmap",
        with_cls_token: bool = True,
        frozen_stages: int = -1,
        use_abs_pos_emb: bool = False,
        use_rel_pos_bias: bool = True,
        use_shared_rel_pos_bias: bool = False,
        layer_scale_init_value: float = 0.1,
        interpolate_mode: str = "bicubic",
        patch_cfg: Mapping[str, Any] | None = None,
        layer_cfgs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        plugins: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        if use_rel_pos_bias and use_shared_rel_pos_bias:
            raise ConfigError("BEiTViT: use_rel_pos_bias and use_shared_rel_pos_bias exclude each other")
        self.bias, self.use_abs_pos_emb = bias, use_abs_pos_emb
        self.use_rel_pos_bias, self.use_shared_rel_pos_bias = use_rel_pos_bias, use_shared_rel_pos_bias
        super().__init__(
            arch=arch,
            img_size=img_size,
            patch_size=patch_size,
            in_channels=in_channels,
            out_indices=out_indices,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            norm_cfg=norm_cfg,
            final_norm=final_norm,
            out_type=out_type,
            with_cls_token=with_cls_token,
            frozen_stages=frozen_stages,
            interpolate_mode=interpolate_mode,
            layer_scale_init_value=layer_scale_init_value,
            patch_cfg=patch_cfg,
            layer_cfgs=layer_cfgs,
            init_cfg=init_cfg,
            plugins=plugins,
        )

    def make_tokens(self, with_cls_token: bool, num_registers: int, no_embed_class: bool) -> None:
        """Create the class token, and the positional embedding if there is one."""
        super().make_tokens(with_cls_token, num_registers, no_embed_class)
        if not self.use_abs_pos_emb:
            self.pos_embed = None

    def layer_arguments(self, shared: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments that all layers share."""
        arguments = {name: value for name, value in shared.items() if name != "qkv_bias"}
        window = self.patch_embed.grid_size if self.use_rel_pos_bias else None
        with_cls_token = self.cls_token is not None
        self.rel_pos_bias = None
        if self.use_shared_rel_pos_bias:
            size, heads = self.patch_embed.grid_size, shared["num_heads"]
            self.rel_pos_bias = RelativePositionBias(size, heads, with_cls_token)
        return {**arguments, "bias": self.bias, "window_size": window, "with_cls_token": with_cls_token}

    def initialise(self) -> None:
        """Draw initial values."""
        super().initialise()
        with torch.no_grad():
            for i, block in enumerate(self.blocks):
                for name in ("attn.proj", "mlp.fc2"):
                    block.get_submodule(name).get_parameter("weight").div_(math.sqrt(2.0 * (i + 1)))

    def block_arguments(self, grid: tuple[int, int]) -> tuple[Any, ...]:
        """Return the shared bias for relative positions, or None.

        Raises:
            ValueError: The image is not of `img_size`, which relative positions need.
        """
        expected = self.patch_embed.grid_size
        if grid != expected and (self.use_rel_pos_bias or self.use_shared_rel_pos_bias):
            raise ValueError(
                f"an image of {grid[0]}x{grid[1]} patches, but the relative position bias is for "
                f"{expected[0]}x{expected[1]}: resize the images, or build BEiTViT with their img_size"
            )
        return (None if self.rel_pos_bias is None else self.rel_pos_bias(),)
