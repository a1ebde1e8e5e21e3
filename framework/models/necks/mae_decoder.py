"""The decoder of masked autoencoders."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from framework.errors import ConfigError
from framework.models.layers import TransformerBlock, build_norm_layer, to_pair
from framework.models.layers.patch_embed import Size
from framework.models.layers.sincos import sincos_pos_embed
from framework.registry import NECKS


@NECKS.register_module()
class MAEPretrainDecoder(BaseModule):
    """From the tokens of visible patches to the pixels of all patches.

    Source: Masked Autoencoders, https://arxiv.org/abs/2111.06377, section 3. The parameters are named as in
    facebookresearch/mae@efb2a80 models_mae.py.

    Args:
        num_patches: Number of patches of an image; those of a square, or (rows, columns).
        patch_size: Size of a patch in pixels.
        in_chans: Channels of the images.
        embed_dim: Channels of the encoder's tokens.
        decoder_embed_dim: Channels of the decoder's tokens.
        decoder_depth: Number of layers.
        decoder_num_heads: Number of attention heads.
        mlp_ratio: Hidden channels of the feed-forward layers / `decoder_embed_dim`.
        norm_cfg: The normalisation layers. Default LN with eps 1e-6.
        predict_feature_dim: Number of values that are predicted for a patch. Default: its pixels.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Raises:
        ConfigError: `num_patches` is one number, and no square.
    """

    def __init__(
        self,
        num_patches: int | tuple[int, int] = 196,
        patch_size: Size = 16,
        in_chans: int = 3,
        embed_dim: int = 1024,
        decoder_embed_dim: int = 512,
        decoder_depth: int = 8,
        decoder_num_heads: int = 16,
        mlp_ratio: float = 4.0,
        norm_cfg: Mapping[str, Any] | None = None,
        predict_feature_dim: int | None = None,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.grid_size = _grid(num_patches)
        norm_cfg = norm_cfg or {"type": "LN", "eps": 1e-6}
        self.decoder_embed = nn.Linear(embed_dim, decoder_embed_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_embed_dim))
        positions = sincos_pos_embed(self.grid_size, decoder_embed_dim, prefix=1)
        self.decoder_pos_embed = nn.Parameter(positions, requires_grad=False)
        hidden = int(mlp_ratio * decoder_embed_dim)
        self.decoder_blocks = nn.ModuleList(
            TransformerBlock(decoder_embed_dim, decoder_num_heads, hidden, norm_cfg=norm_cfg)
            for _ in range(decoder_depth)
        )
        self.decoder_norm = build_norm_layer(norm_cfg, decoder_embed_dim)
        self.predicts_pixels = predict_feature_dim is None
        height, width = to_pair(patch_size)
        self.decoder_pred = nn.Linear(decoder_embed_dim, predict_feature_dim or height * width * in_chans)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, x: Tensor, ids_restore: Tensor) -> Tensor:
        """Predict the patches of an image.

        Args:
            x: Class token and visible patches (batch, 1 + visible, embed_dim).
            ids_restore: For each patch its place in the sequence that has the visible patches first, in the
                order of `x` (batch, patches).

        Returns:
            (batch, patches, values of a patch).

        Raises:
            ValueError: There are not `num_patches` patches.
        """
        self._check(ids_restore.shape[1])
        x = self.decoder_embed(x)
        masked = ids_restore.shape[1] + 1 - x.shape[1]
        token = self.mask_token.to(x.dtype).expand(len(x), masked, -1)
        shuffled = torch.cat((x[:, 1:], token), dim=1)
        patches = shuffled.gather(1, ids_restore[..., None].expand(-1, -1, x.shape[2]))
        x = torch.cat((x[:, :1], patches), dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]

    def _check(self, patches: int) -> None:
        rows, columns = self.grid_size
        if patches != rows * columns:
            raise ValueError(
                f"the decoder is made for {rows * columns} patches and gets {patches}: set its num_patches "
                f"to {patches}, or resize the images"
            )


def _grid(num_patches: int | tuple[int, int]) -> tuple[int, int]:
    if not isinstance(num_patches, int):
        return to_pair(num_patches)
    side = isqrt(num_patches)
    if side * side != num_patches:
        raise ConfigError(
            f"num_patches={num_patches} is no square: give rows and columns, num_patches=(rows, columns)"
        )
    return side, side
