"""Projectors and predictors: linear layers with batch normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from framework.errors import ConfigError
from framework.models.layers import build_norm_layer
from framework.registry import NECKS

InitCfg = dict[str, Any] | list[dict[str, Any]] | None

#: Normalisations of images, and what they are for vectors.
OF_VECTORS = {"BN": "BN1d", "BN2d": "BN1d"}


@NECKS.register_module()
class NonLinearNeck(BaseModule):
    """Linear layers and batch normalisations in turn, `fc0`, `bn0`, `fc1`, ..., with ReLU between them.

    Projector and predictor of SimCLR, BYOL, SimSiam, Barlow Twins and MoCo v3.

    Args:
        in_channels: Channels of the features.
        hid_channels: Channels between the layers.
        out_channels: Channels that come out.
        num_layers: Number of linear layers, at least 2.
        with_bias: Whether linear layers but the last have a bias.
        with_last_bn: Whether a normalisation follows the last layer.
        with_last_bn_affine: Whether that one has a weight and a bias.
        with_last_bias: Whether the last linear layer has a bias.
        with_avg_pool: Whether feature maps are averaged over all positions first.
        vit_backbone: Whether a feature is a pair of patch tokens and class token, of which the class token
            counts.
        norm_cfg: The normalisation. Default: SyncBN.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Raises:
        ConfigError: Fewer than two layers.
    """

    def __init__(
        self,
        in_channels: int,
        hid_channels: int,
        out_channels: int,
        num_layers: int = 2,
        with_bias: bool = False,
        with_last_bn: bool = True,
        with_last_bn_affine: bool = True,
        with_last_bias: bool = False,
        with_avg_pool: bool = True,
        vit_backbone: bool = False,
        norm_cfg: Mapping[str, Any] | None = None,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_layers < 2:
            raise ConfigError(f"NonLinearNeck: num_layers={num_layers}, expected 2 or more")
        norm = vector_norm(norm_cfg)
        widths = [in_channels, *[hid_channels] * (num_layers - 1), out_channels]
        for i in range(num_layers):
            is_last = i == num_layers - 1
            bias = with_last_bias if is_last else with_bias
            self.add_module(f"fc{i}", nn.Linear(widths[i], widths[i + 1], bias=bias))
            if not is_last:
                self.add_module(f"bn{i}", build_norm_layer(norm, widths[i + 1]))
            elif with_last_bn:
                affine = {} if with_last_bn_affine else {"affine": False}
                self.add_module(f"bn{i}", build_norm_layer({**norm, **affine}, widths[i + 1]))
        self.num_layers, self.with_avg_pool, self.vit_backbone = num_layers, with_avg_pool, vit_backbone
        self.in_channels, self.out_channels = in_channels, out_channels

    def forward(self, features: Tensor | Sequence[Any]) -> tuple[Tensor]:
        """Return a tuple of (batch, out_channels).

        Args:
            features: (batch, in_channels) or, if they are to be averaged, (batch, in_channels, height,
                width); or several of them, of which the last one counts.

        Raises:
            ConfigError: The features have another number of channels.
        """
        x = as_vectors(features, self.with_avg_pool, self.vit_backbone)
        check_channels(self, x, self.in_channels)
        for i in range(self.num_layers):
            x = self.get_submodule(f"fc{i}")(functional.relu(x) if i else x)
            norm = getattr(self, f"bn{i}", None)
            x = x if norm is None else norm(x)
        return (x,)


@NECKS.register_module()
class MoCoV2Neck(BaseModule):
    """Linear layer, ReLU and linear layer, `mlp`.

    Source: Improved Baselines with Momentum Contrastive Learning, https://arxiv.org/abs/2003.04297.

    Args:
        in_channels: Channels of the features.
        hid_channels: Channels between the layers.
        out_channels: Channels that come out.
        with_avg_pool: Whether feature maps are averaged over all positions first.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
    """

    def __init__(
        self,
        in_channels: int,
        hid_channels: int,
        out_channels: int,
        with_avg_pool: bool = True,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        self.with_avg_pool = with_avg_pool
        self.in_channels, self.out_channels = in_channels, out_channels
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, hid_channels), nn.ReLU(inplace=True), nn.Linear(hid_channels, out_channels)
        )

    def forward(self, features: Tensor | Sequence[Tensor]) -> tuple[Tensor]:
        """Return a tuple of (batch, out_channels), as `NonLinearNeck` does."""
        x = as_vectors(features, self.with_avg_pool)
        check_channels(self, x, self.in_channels)
        return (self.mlp(x),)


def vector_norm(norm_cfg: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the config of a normalisation for vectors."""
    norm = {"type": "SyncBN"} if norm_cfg is None else dict(norm_cfg)
    return {**norm, "type": OF_VECTORS.get(norm.get("type", ""), norm.get("type"))}


def as_vectors(features: Any, pool: bool, pair: bool = False) -> Tensor:
    """Return (batch, channels) from a feature or the last of several; maps are averaged if `pool`.

    Args:
        features: The features.
        pool: Whether (batch, channels, height, width) is averaged over height and width.
        pair: Whether a feature is a pair, of which the second counts.
    """
    x = features if isinstance(features, Tensor) else features[-1]
    if pair and not isinstance(x, Tensor):
        x = x[-1]
    return (x.mean(dim=(2, 3)) if pool and x.ndim == 4 else x).flatten(1)


def check_channels(neck: nn.Module, x: Tensor, in_channels: int) -> None:
    """Check that vectors (batch, channels) are as wide as a projector takes them.

    Raises:
        ConfigError: They are not.
    """
    if x.shape[1] != in_channels:
        raise ConfigError(
            f"{type(neck).__name__}: in_channels={in_channels}, but each image gives {x.shape[1]} numbers. "
            "Set in_channels to the channels of what comes before; with_avg_pool averages feature maps, and "
            "a backbone for tokens needs an out_type with one vector for each image"
        )
