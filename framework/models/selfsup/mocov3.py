"""MoCo, version 3."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from framework.models.backbones import VisionTransformer
from framework.models.layers.sincos import sincos_pos_embed
from framework.models.selfsup.base import BaseSelfSupervisor, InitCfg, Part, check_views, last
from framework.models.selfsup.collapse import embedding_std
from framework.models.selfsup.momentum import CosineEMA
from framework.registry import BACKBONES, MODELS

#: facebookresearch/moco-v3@c349e6e vits.py: DeiT-S with 12 heads.
SMALL = {"embed_dims": 384, "num_layers": 12, "num_heads": 12, "feedforward_channels": 1536}


@BACKBONES.register_module()
class MoCoV3ViT(VisionTransformer):
    """A Vision Transformer as MoCo v3 trains it. Its parameters are those of `VisionTransformer`.

    Source: https://arxiv.org/abs/2104.02057, sections 4 and 5; facebookresearch/moco-v3@c349e6e vits.py. The
    positional embedding is fixed (sines and cosines). Linear layers, queries, keys and values each for
    themselves, and the patch embedding start from Xavier's uniform distribution, the class token from a
    normal one of standard deviation 1e-6.

    Args:
        arch: As in `VisionTransformer`; besides `mocov3-small`, DeiT-S with 12 heads.
        img_size: Size of the images in pixels.
        patch_size: Size of a patch in pixels.
        in_channels: Channels of the images.
        out_indices: The layers that give features.
        drop_rate: Dropout of tokens and inside the layers.
        drop_path_rate: Rate of stochastic depth of the last layer.
        norm_cfg: The normalisation layers. Default LN with eps 1e-6.
        final_norm: Whether the tokens of the last layer are normalised.
        out_type: What a feature is; see `VisionTransformer`.
        frozen_stages: What does not learn; see `VisionTransformer`.
        interpolate_mode: How positional embeddings are interpolated.
        patch_cfg: `stride`, `padding` and `bias` of the patch embedding.
        layer_cfgs: Arguments of `TransformerBlock`.
        stop_grad_conv1: Whether the patch embedding keeps its random initial values, which makes the training
            stable (section 4.2).
        norm_eval: Whether batch normalisation keeps its statistics in training.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Raises:
        ConfigError: An argument's value is not among the accepted ones.
    """

    aliases = {**VisionTransformer.aliases, "mocov3-s": "mocov3-small"}
    archs = {**VisionTransformer.archs, "mocov3-small": SMALL}

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "base",
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_channels: int = 3,
        out_indices: Sequence[int] | int = -1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_cfg: Mapping[str, Any] | None = None,
        final_norm: bool = True,
        out_type: str = "cls_token",
        frozen_stages: int = -1,
        interpolate_mode: str = "bicubic",
        patch_cfg: Mapping[str, Any] | None = None,
        layer_cfgs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        stop_grad_conv1: bool = False,
        norm_eval: bool = False,
        init_cfg: InitCfg = None,
    ) -> None:
        self._stop_grad_conv1 = stop_grad_conv1
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
            frozen_stages=frozen_stages,
            interpolate_mode=interpolate_mode,
            patch_cfg=patch_cfg,
            layer_cfgs=layer_cfgs,
            init_cfg=init_cfg,
        )
        self.norm_eval = norm_eval

    def initialise(self) -> None:
        """Draw initial values, and fix the positional embedding."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                outputs, inputs = module.weight.flatten(1).shape
                bound = sqrt(6 / (inputs + (outputs // 3 if name.endswith("qkv") else outputs)))
                nn.init.uniform_(module.weight, -bound, bound)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        assert self.cls_token is not None
        nn.init.normal_(self.cls_token, std=1e-6)
        grid = self.patch_embed.grid_size
        positions = sincos_pos_embed(grid, self.embed_dims, self.pos_embed_prefix, rows_first=True)
        self.pos_embed = nn.Parameter(positions, requires_grad=False)

    def frozen_parts(self) -> Iterable[nn.Module | nn.Parameter]:
        """Return what does not learn."""
        stem = [self.patch_embed] if self._stop_grad_conv1 else []
        return [*super().frozen_parts(), *stem]


@MODELS.register_module()
class MoCoV3(BaseSelfSupervisor):
    """A network finds what its teacher makes of the other view of an image among all images of the batch.

    Checkpoints of the official code (with a Vision Transformer) and of mmpretrain go on training here by the
    path alone, the teacher included.

    Source: https://arxiv.org/abs/2104.02057, algorithm 1.

    Args:
        backbone: Config of the backbone, or the backbone.
        neck: Config of the projector, or the projector.
        head: Config of the head, a `MoCoV3Head`, or the head.
        base_momentum: Share of the new weights in the first update of the teacher: 1 - the paper's momentum.
            It goes to 0 along half a cosine.
        data_preprocessor: See `BaseSelfSupervisor`.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Attributes:
        momentum_encoder: The teacher of backbone and projector.

    Raises:
        ConfigError: A part cannot be built.
    """

    def __init__(
        self,
        backbone: Part,
        neck: Part,
        head: Part,
        base_momentum: float = 0.01,
        data_preprocessor: Part | None = None,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(backbone, neck, head, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.momentum_encoder = CosineEMA(nn.Sequential(self.backbone, self.neck), base_momentum)

    def loss(self, inputs: Any, data_samples: Any = None) -> dict[str, Tensor]:
        """Return `loss` and `embedding_std`.

        Args:
            inputs: Two views, each (batch, channels, height, width); batches of the same size in all
                processes.
            data_samples: Of no account.
        """
        views = check_views(inputs, 2, "MoCoV3")
        first, second = [self.embed(view) for view in views]
        self.update_teacher("momentum_encoder", nn.Sequential(self.backbone, self.neck))
        with torch.no_grad():
            first_key, second_key = [last(self.momentum_encoder(view)) for view in views]
        loss = self.head.loss(first, second_key) + self.head.loss(second, first_key)
        return {"loss": loss, "embedding_std": embedding_std(first)}
