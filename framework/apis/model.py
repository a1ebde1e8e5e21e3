"""A model in one call."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from framework.config import is_pretrained_init, load_config, without_pretrain
from framework.errors import ConfigError
from framework.registry import MODELS


def get_model(
    config: str | os.PathLike[str] | Mapping[str, Any],
    pretrained: bool | str | os.PathLike[str] | Mapping[str, Any] = True,
    *,
    device: str | torch.device = "cpu",
    url_mapping: tuple[str, str] | None = None,
    **overrides: Any,
) -> nn.Module:
    """Build the model of a config, ready for prediction.

    Args:
        config: A config file, or a config with a `model` dict, or that dict itself.
        pretrained: True takes the weights that the config names; False takes none; anything else is a
            `pretrain` value for the whole model, in place of what the config names.
        device: Where the model lives.
        url_mapping: (regex, replacement) for the addresses of weights, where a mirror has them.
        **overrides: Merged into `model` of the config: `head=dict(num_classes=2)`.

    Returns:
        The model in eval mode.

    Raises:
        ConfigError: There is no such file, or no `model` in it, or the model cannot be built.
        PretrainError: The weights cannot be had or do not fit.
    """
    cfg = Config({"model": _model_of(config)})
    cfg.merge_from_dict({"model": overrides})
    model = cfg.model.to_dict() if hasattr(cfg.model, "to_dict") else dict(cfg.model)
    if pretrained is not True:
        model = without_pretrain(model)
    if not isinstance(pretrained, bool):
        model["pretrain"] = pretrained
    if url_mapping is not None:
        model = _mapped(model, url_mapping)
    with torch.device(device):
        return MODELS.build(model).eval()


def list_models(pattern: str = "*", root: str | os.PathLike[str] = "configs") -> list[str]:
    """List the config files below a folder that have a model.

    Args:
        pattern: Glob pattern on the path below `root`, `'*vit*'`.
        root: The folder.
    """
    from fnmatch import fnmatch

    found = (path.relative_to(root).as_posix() for path in Path(root).rglob("*.py"))
    return sorted(name for name in found if "_base_" not in name and fnmatch(name, pattern))


def _mapped(part: Any, url_mapping: tuple[str, str]) -> Any:
    """Copy a model config with the mirror written into every `pretrain` field."""
    if isinstance(part, Mapping):
        mapped = {key: _mapped(value, url_mapping) for key, value in part.items() if key != "pretrain"}
        field = part.get("pretrain")
        if field is not None:
            fields = field if isinstance(field, Mapping) else {"path": field}
            mapped["pretrain"] = {**fields, "url_mapping": url_mapping}
        return {**mapped, "url_mapping": url_mapping} if is_pretrained_init(part) else mapped
    if isinstance(part, (list, tuple)):
        return type(part)(_mapped(item, url_mapping) for item in part)
    return part


def _model_of(config: str | os.PathLike[str] | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the `model` dict of a config in any of its forms."""
    if isinstance(config, Mapping):
        model = config.get("model", config if "type" in config else None)
        name = "the config"
    else:
        name = os.fspath(config)
        model = load_config(config)["model"]
    if not isinstance(model, Mapping):
        raise ConfigError(f"{name} has no `model` dict. Add model=dict(type=...), or pass the dict itself")
    return model
