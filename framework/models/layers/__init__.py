"""Layers that several architectures share."""

from framework.models.layers.activation import ACTIVATIONS, QuickGELU, build_activation
from framework.models.layers.attention import Attention
from framework.models.layers.beit_block import BEiTBlock, RelativePositionBias
from framework.models.layers.channel_attention import CBAM, ECALayer, SELayer
from framework.models.layers.drop_path import build_drop_path, linear_rates
from framework.models.layers.global_context import ContextBlock, NonLocal2d
from framework.models.layers.layer_scale import LayerScale
from framework.models.layers.mlp import Mlp, SwiGLUMlp
from framework.models.layers.norm import NORMS, GlobalResponseNorm, LayerNorm2d, build_norm_layer
from framework.models.layers.patch_embed import INTERPOLATIONS, PatchEmbed, resize_pos_embed, to_pair
from framework.models.layers.plugins import PluginPlan, on_channels_first, own_modules
from framework.models.layers.rotary import RotaryEmbedding
from framework.models.layers.swin_block import PatchMerging, PatchMergingV2, SwinBlock, SwinBlockV2
from framework.models.layers.transformer_block import TransformerBlock

__all__ = [
    "ACTIVATIONS",
    "CBAM",
    "INTERPOLATIONS",
    "NORMS",
    "Attention",
    "BEiTBlock",
    "ContextBlock",
    "ECALayer",
    "GlobalResponseNorm",
    "LayerNorm2d",
    "LayerScale",
    "Mlp",
    "NonLocal2d",
    "PatchEmbed",
    "PatchMerging",
    "PatchMergingV2",
    "PluginPlan",
    "QuickGELU",
    "RelativePositionBias",
    "RotaryEmbedding",
    "SELayer",
    "SwiGLUMlp",
    "SwinBlock",
    "SwinBlockV2",
    "TransformerBlock",
    "build_activation",
    "build_drop_path",
    "build_norm_layer",
    "linear_rates",
    "on_channels_first",
    "own_modules",
    "resize_pos_embed",
    "to_pair",
]
