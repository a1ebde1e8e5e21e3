"""Ways to train faster that leave the parameters of a model and their names as they are."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from framework.errors import ConfigError

#: Parameters of glibc's `mallopt`: https://man7.org/linux/man-pages/man3/mallopt.3.html
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

#: Variables by which a user sets what `keep_freed_memory` sets.
MALLOC_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory(environment: Mapping[str, str]) -> bool:
    """Let this process keep up to 1 GiB of main memory that is free between two iterations.

    On the CPU an iteration ends with most of its memory free. glibc gives that back to the system, which
    then has to clear and map every page of it anew in the next iteration.

    Args:
        environment: `os.environ`; what it says about glibc's allocator counts, and nothing is done.

    Returns:
        Whether it was done: with glibc only.
    """
    if not sys.platform.startswith("linux") or any(name in environment for name in MALLOC_VARIABLES):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    largest = 32 * 2**20  # blocks above this are mapped one by one; glibc takes no higher value
    return bool(mallopt(M_MMAP_THRESHOLD, largest) and mallopt(M_TRIM_THRESHOLD, 2**30))


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
