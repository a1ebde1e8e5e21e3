"""Vision Transformer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

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
    PluginPlan,
    RotaryEmbedding,
    TransformerBlock,
    build_norm_layer,
    linear_rates,
    on_channels_first,
    own_modules,
    resize_pos_embed,
)
from framework.registry import BACKBONES

#: Sizes by name. tiny and deit-small: DeiT, https://arxiv.org/abs/2012.12877, table 1; small: mmpretrain's;
#: base to huge: ViT, https://arxiv.org/abs/2010.11929, table 1; giant and gigantic: Scaling Vision
#: Transformers, https://arxiv.org/abs/2106.04560, table 2; dinov2-giant: DINOv2,
#: https://arxiv.org/abs/2304.07193, section 5; dinov3: timm 1.0.31, models/eva.py.
ARCHS: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dims": 192, "num_layers": 12, "num_heads": 3, "feedforward_channels": 768},
    "small": {"embed_dims": 768, "num_layers": 8, "num_heads": 8, "feedforward_channels": 2304},
    "deit-small": {"embed_dims": 384, "num_layers": 12, "num_heads": 6, "feedforward_channels": 1536},
    "base": {"embed_dims": 768, "num_layers": 12, "num_heads": 12, "feedforward_channels": 3072},
    "large": {"embed_dims": 1024, "num_layers": 24, "num_heads": 16, "feedforward_channels": 4096},
    "huge": {"embed_dims": 1280, "num_layers": 32, "num_heads": 16, "feedforward_channels": 5120},
    "giant": {"embed_dims": 1408, "num_layers": 40, "num_heads": 16, "feedforward_channels": 6144},
    "gigantic": {"embed_dims": 1664, "num_layers": 48, "num_heads": 16, "feedforward_channels": 8192},
    "dinov2-giant": {
        "embed_dims": 1536,
        "num_layers": 40,
        "num_heads": 24,
        "feedforward_channels": 6144,
        "ffn_type": "swiglu_fused",
    },
    "dinov3-small-plus": {
        "embed_dims": 384,
        "num_layers": 12,
        "num_heads": 6,
        "feedforward_channels": 2304,
        "ffn_type": "swiglu_fused",
    },
    "dinov3-huge-plus": {
        "embed_dims": 1280,
        "num_layers": 32,
        "num_heads": 20,
        "feedforward_channels": 7680,
        "ffn_type": "swiglu_fused",
    },
    "dinov3-7b": {
        "embed_dims": 4096,
        "num_layers": 40,
        "num_heads": 32,
        "feedforward_channels": 12288,
        "ffn_type": "swiglu_fused",
    },
}

#: Other names for the same sizes: mmpretrain's, and DINOv3's.
ALIASES: dict[str, str] = {
    "t": "tiny",
    "s": "small",
    "b": "base",
    "l": "large",
    "h": "huge",
    "g": "giant",
    "deit-t": "tiny",
    "deit-tiny": "tiny",
    "deit-s": "deit-small",
    "deit-b": "base",
    "deit-base": "base",
    "dinov2-s": "deit-small",
    "dinov2-small": "deit-small",
    "eva-g": "giant",
    "eva-giant": "giant",
    "dinov2-g": "dinov2-giant",
    "dinov3-small": "deit-small",
    "dinov3-base": "base",
    "dinov3-large": "large",
}

ARCH_FIELDS = ("embed_dims", "num_layers", "num_heads", "feedforward_channels")
PATCH_FIELDS = ("stride", "padding", "bias")
ROPE_FIELDS = ("theta", "shift", "jitter", "rescale")
OUT_TYPES = ("cls_token", "avg_featmap", "featmap", "raw")


@BACKBONES.register_module()
class VisionTransformer(BaseBackbone):
    """Vision Transformer. Its parameters are named as timm's, its arguments as mmpretrain's.

    Source: An Image is Worth 16x16 Words, https://arxiv.org/abs/2010.11929; registers: Vision Transformers
    Need Registers, https://arxiv.org/abs/2309.16588. Weights start from a normal distribution of standard
    deviation 0.02, cut off at two deviations, biases from 0.

    Args:
        arch: tiny, small, deit-small, base, large, huge, giant, gigantic, dinov2-giant, dinov3-small-plus,
            dinov3-huge-plus, dinov3-7b, or mmpretrain's other names for them; or a dict of embed_dims,
            num_layers, num_heads and feedforward_channels. `deit-small` (384 channels, 12 layers) is the size
            that is called small elsewhere, `small` mmpretrain's (768 channels, 8 layers).
        img_size: Size in pixels of the images that the positional embedding is made for. Other sizes are
            accepted, and the embedding is interpolated for them.
        patch_size: Size of a patch in pixels.
        in_channels: Channels of the images.
        out_indices: The layers, from 0, that give features; negative ones count from the end.
        drop_rate: Dropout of tokens and inside the layers.
        drop_path_rate: Rate of stochastic depth of the last layer; it rises from 0 in equal steps.
        qkv_bias: Whether queries, keys and values have a bias; `qv_bias`: the keys have none.
        norm_cfg: The normalisation layers. Default LN with eps 1e-6.
        final_norm: Whether the tokens of the last layer are normalised (`norm`).
        out_type: What a feature is: `cls_token` (batch, channels); `avg_featmap` (batch, channels), the mean
            of the patch tokens, normalised (`fc_norm`); `featmap` (batch, channels, rows, columns); `raw`
            (batch, tokens, channels), prefix tokens first.
        with_cls_token: Whether there is a class token.
        frozen_stages: What does not learn: -1 nothing, 0 all that comes before the layers, n the first n
            layers, too; with all layers also `norm`.
        interpolate_mode: How positional embeddings are interpolated: bicubic, bilinear or nearest.
        layer_scale_init_value: Initial value of LayerScale; 0 for none.
        patch_cfg: `stride`, `padding` and `bias` of the patch embedding.
        layer_cfgs: Arguments of `TransformerBlock` that replace the above: one dict for all layers, or one
            for each.
        pre_norm: Whether tokens are normalised before the first layer (`norm_pre`) and the patch embedding
            has no bias, as in CLIP.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
        num_registers: Number of register tokens, which stand between class token and patches.
        no_embed_class: Whether the positional embedding is for the patches alone (timm's word). By default
            the class token and each register have an entry, too.
        plugins: Modules after the layers, as `PluginPlan` describes them; `stages` has one entry for each
            layer. They get the patches as a feature map; the tokens before them pass by.
        rope: Rotary positions in place of the positional embedding, as in DINOv3: the arguments of
            `RotaryEmbedding` (an empty dict for its defaults). Default: none.

    Attributes:
        num_prefix_tokens: Number of tokens before the patches: class token and registers.
        pos_embed_prefix: How many of them have an entry in `pos_embed`.

    Raises:
        ConfigError: An argument's value is not among the accepted ones.
    """

    archs: Mapping[str, Mapping[str, Any]] = ARCHS
    aliases: Mapping[str, str] = ALIASES
    block: type[TransformerBlock] = TransformerBlock
    pos_embed: nn.Parameter | None

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "base",
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_channels: int = 3,
        out_indices: Sequence[int] | int = -1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        qkv_bias: bool | str = True,
        norm_cfg: Mapping[str, Any] | None = None,
        final_norm: bool = True,
        out_type: str = "cls_token",
        with_cls_token: bool = True,
        frozen_stages: int = -1,
        interpolate_mode: str = "bicubic",
        layer_scale_init_value: float = 0.0,
        patch_cfg: Mapping[str, Any] | None = None,
        layer_cfgs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        pre_norm: bool = False,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        num_registers: int = 0,
        no_embed_class: bool = False,
        plugins: Sequence[Mapping[str, Any]] | None = None,
        rope: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        layer = named_arch(type(self).__name__, arch, self.archs, ARCH_FIELDS, self.aliases)
        self.embed_dims, self.num_layers = layer["embed_dims"], layer.pop("num_layers")
        _check_choices(out_type, interpolate_mode, with_cls_token)
        self.out_type, self.interpolate_mode = out_type, interpolate_mode
        self.out_indices = check_out_indices(out_indices, self.num_layers)
        self.frozen_stages = check_frozen_stages(frozen_stages, self.num_layers)
        norm_cfg = norm_cfg or {"type": "LN", "eps": 1e-6}

        check_fields("patch_cfg", patch_cfg or {}, PATCH_FIELDS)
        patch_args = {"bias": not pre_norm, **(patch_cfg or {})}
        self.patch_embed = PatchEmbed(img_size, patch_size, in_channels, self.embed_dims, **patch_args)
        self.make_tokens(with_cls_token, num_registers, no_embed_class)
        self.rope_embed = self._rotary(rope, self.embed_dims // layer["num_heads"])
        self.pos_drop = nn.Dropout(drop_rate)
        self.norm_pre = build_norm_layer(norm_cfg, self.embed_dims) if pre_norm else nn.Identity()
        layer.update(layer_scale_init_value=layer_scale_init_value, qkv_bias=qkv_bias)
        layer.update(drop_rate=drop_rate, norm_cfg=norm_cfg)
        layer = self.layer_arguments(layer)
        plan = PluginPlan(plugins, ("after_block",), self.num_layers, default="after_block")
        rates = linear_rates(drop_path_rate, self.num_layers)
        self.blocks = nn.ModuleList(
            self.block(**{**layer, "drop_path_rate": rates[i], **own}, plugins=self._plugins(plan, i))
            for i, own in enumerate(_checked_layer_cfgs(layer_cfgs, self.num_layers))
        )
        self.norm = build_norm_layer(norm_cfg, self.embed_dims) if final_norm else nn.Identity()
        pooled = out_type == "avg_featmap"
        self.fc_norm = build_norm_layer(norm_cfg, self.embed_dims) if pooled else nn.Identity()
        self.feature_dim = self.embed_dims
        self.out_channels = (self.embed_dims,) * len(self.out_indices)
        self.initialise()
        self.freeze()

    def make_tokens(self, with_cls_token: bool, num_registers: int, no_embed_class: bool) -> None:
        """Create the tokens before the patches, and the positional embedding."""
        self.cls_token = self.token(int(with_cls_token))
        self.reg_token = self.token(num_registers)
        self.num_prefix_tokens = sum(token.shape[1] for token in self.prefix())
        self.pos_embed_prefix = 0 if no_embed_class else self.num_prefix_tokens
        self.pos_embed = self.token(self.pos_embed_prefix + self.num_patches)

    def _rotary(self, rope: Mapping[str, Any] | None, head_dim: int) -> RotaryEmbedding | None:
        """Return the rotary positions, which stand in for the positional embedding, or None."""
        if rope is None:
            return None
        check_fields("rope", rope, ROPE_FIELDS)
        self.pos_embed, self.pos_embed_prefix = None, 0
        return RotaryEmbedding(head_dim, **rope)

    def layer_arguments(self, shared: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments that all layers share."""
        return shared

    @property
    def num_patches(self) -> int:
        """The number of patches of an image of `img_size`."""
        rows, columns = self.patch_embed.grid_size
        return rows * columns

    def token(self, count: int) -> nn.Parameter | None:
        """Return `count` tokens of zeros, or None for 0."""
        return nn.Parameter(torch.zeros(1, count, self.embed_dims)) if count else None

    def _plugins(self, plan: PluginPlan, layer: int) -> nn.Module | None:
        return plan.build("after_block", layer, self.embed_dims)

    def initialise(self) -> None:
        """Draw initial values."""
        for module in own_modules(self):
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for token in self._tokens():
            nn.init.trunc_normal_(token, std=0.02)

    def prefix(self) -> list[nn.Parameter]:
        """Return the tokens that stand before the patches, in order."""
        return [token for token in (self.cls_token, self.reg_token) if token is not None]

    def _tokens(self) -> list[nn.Parameter]:
        return self.prefix() if self.pos_embed is None else [*self.prefix(), self.pos_embed]

    def frozen_parts(self) -> Iterable[nn.Module | nn.Parameter]:
        """Return what `frozen_stages` names."""
        if self.frozen_stages < 0:
            return []
        stem = [*self._tokens(), self.patch_embed, self.pos_drop, self.norm_pre]
        last = [self.norm] if self.frozen_stages == self.num_layers else []
        return [*stem, *self.blocks[: self.frozen_stages], *last]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the features of the layers in `out_indices`, as `out_type` describes them.

        Args:
            x: Images (batch, in_channels, height, width).

        Raises:
            ValueError: The patches do not cover the images exactly.
        """
        return self.encode(*self.embed_patches(x))

    def embed_patches(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return the embedded patches (batch, rows * columns, channels) of images, and (rows, columns)."""
        return self.patch_embed(x)

    def encode(self, x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, ...]:
        """Return the features of embedded patches (batch, rows * columns, channels), without positions."""
        x = self.norm_pre(self.pos_drop(self._with_prefix_and_positions(x, grid)))
        arguments = self.block_arguments(grid)
        features = []
        for i, block in enumerate(self.blocks):
            x = self._after(block.get_submodule("after_block"), block(x, *arguments), grid)
            if i == self.num_layers - 1:
                x = self.norm(x)
            if i in self.out_indices:
                features.append(self.feature(x, grid))
        return tuple(features)

    def block_arguments(self, grid: tuple[int, int]) -> tuple[Any, ...]:
        """Return what the blocks get beside the tokens of an image of (rows, columns) patches."""
        return () if self.rope_embed is None else (self.rope_embed(grid),)

    def _after(self, plugins: nn.Module, x: Tensor, grid: tuple[int, int]) -> Tensor:
        if isinstance(plugins, nn.Identity):
            return x
        prefix, patches = x.tensor_split([self.num_prefix_tokens], dim=1)
        changed = on_channels_first(plugins, patches.unflatten(1, grid))
        return torch.cat((prefix, changed.flatten(1, 2)), dim=1)

    def _with_prefix_and_positions(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        prefix = [token.expand(len(x), -1, -1) for token in self.prefix()]
        if self.pos_embed is None:
            return torch.cat((*prefix, x), dim=1)
        positions = resize_pos_embed(
            self.pos_embed, self.patch_embed.grid_size, grid, self.pos_embed_prefix, self.interpolate_mode
        )
        if self.pos_embed_prefix:
            return torch.cat((*prefix, x), dim=1) + positions
        return torch.cat((*prefix, x + positions), dim=1)

    def feature(self, x: Tensor, grid: tuple[int, int]) -> Any:
        """Return the feature that `out_type` names of tokens (batch, tokens, channels)."""
        if self.out_type == "raw":
            return x
        if self.out_type == "cls_token":
            return x[:, 0]
        patches = x[:, self.num_prefix_tokens :]
        if self.out_type == "featmap":
            return patches.transpose(1, 2).reshape(len(x), self.embed_dims, *grid)
        return self.fc_norm(patches.mean(dim=1))

    def num_blocks(self) -> int:
        """Return the number of transformer layers."""
        return self.num_layers

    def block_of(self, name: str) -> int:
        """Return 0 for what comes before the layers, i + 1 for layer i, and one more for the last norms."""
        if name.startswith("blocks."):
            return int(name.split(".")[1]) + 1
        return self.num_layers + 1 if name.startswith(("norm.", "fc_norm.")) else 0


def _check_choices(out_type: str, interpolate_mode: str, with_cls_token: bool) -> None:
    if out_type not in OUT_TYPES:
        raise ConfigError(
            f"VisionTransformer has no out_type {out_type!r}: accepted are {', '.join(OUT_TYPES)}"
        )
    if interpolate_mode not in INTERPOLATIONS:
        raise ConfigError(f"interpolate_mode={interpolate_mode!r}: accepted are {', '.join(INTERPOLATIONS)}")
    if out_type == "cls_token" and not with_cls_token:
        others = ", ".join(OUT_TYPES[1:])
        raise ConfigError(f"out_type='cls_token' needs with_cls_token=True; without it: {others}")


def _checked_layer_cfgs(
    layer_cfgs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None, count: int
) -> Sequence[Mapping[str, Any]]:
    if layer_cfgs is None or isinstance(layer_cfgs, Mapping):
        return [layer_cfgs or {}] * count
    if len(layer_cfgs) != count:
        raise ConfigError(
            f"layer_cfgs: one dict, or one for each of the {count} layers; got {len(layer_cfgs)}"
        )
    return layer_cfgs
