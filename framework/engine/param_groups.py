"""Which parameter learns how fast, and how much it is decayed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from framework.errors import ConfigError, did_you_mean
from framework.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DefaultOptimWrapperConstructor:
    """Build an optimiser with one parameter group per combination of learning rate and weight decay.

    Source of the options: mmengine's class of this name, which makes one group per parameter.

    Args:
        optim_wrapper_cfg: The optimiser wrapper: `type`, `optimizer` and its own arguments.
        paramwise_cfg: `custom_keys` maps a part of a parameter's name to `lr_mult`, `decay_mult` and further
            settings of its group; the longest part that fits counts. For all other parameters
            `bias_lr_mult` (biases outside of normalisation), and the first that fits of `norm_decay_mult`,
            `bias_decay_mult`, `dwconv_decay_mult` (depthwise convolutions) and `flat_decay_mult`
            (one-dimensional parameters).

    Raises:
        ConfigError: An unknown option, or a multiple of a learning rate or weight decay that is not given.
    """

    options: tuple[str, ...] = (
        *("custom_keys", "bias_lr_mult", "norm_decay_mult", "bias_decay_mult", "dwconv_decay_mult"),
        *("flat_decay_mult", "bypass_duplicate"),
    )

    def __init__(
        self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        self.wrapper = dict(optim_wrapper_cfg)
        self.optimizer = dict(self.wrapper.pop("optimizer"))
        self.paramwise = dict(paramwise_cfg or {})
        self.custom: Mapping[str, Mapping[str, Any]] = self.paramwise.get("custom_keys") or {}
        self._check()

    def _check(self) -> None:
        for option in self.paramwise:
            if option not in self.options:
                hint = did_you_mean(option, self.options) or f". Known are: {', '.join(self.options)}"
                raise ConfigError(f"optim_wrapper.paramwise_cfg.{option} is not known{hint}")
        settings = {*self.paramwise, *(name for custom in self.custom.values() for name in custom)}
        for end, needed in (("lr_mult", "lr"), ("decay_mult", "weight_decay"), ("decay_rate", "lr")):
            given = [name for name in settings if name.endswith(end)]
            if given and self.optimizer.get(needed) is None:
                raise ConfigError(f"optim_wrapper.optimizer needs {needed}, as paramwise_cfg has {given[0]}")

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Return the optimiser wrapper for `model`."""
        bare: Any = model.module if is_model_wrapper(model) else model
        optimizer = OPTIMIZERS.build({**self.optimizer, "params": self.groups(bare)})
        return OPTIM_WRAPPERS.build({"type": "OptimWrapper", **self.wrapper, "optimizer": optimizer})

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return the parameter groups: their parameters, and settings other than the optimiser's own."""
        groups: dict[tuple[tuple[str, Any], ...], list[nn.Parameter]] = {}
        unused = dict.fromkeys(self.custom)
        for name, parameter, owner in learning_parameters(model):
            key = min(
                (key for key in self.custom if key in name), key=lambda key: (-len(key), key), default=None
            )
            if key is not None:
                unused.pop(key, None)
            settings = self.settings(name, parameter, owner, key) | self.position(model, name)
            groups.setdefault(tuple(sorted(self._absolute(settings).items())), []).append(parameter)
        if unused:
            keys = ", ".join(unused)
            print_log(f"paramwise_cfg.custom_keys that fit no parameter: {keys}", "current", logging.WARNING)
        if not groups:
            raise ConfigError(f"{type(model).__name__} has no parameter that learns")
        return [{"params": parameters, **dict(settings)} for settings, parameters in groups.items()]

    def settings(
        self, name: str, parameter: nn.Parameter, owner: nn.Module, key: str | None
    ) -> dict[str, Any]:
        """Return the settings of one parameter, learning rate and weight decay as multiples.

        Args:
            name: Its name in the model.
            parameter: The parameter.
            owner: The module that it belongs to.
            key: The entry of `custom_keys` that fits.
        """
        if key is not None:
            return dict(self.custom[key])
        bias, norm = name.rpartition(".")[2] == "bias", isinstance(owner, NORMS)
        kinds = {
            "norm_decay_mult": norm,
            "bias_decay_mult": bias,
            "dwconv_decay_mult": isinstance(owner, nn.Conv2d) and 1 < owner.in_channels == owner.groups,
            "flat_decay_mult": parameter.ndim == 1,
        }
        settings = {}
        decay = next((kind for kind, fits in kinds.items() if fits and kind in self.paramwise), None)
        if decay is not None:
            settings["decay_mult"] = self.paramwise[decay]
        if bias and not norm and "bias_lr_mult" in self.paramwise:
            settings["lr_mult"] = self.paramwise["bias_lr_mult"]
        return settings

    def position(self, model: nn.Module, name: str) -> dict[str, Any]:
        """Return settings that depend on where in the model a parameter stands; here none."""
        return {}

    def _absolute(self, settings: dict[str, Any]) -> dict[str, Any]:
        lr = settings.pop("lr_mult", 1.0) * settings.pop("layer_mult", 1.0)
        decay = settings.pop("decay_mult", 1.0)
        if lr != 1:
            settings["lr"] = self.optimizer["lr"] * lr
        if decay != 1:
            settings["weight_decay"] = self.optimizer["weight_decay"] * decay
        return settings


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LearningRateDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Let layer i of `depth` layers learn with `lr * layer_decay_rate ** (depth - 1 - i)`.

    The model says where a parameter stands: `get_layer_depth(name)` of the model, or `get_layer_depth(name,
    'backbone.')` of its backbone, returns the layer, from 0 for the stem, and their number. What is not part
    of the backbone learns with `lr`.

    Source: mmpretrain's class of this name; Clark et al., "ELECTRA" (https://arxiv.org/abs/2003.10555).

    Args:
        optim_wrapper_cfg: As for `DefaultOptimWrapperConstructor`.
        paramwise_cfg: Likewise, with `layer_decay_rate`.
    """

    options = (*DefaultOptimWrapperConstructor.options, "layer_decay_rate")

    def position(self, model: nn.Module, name: str) -> dict[str, Any]:
        """Return the layer and the multiple of the learning rate for it.

        Raises:
            ConfigError: The model cannot tell the layers, or has no layer for a parameter.
        """
        layer, depth = layer_of(model, name)
        return {
            "layer": layer,
            "layer_mult": self.paramwise.get("layer_decay_rate", 1.0) ** (depth - 1 - layer),
        }


def learning_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, nn.Module]]:
    """Yield the name, the parameter and its module for every parameter that learns, shared ones once."""
    modules = dict(model.named_modules())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield name, parameter, modules[name.rpartition(".")[0]]


def layer_of(model: Any, name: str) -> tuple[int, int]:
    """Return the layer of a parameter and the number of layers.

    Raises:
        ConfigError: The model cannot tell, or the layer is not one of the layers.
    """
    backbone: Any = getattr(model, "backbone", None)
    if not hasattr(model if backbone is None else backbone, "get_layer_depth"):
        part = type(model if backbone is None else backbone).__name__
        raise ConfigError(
            f"{part} has no get_layer_depth(name, prefix), so its layers have no order: choose another "
            f"backbone, or another constructor than LearningRateDecayOptimWrapperConstructor"
        )
    if hasattr(model, "get_layer_depth"):
        layer, depth = model.get_layer_depth(name)
    else:
        layer, depth = backbone.get_layer_depth(name, "backbone.")
    if not 0 <= layer < depth:
        raise ConfigError(f"The parameter {name} has layer {layer}, which is none of 0 to {depth - 1}")
    return layer, depth
