"""Masked autoencoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from framework.models.backbones import VisionTransformer
from framework.models.layers import own_modules
from framework.models.layers.sincos import sincos_pos_embed
from framework.models.necks.mae_decoder import MAEPretrainDecoder
from framework.models.selfsup.base import BaseSelfSupervisor, InitCfg, Part
from framework.models.selfsup.masking import agree, check_mask_ratio, draw_noise, shuffle, take
from framework.registry import BACKBONES, MODELS


@BACKBONES.register_module()
class MAEViT(VisionTransformer):
    """A Vision Transformer that sees a part of the patches. Its parameters are those of `VisionTransformer`.

    Source: Masked Autoencoders, https://arxiv.org/abs/2111.06377, section 3. The positional embedding is
    fixed (sines and cosines). Linear layers and the patch embedding start from Xavier's uniform distribution,
    the class token from a normal one of standard deviation 0.02 (appendix A.1).

    Args:
        arch: As in `VisionTransformer`.
        img_size: Size of the images in pixels.
        patch_size: Size of a patch in pixels.
        in_channels: Channels of the images.
        out_indices: The layers that give features of whole images.
        drop_rate: Dropout of tokens and inside the layers.
        drop_path_rate: Rate of stochastic depth of the last layer.
        norm_cfg: The normalisation layers. Default LN with eps 1e-6.
        final_norm: Whether the tokens of the last layer are normalised.
        out_type: What a feature of a whole image is; see `VisionTransformer`.
        interpolate_mode: How positional embeddings are interpolated.
        patch_cfg: `stride`, `padding` and `bias` of the patch embedding.
        layer_cfgs: Arguments of `TransformerBlock`.
        mask_ratio: Share of the patches that are masked.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Raises:
        ConfigError: An argument's value is not among the accepted ones.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "b",
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_channels: int = 3,
        out_indices: Sequence[int] | int = -1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_cfg: Mapping[str, Any] | None = None,
        final_norm: bool = True,
        out_type: str = "raw",
        interpolate_mode: str = "bicubic",
        patch_cfg: Mapping[str, Any] | None = None,
        layer_cfgs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        mask_ratio: float = 0.75,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
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
            interpolate_mode=interpolate_mode,
            patch_cfg=patch_cfg,
            layer_cfgs=layer_cfgs,
            init_cfg=init_cfg,
        )
        self.mask_ratio = check_mask_ratio(mask_ratio)

    def initialise(self) -> None:
        """Draw initial values, and fix the positional embedding."""
        for module in own_modules(self):
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        assert self.cls_token is not None
        nn.init.normal_(self.cls_token, std=0.02)
        positions = sincos_pos_embed(self.patch_embed.grid_size, self.embed_dims, self.pos_embed_prefix)
        self.pos_embed = nn.Parameter(positions, requires_grad=False)

    def forward(self, x: Tensor, mask: bool | None = True, noise: Tensor | None = None) -> Any:
        """Return the tokens of visible patches, or the features of whole images.

        Args:
            x: Images (batch, in_channels, height, width).
            mask: Whether patches are masked.
            noise: One number for each patch (batch, patches); the lowest stay visible. Default: drawn.

        Returns:
            With a mask: the class token and the visible patches of the last layer (batch, 1 + visible,
            channels); 1 for masked patches and 0 for visible ones (batch, patches); and the place of each
            patch in the sequence that has the visible ones first (batch, patches). Without one: what
            `VisionTransformer` returns.

        Raises:
            ValueError: The patches do not cover the images exactly.
        """
        if not mask:
            return super().forward(x)
        tokens, grid = self.patch_embed(x)
        tokens = self._with_prefix_and_positions(tokens, grid)
        prefix, patches = tokens.tensor_split([self.num_prefix_tokens], dim=1)
        noise = draw_noise(len(x), patches.shape[1], x.device) if noise is None else noise
        ids_keep, masked, ids_restore = shuffle(noise, self.mask_ratio)
        tokens = self.norm_pre(self.pos_drop(torch.cat((prefix, take(patches, ids_keep)), dim=1)))
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens), masked, ids_restore


@MODELS.register_module()
class MAE(BaseSelfSupervisor):
    """A masked autoencoder: an encoder of visible patches, and a decoder that predicts the masked ones.

    Checkpoints of the official code, of mmpretrain and of transformers (`ViTMAEForPreTraining`) go on
    training here by the path alone, decoder included.

    Source: Masked Autoencoders, https://arxiv.org/abs/2111.06377.

    Args:
        backbone: Config of the encoder, a `MAEViT`, or the encoder.
        neck: Config of the decoder, a `MAEPretrainDecoder`, or the decoder.
        head: Config of the head, a `MAEPretrainHead`, or the head.
        data_preprocessor: See `BaseSelfSupervisor`.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Raises:
        ConfigError: A part cannot be built, or does not go with the others.
    """

    def __init__(
        self,
        backbone: Part,
        neck: Part,
        head: Part,
        data_preprocessor: Part | None = None,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(backbone, neck, head, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if isinstance(self.backbone, MAEViT) and isinstance(self.neck, MAEPretrainDecoder):
            _check_decoder(self.backbone, self.neck)
            patch = tuple(self.backbone.patch_embed.proj.kernel_size)
            agree("MAE", "head.patch_size", getattr(self.head, "patch_size", patch), patch)

    def extract_feat(self, inputs: Tensor | Sequence[Tensor]) -> Any:
        """Return the backbone's features of whole images."""
        return self.backbone(inputs if isinstance(inputs, Tensor) else inputs[0], mask=None)

    def loss(
        self, inputs: Tensor, data_samples: Any = None, noise: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the `loss`.

        Args:
            inputs: Images (batch, channels, height, width).
            data_samples: Of no account.
            noise: As `MAEViT.forward` takes it.
        """
        latent, mask, ids_restore = self.backbone(inputs, noise=noise)
        return {"loss": self.head.loss(self.neck(latent, ids_restore), inputs, mask)}

    def reconstruct(self, inputs: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predict images from a part of their patches.

        Args:
            inputs: Images (batch, channels, height, width).
            noise: As `MAEViT.forward` takes it.

        Returns:
            The predicted images in the shape of `inputs`, visible patches included; and 1 for masked pixels,
            0 for visible ones (batch, 1, height, width).
        """
        latent, mask, ids_restore = self.backbone(inputs, noise=noise)
        predicted = self.head.to_images(self.neck(latent, ids_restore), inputs)
        pixels = mask.view(len(mask), 1, *self.head.grid_of(inputs))
        for axis, size in enumerate(self.head.patch_size):
            pixels = pixels.repeat_interleave(size, 2 + axis)
        return predicted, pixels


def _check_decoder(backbone: MAEViT, neck: MAEPretrainDecoder) -> None:
    """Check that a decoder is made for the tokens and patches of an encoder.

    Raises:
        ConfigError: It is not.
    """
    agree("MAE", "neck.embed_dim", neck.decoder_embed.in_features, backbone.embed_dims)
    rows, columns = neck.grid_size
    agree("MAE", "neck.num_patches", rows * columns, backbone.num_patches)
    if neck.predicts_pixels:
        pixels = backbone.patch_embed.proj.weight[0].numel()
        agree("MAE", "patch_size ** 2 * in_chans of the neck", neck.decoder_pred.out_features, pixels)
