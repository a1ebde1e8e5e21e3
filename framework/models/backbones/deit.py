"""DeiT with a distillation token, and DeiT III."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from framework.errors import ConfigError
from framework.models.backbones import vision_transformer
from framework.models.backbones.vision_transformer import VisionTransformer
from framework.registry import BACKBONES

#: LayerScale starts from this value: https://arxiv.org/abs/2204.07118 and its repository, models_v2.py.
LAYER_SCALE = 1e-4


@BACKBONES.register_module()
class DistilledVisionTransformer(VisionTransformer):
    """Vision Transformer with a distillation token, which stands behind the class token.

    Its parameters are named as timm's `VisionTransformerDistilled`, its arguments are `VisionTransformer`'s.
    With `out_type='cls_token'` a feature is the pair of class token and distillation token, which
    `DeiTClsHead` takes.

    Source: DeiT, https://arxiv.org/abs/2012.12877, section 4.
    """

    def make_tokens(self, with_cls_token: bool, num_registers: int, no_embed_class: bool) -> None:
        """Create the tokens before the patches, and the positional embedding.

        Raises:
            ConfigError: There is no class token.
        """
        if not with_cls_token:
            raise ConfigError("DistilledVisionTransformer needs with_cls_token=True")
        self.dist_token: nn.Parameter | None = self.token(1)
        super().make_tokens(with_cls_token, num_registers, no_embed_class)

    def prefix(self) -> list[nn.Parameter]:
        """Return the tokens that stand before the patches, in order."""
        first, *registers = super().prefix()
        return [first, *([] if self.dist_token is None else [self.dist_token]), *registers]

    def feature(self, x: Tensor, grid: tuple[int, int]) -> Any:
        """Return the feature that `out_type` names of tokens (batch, tokens, channels)."""
        return (x[:, 0], x[:, 1]) if self.out_type == "cls_token" else super().feature(x, grid)


@BACKBONES.register_module()
class DeiT3(VisionTransformer):
    """The Vision Transformer of DeiT III: LayerScale, and no position for the class token.

    Its parameters are named as timm's, its arguments as mmpretrain's.

    Source: DeiT III, https://arxiv.org/abs/2204.07118.

    Args:
        arch: small, medium, base, large or huge, or a dict as in `VisionTransformer`, from where all
            arguments are that are not explained here.
        img_size: See there.
        patch_size: See there.
        in_channels: See there.
        out_indices: See there.
        drop_rate: See there.
        drop_path_rate: See there.
        qkv_bias: See there.
        norm_cfg: See there.
        final_norm: See there.
        out_type: See there.
        with_cls_token: See there.
        use_layer_scale: Whether the branches of the layers have factors, which start from 1e-4.
        interpolate_mode: See there.
        patch_cfg: See there.
        layer_cfgs: See there.
        init_cfg: See there.
        frozen_stages: See there.
        plugins: See there.

    Raises:
        ConfigError: An argument's value is not among the accepted ones.
    """

    archs = {
        **{name: vision_transformer.ARCHS[name] for name in ("tiny", "base", "large", "huge")},
        "small": vision_transformer.ARCHS["deit-small"],
        "medium": {"embed_dims": 512, "num_layers": 12, "num_heads": 8, "feedforward_channels": 2048},
    }
    aliases = {"s": "small", "m": "medium", "b": "base", "l": "large", "h": "huge"}

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "base",
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_channels: int = 3,
        out_indices: Sequence[int] | int = -1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        qkv_bias: bool = True,
        norm_cfg: Mapping[str, Any] | None = None,
        final_norm: bool = True,
        out_type: str = "cls_token",
        with_cls_token: bool = True,
        use_layer_scale: bool = True,
        interpolate_mode: str = "bicubic",
        patch_cfg: Mapping[str, Any] | None = None,
        layer_cfgs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        frozen_stages: int = -1,
        plugins: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(
            arch=arch,
            img_size=img_size,
            patch_size=patch_size,
            in_channels=in_channels,
            out_indices=out_indices,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            qkv_bias=qkv_bias,
            norm_cfg=norm_cfg,
            final_norm=final_norm,
            out_type=out_type,
            with_cls_token=with_cls_token,
            frozen_stages=frozen_stages,
            interpolate_mode=interpolate_mode,
            layer_scale_init_value=LAYER_SCALE if use_layer_scale else 0.0,
            patch_cfg=patch_cfg,
            layer_cfgs=layer_cfgs,
            init_cfg=init_cfg,
            no_embed_class=True,
            plugins=plugins,
        )
