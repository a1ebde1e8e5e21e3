"""Networks of torchvision as backbones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from framework.errors import ConfigError, did_you_mean
from framework.models.backbones.base import check_out_indices
from framework.models.backbones.foreign import ForeignBackbone
from framework.models.backbones.probe import channels_of, outputs_of, run_without_values
from framework.registry import BACKBONES

#: Where torchvision's networks begin to classify.
ENDS = ("avgpool", "dropout", "fc", "classifier", "heads", "head")

#: Parts of which each child is a part of its own.
CONTAINERS = ("features", "layers", "blocks", "trunk_output")

#: Auxiliary classifiers are left out, and slow initialisation that torchvision itself gives up.
DEFAULTS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}

#: Families whose features are no maps, with our own class that loads torchvision's files.
NATIVE = {"vit_": "VisionTransformer", "swin_v2_": "SwinTransformerV2", "swin_": "SwinTransformer"}

#: Pixels of the image with which shapes are found out; MaxViT has an argument for it.
SIZE = 224


@BACKBONES.register_module()
class TorchvisionBackbone(ForeignBackbone):
    """A network of torchvision without its classifier. Its parameters are named as torchvision's.

    Its stages are found out: one for each resolution, ending with the last part of that resolution.

    Args:
        name: Name of the network, such as efficientnet_b0.
        in_channels: Channels of the images.
        out_indices: The stages, from 0, that give features; negative ones count from the end.
        features: Names of parts of the network that give features instead, such as `features.4`.
        frozen_stages: What does not learn: -1 nothing, 0 all that comes before the blocks, n the first n
            stages, too. A stage is a run of blocks that give one shape, in a network of one shape each block.
        norm_eval: Whether batch normalisation keeps its statistics in training.
        model_args: Other arguments of torchvision's function for this network.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Attributes:
        model: The network.
        stages: Names of the parts that end the stages.

    Raises:
        ConfigError: There is no such network or part, or `out_indices` is out of range.
    """

    def __init__(
        self,
        name: str,
        in_channels: int = 3,
        out_indices: Sequence[int] | int = -1,
        features: Sequence[str] | None = None,
        norm_eval: bool = False,
        model_args: Mapping[str, Any] | None = None,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        frozen_stages: int = -1,
    ) -> None:
        super().__init__(init_cfg)
        self.norm_eval = norm_eval
        self.model = _network(name, model_args or {})
        for end in ENDS:
            if hasattr(self.model, end):
                setattr(self.model, end, nn.Identity())
        if in_channels != 3:
            _replace_first_conv(self.model, in_channels)
        self.parts = _parts(self.model)
        shape = self._shape = (1, in_channels, *((model_args or {}).get("input_size", (SIZE, SIZE))))
        maps = outputs_of(self.model, self.parts, lambda: run_without_values(self.model, *shape))
        self.stages = tuple({maps[part].shape[2:]: part for part in self.parts}.values())
        self.features = self._chosen(out_indices, features)
        chosen = outputs_of(self.model, self.features, lambda: run_without_values(self.model, *shape))
        self.out_channels = tuple(channels_of(chosen[part]) for part in self.features)
        self.feature_dim = self.out_channels[-1]
        self.freeze_stages(frozen_stages)

    def _chosen(self, out_indices: Sequence[int] | int, features: Sequence[str] | None) -> tuple[str, ...]:
        if features is None:
            return tuple(self.stages[i] for i in check_out_indices(out_indices, len(self.stages)))
        known = dict(self.model.named_modules())
        for part in features:
            if part not in known:
                hint = did_you_mean(part, known) or "."
                raise ConfigError(
                    f"features: there is no part {part!r}{hint} Stages: {', '.join(self.stages)}"
                )
        return tuple(features)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the features of images (batch, in_channels, height, width).

        Where the network goes on with an activation in place, a feature is what comes after it.
        """
        found = outputs_of(self.model, self.features, lambda: self.model(x))
        return tuple(found[part] for part in self.features)

    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of an input that the network takes."""
        return self._shape


def _network(name: str, model_args: Mapping[str, Any]) -> nn.Module:
    from torchvision import models

    native = next((ours for prefix, ours in NATIVE.items() if name.startswith(prefix)), None)
    if native is not None:
        raise ConfigError(
            f"TorchvisionBackbone has no {name!r}: use {native}, which loads torchvision's weights of it"
        )
    known = models.list_models(module=models)
    if name not in known:
        hint = did_you_mean(name, known) or f". Known: {', '.join(known)}"
        raise ConfigError(f"torchvision has no network {name!r}{hint}")
    return models.get_model(name, weights=None, **{**DEFAULTS.get(name, {}), **model_args})


def _parts(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the parts of a network, in the order of execution, up to its classifier."""
    parts: list[str] = []
    for name, child in model.named_children():
        if name in ENDS:
            break
        inner = name in CONTAINERS and isinstance(child, nn.Sequential | nn.ModuleList)
        parts += [f"{name}.{part}" for part, _ in child.named_children()] if inner else [name]
    return tuple(parts)


def _replace_first_conv(model: nn.Module, in_channels: int) -> None:
    name, conv = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    owner, _, leaf = name.rpartition(".")
    words = ("out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    args = {word: getattr(conv, word) for word in words}
    new = nn.Conv2d(in_channels, bias=conv.bias is not None, **args)
    setattr(model.get_submodule(owner), leaf, new)
