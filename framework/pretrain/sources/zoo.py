"""Weights that another library knows by name: torchvision's and timm's, as the address that each gives."""

from __future__ import annotations

from enum import Enum

from framework.errors import did_you_mean
from framework.pretrain.errors import NotFoundError, SourceError


def torchvision_address(name: str) -> str:
    """Return the URL of torchvision's weights.

    Args:
        name: `ResNet50_Weights.IMAGENET1K_V2` (any member of a weights enumeration), or a model as in
            `resnet50`, or a model and its weights as in `resnet50.IMAGENET1K_V2`. A model alone means its
            `IMAGENET1K_V1`, as it does in the configs of OpenMMLab that this spelling comes from; where a
            model has no weights of that name, it means torchvision's default.

    Raises:
        NotFoundError: there is no such model, or it has no such weights.
    """
    from torchvision import models

    group, _, tag = name.partition(".")
    by_name = {entry: entry for entry in models.list_models()}
    enums = {models.get_model_weights(entry).__name__: entry for entry in by_name}
    model = by_name.get(group) or enums.get(group)
    if model is None:
        near = did_you_mean(group, [*by_name, *enums])
        raise NotFoundError(f"torchvision://{name}: torchvision has no model or weights {group!r}{near}")
    members = models.get_model_weights(model).__members__
    found = _member(members, tag)
    if found is None:
        near = ", ".join(f"torchvision://{group}.{member}" for member in members) or "none at all"
        raise NotFoundError(f"torchvision://{name}: {group} has no weights {tag!r}; it has {near}")
    return str(found.value.url)


def _member(members: dict[str, Enum], tag: str) -> Enum | None:
    if not tag:
        return members.get("IMAGENET1K_V1") or members.get("DEFAULT")
    return {name.lower(): member for name, member in members.items()}.get(tag.lower())


def timm_address(name: str) -> str:
    """Return the address of timm's weights for `architecture` or `architecture.tag`.

    That is a repository of the hub where timm knows one, else a URL.

    Raises:
        SourceError: timm is not installed.
        NotFoundError: timm has no such weights.
    """
    try:
        from timm.models import get_pretrained_cfg, list_pretrained
    except ImportError as error:
        raise SourceError(f"timm://{name} needs the package timm: pip install timm") from error
    try:
        config = get_pretrained_cfg(name)
    except RuntimeError:
        config = None
    if config is not None and config.hf_hub_id:
        file = f"/{config.hf_hub_filename}" if config.hf_hub_filename else ""
        return f"hf://{config.hf_hub_id}{file}"
    if config is not None and config.url:
        return str(config.url)
    near = did_you_mean(name, list_pretrained())
    raise NotFoundError(f"timm://{name}: timm has no pretrained weights of that name{near}")
