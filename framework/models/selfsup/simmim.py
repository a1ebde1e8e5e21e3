"""SimMIM."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from framework.errors import ConfigError
from framework.models.backbones import BEiTViT, SwinTransformer, VisionTransformer
from framework.models.necks.simmim_decoder import SimMIMLinearDecoder
from framework.models.selfsup.base import BaseSelfSupervisor, InitCfg, Part
from framework.models.selfsup.masking import agree, block_mask, check_mask_ratio
from framework.registry import BACKBONES, MODELS


def _mask_token(dim: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, dim), std=0.02))


def _masked(tokens: Tensor, mask: Tensor, mask_token: Tensor) -> Tensor:
    """Put the mask token in the place of masked patches (batch, rows, columns) among tokens."""
    return torch.where(mask.flatten(1)[..., None].bool(), mask_token.to(tokens.dtype), tokens)


@BACKBONES.register_module()
class SimMIMSwinTransformer(SwinTransformer):
    """A Swin Transformer with a token for masked patches, `mask_token`, and the same arguments.

    Source: SimMIM, https://arxiv.org/abs/2111.09886, section 3.2.
    """

    def _make_embedding(self, embed_dims: int, *args: Any, **kwargs: Any) -> None:
        super()._make_embedding(embed_dims, *args, **kwargs)
        self.mask_token = _mask_token(embed_dims)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the features of images of which patches are masked.

        Args:
            x: Images (batch, in_channels, height, width).
            mask: 1 for masked patches, 0 for visible ones (batch, rows, columns). Default: nothing is masked.

        Returns:
            For each stage (batch, channels, rows, columns).
        """
        if mask is None:
            return super().forward(x)
        tokens, grid = self.embed_patches(x)
        return self.encode(_masked(tokens, mask, self.mask_token), grid)


class _MaskedViT(VisionTransformer):
    """The two Vision Transformers with a token for masked patches."""

    def make_tokens(self, with_cls_token: bool, num_registers: int, no_embed_class: bool) -> None:
        """Create the tokens before the patches, that of masked ones, and the positional embedding."""
        super().make_tokens(with_cls_token, num_registers, no_embed_class)
        self.mask_token = _mask_token(self.embed_dims)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Any, ...]:
        """Return the features of images of which patches are masked.

        Args:
            x: Images (batch, in_channels, height, width).
            mask: 1 for masked patches, 0 for visible ones (batch, rows, columns). Default: nothing is masked.

        Returns:
            For each of `out_indices` what `out_type` says.
        """
        if mask is None:
            return super().forward(x)
        tokens, grid = self.embed_patches(x)
        return self.encode(_masked(tokens, mask, self.mask_token), grid)


@BACKBONES.register_module()
class SimMIMViT(_MaskedViT):
    """A Vision Transformer with a token for masked patches. The arguments are those of `VisionTransformer`.

    Source: SimMIM, https://arxiv.org/abs/2111.09886, section 3.2.
    """


@BACKBONES.register_module()
class SimMIMBEiTViT(_MaskedViT, BEiTViT):
    """BEiT's Vision Transformer with a token for masked patches. The arguments are those of `BEiTViT`.

    Source: SimMIM, https://arxiv.org/abs/2111.09886, table 6, whose ViT-B has relative positions.
    """


@MODELS.register_module()
class SimMIM(BaseSelfSupervisor):
    """Predicts the pixels of masked patches, which the backbone gets as a token among the visible ones.

    The parts are a backbone that takes a mask (`SimMIMSwinTransformer`; `SimMIMViT` and `SimMIMBEiTViT` with
    `out_type='featmap'`), a `SimMIMLinearDecoder` and a `SimMIMHead`.

    Source: SimMIM, https://arxiv.org/abs/2111.09886.

    Args:
        backbone: Config of the backbone, or the backbone.
        neck: Config of the decoder, or the decoder.
        head: Config of the head, or the head.
        mask_ratio: Share of the image that is masked, where the batch brings no mask.
        mask_patch_size: Size in pixels of the squares that are masked; a multiple of the head's `patch_size`.
        data_preprocessor: See `BaseSelfSupervisor`.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Raises:
        ConfigError: A part cannot be built, does not go with the others, or `mask_patch_size` is no
            multiple of the patches.
    """

    def __init__(
        self,
        backbone: Part,
        neck: Part,
        head: Part,
        mask_ratio: float = 0.6,
        mask_patch_size: int = 32,
        data_preprocessor: Part | None = None,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(backbone, neck, head, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.mask_ratio = check_mask_ratio(mask_ratio)
        self.mask_patch_size = mask_patch_size
        out_type = getattr(self.backbone, "out_type", "featmap")
        if out_type != "featmap":
            raise ConfigError(f"SimMIM: set out_type='featmap' in the backbone, not {out_type!r}")
        if isinstance(self.backbone, SwinTransformer | VisionTransformer):
            patch = tuple(self.backbone.patch_embed.proj.stride)
            agree("SimMIM", "head.patch_size", (self.head.patch_size,) * 2, patch)
            if isinstance(self.neck, SimMIMLinearDecoder):
                channels = self.neck.decoder[0].in_channels
                agree("SimMIM", "neck.in_channels", channels, self.backbone.feature_dim)
        if mask_patch_size % self.head.patch_size:
            raise ConfigError(
                f"mask_patch_size={mask_patch_size} is no multiple of the head's patch_size="
                f"{self.head.patch_size}"
            )

    def loss(self, inputs: Tensor, data_samples: Any = None) -> dict[str, Tensor]:
        """Return the `loss`.

        Args:
            inputs: Images (batch, channels, height, width).
            data_samples: A dict with `mask`, 1 for masked patches and 0 for visible ones (batch, rows,
                columns); or samples with one `mask` each. Default: a mask is drawn.
        """
        mask = self._mask(inputs, data_samples)
        return {"loss": self.head.loss(self.neck(self.backbone(inputs, mask)), inputs, mask)}

    def reconstruct(self, inputs: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predict images from a part of their patches.

        Args:
            inputs: Images (batch, channels, height, width).
            mask: 1 for masked patches, 0 for visible ones (batch, rows, columns). Default: drawn.

        Returns:
            The predicted images in the shape of `inputs`; and 1 for masked pixels, 0 for visible ones (batch,
            1, height, width).
        """
        mask = self.draw_mask(inputs) if mask is None else mask
        return self.neck(self.backbone(inputs, mask)), self.head.to_pixels(mask)

    def draw_mask(self, inputs: Tensor) -> Tensor:
        """Draw which patches of images are masked.

        Returns:
            1 for masked patches, 0 for visible ones (batch, rows, columns).

        Raises:
            ValueError: `mask_patch_size` does not divide the images.
        """
        height, width = inputs.shape[-2:]
        if height % self.mask_patch_size or width % self.mask_patch_size:
            raise ValueError(
                f"images of {height}x{width} pixels cannot be masked in squares of {self.mask_patch_size}: "
                "set mask_patch_size of SimMIM, or resize the images"
            )
        patch = self.head.patch_size
        size = self.mask_patch_size // patch
        grid = (height // patch, width // patch)
        return block_mask(grid, len(inputs), self.mask_ratio, size, inputs.device)

    def _mask(self, inputs: Tensor, data_samples: Any) -> Tensor:
        if isinstance(data_samples, dict):
            given = data_samples.get("mask")
        else:
            masks = [getattr(sample, "mask", None) for sample in data_samples or ()]
            given = torch.stack(masks) if masks and masks[0] is not None else None  # type: ignore[arg-type]
        return self.draw_mask(inputs) if given is None else given.to(inputs.device)
