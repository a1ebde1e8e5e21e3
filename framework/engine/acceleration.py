"""Ways to make a model faster that leave its parameters and their names as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from framework.errors import ConfigError


def use_channels_last(model: nn.Module) -> nn.Module:
    """Lay out the weights of convolutions, and the images that come in, with the channels last.

    Values, shapes and names stay. Many convolutions are faster so, above all in mixed precision on GPUs:
    https://docs.pytorch.org/tutorials/intermediate/memory_format_tutorial.html

    Args:
        model: A model; its `data_preprocessor`, if it has one, gives images of the new layout from now on.

    Returns:
        The model.
    """
    model.to(memory_format=torch.channels_last)
    preprocessor = getattr(model, "data_preprocessor", None)
    if isinstance(preprocessor, nn.Module):
        preprocessor.register_forward_hook(_images_channels_last)
    return model


def _images_channels_last(module: nn.Module, arguments: Any, output: Any) -> Any:
    return _channels_last(output)


def _channels_last(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
    if isinstance(value, Mapping):
        return {key: _channels_last(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_channels_last(item) for item in value)
    return value


def compile_model(model: nn.Module, options: bool | Mapping[str, Any]) -> None:
    """Compile the calls of a model, in place: the names of its parameters do not change.

    Args:
        model: The model, without a wrapper for several processes.
        options: True, or arguments of `torch.compile`, such as `dict(mode='max-autotune')`.

    Raises:
        ConfigError: The options are neither.
    """
    if options is not True and not isinstance(options, Mapping):
        raise ConfigError(f"compile: expected True, False or arguments of torch.compile, got {options!r}")
    arguments = {} if options is True else dict(options)
    try:
        model.compile(**arguments)
    except (TypeError, RuntimeError) as error:
        raise ConfigError(f"compile: torch.compile does not accept {arguments}: {error}") from error
