"""Networks of timm as backbones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from framework.errors import ConfigError, did_you_mean
from framework.models.backbones.base import check_out_indices
from framework.models.backbones.foreign import ForeignBackbone
from framework.pretrain import load_pretrained
from framework.registry import BACKBONES

SIZE = 224


@BACKBONES.register_module(name=["TimmBackbone", "TIMMBackbone"])
class TimmBackbone(ForeignBackbone):
    """A network of timm without its classifier. Needs the package timm.

    Its parameters are named as timm's, behind `timm_model.`, as in mmpretrain.

    Args:
        model_name: Name of the network, such as resnet50.a1_in1k or convnext_tiny.
        features_only: Whether all stages give features; the same as `out_indices` with all of them.
        pretrained: Whether to load timm's weights of that name: `pretrain='timm://model_name'`.
        checkpoint_path: A file to load, as `pretrain` would.
        in_channels: Channels of the images.
        out_indices: The stages that give features, as maps (batch, channels, rows, columns). Default: the
            network's output before pooling and classification, once.
        frozen_stages: What does not learn: -1 nothing, 0 all that comes before the blocks, n the first n
            stages, too. A stage is a run of blocks that give one shape, in a network of one shape each block.
        norm_eval: Whether batch normalisation keeps its statistics in training.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
        **kwargs: Other arguments of `timm.create_model` for this network.

    Raises:
        ConfigError: timm is not installed, has no such network, or the network gives no such features.
        PretrainError: The weights cannot be had or do not fit.
    """

    network_name = "timm_model"

    def __init__(
        self,
        model_name: str,
        features_only: bool = False,
        pretrained: bool = False,
        checkpoint_path: str = "",
        in_channels: int = 3,
        out_indices: Sequence[int] | int | None = None,
        norm_eval: bool = False,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        frozen_stages: int = -1,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        self.norm_eval = norm_eval
        self.timm_model = _network(model_name, {**kwargs, "in_chans": in_channels})
        self.in_channels = in_channels
        self._image_size = kwargs.get("img_size")
        self._set_features(features_only, out_indices)
        path = checkpoint_path or (f"timm://{model_name}" if pretrained else "")
        if path:
            load_pretrained(self, path, where="checkpoint_path" if checkpoint_path else "pretrained")
        self.freeze_stages(frozen_stages)

    def _set_features(self, features_only: bool, out_indices: Sequence[int] | int | None) -> None:
        network: Any = self.timm_model
        self.out_indices: tuple[int, ...] | None = None
        if not features_only and out_indices is None:
            network.reset_classifier(0, "")
            self.feature_dim = getattr(network, "head_hidden_size", None) or network.num_features
            self.out_channels = (self.feature_dim,)
            return
        network.reset_classifier(0)
        channels = [info["num_chs"] for info in getattr(network, "feature_info", [])]
        if not channels or not hasattr(network, "forward_intermediates"):
            raise ConfigError(
                f"{type(network).__name__} gives no features of its stages: leave out_indices and "
                "features_only out"
            )
        indices = range(len(channels)) if out_indices is None else out_indices
        self.out_indices = check_out_indices(indices, len(channels))
        self.out_channels = tuple(channels[i] for i in self.out_indices)
        self.feature_dim = self.out_channels[-1]

    def forward(self, x: Tensor) -> tuple[Any, ...]:
        """Return the features of images (batch, in_channels, height, width)."""
        network: Any = self.timm_model
        if self.out_indices is not None:
            indices = list(self.out_indices)
            return tuple(network.forward_intermediates(x, indices=indices, intermediates_only=True))
        features = network(x)
        return tuple(features) if isinstance(features, list | tuple) else (features,)

    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of an input that the network takes."""
        settings = getattr(self.timm_model, "pretrained_cfg", None) or {}
        size = self._image_size or settings.get("input_size", (0, SIZE, SIZE))[1:]
        height, width = (size, size) if isinstance(size, int) else size
        return (1, self.in_channels, height, width)


def _network(name: str, arguments: dict[str, Any]) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise ConfigError("TimmBackbone needs the package timm: pip install timm") from error
    if not timm.is_model(name):
        known = timm.list_models()
        hint = did_you_mean(name, known) or f". It has {len(known)}, such as {', '.join(known[:3])}"
        raise ConfigError(f"timm has no network {name!r}{hint}")
    return timm.create_model(name, pretrained=False, **arguments)
