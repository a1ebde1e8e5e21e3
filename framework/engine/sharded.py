"""Models whose parameters are spread over the processes, with torch's `fully_shard` (FSDP2)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_rank, get_world_size
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from framework.config import without_pretrain
from framework.errors import ConfigError, did_you_mean
from framework.models.blocks import repeated_blocks
from framework.registry import MODELS

#: Name of the wrapper in a config.
NAME = "FullyShard"

#: The file in the folder of a sharded checkpoint that holds all but the tensors of model and optimiser.
REST = "run.pth"

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def build_model(cfg: Any, wrapper_cfg: Mapping[str, Any] | None) -> nn.Module:
    """Build a model; if it is to be sharded, with values in the first process only.

    The others build it on the meta device, without memory, and read no weights: they get their part when the
    model is sharded.

    Raises:
        ConfigError: As for any build, or the model cannot be built on the meta device.
    """
    wrapper = wrapper_cfg or {}
    if wrapper.get("type") != NAME or get_rank() == 0:
        return MODELS.build(cfg)
    if not wrapper.get("meta", True):
        return MODELS.build(without_pretrain(cfg))
    try:
        with torch.device("meta"):
            model = MODELS.build(without_pretrain(cfg))
    except (RuntimeError, NotImplementedError) as error:
        raise ConfigError(f"The model cannot be built without values ({error}): {_NO_META}") from error
    for name, part in model.named_modules():
        for attribute, value in vars(part).items():
            if isinstance(value, Tensor) and value.is_meta:
                raise ConfigError(
                    f"{name}.{attribute} is a tensor, but neither parameter nor buffer: {_NO_META}"
                )
    return model


_NO_META = "set model_wrapper_cfg.meta=False, and every process builds the whole model first"


def shard_model(
    module: nn.Module,
    units: Sequence[str] | None = None,
    reshard_after_forward: bool = True,
    param_dtype: str | None = None,
    reduce_dtype: str | None = None,
    meta: bool = True,
) -> nn.Module:
    """Spread the parameters of a model, their gradients and the optimiser's state over all processes.

    Source: https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html

    Args:
        module: The model; its values in the first process are spread, those in the others do not matter.
        units: Names of classes of modules whose parameters are gathered together, when they are needed.
            Default: the blocks that the model repeats, such as the layers of a transformer.
        reshard_after_forward: Whether gathered parameters are given back between forward and backward: less
            memory, more communication.
        param_dtype: 'bfloat16', 'float16' or 'float32', in which parameters are gathered and computed with.
            Default: their own.
        reduce_dtype: Likewise for gradients that are averaged.
        meta: Whether all processes but the first build the model without memory; see `build_model`.

    Returns:
        The same module.

    Raises:
        ConfigError: There are no processes, parameters are shared, a part is the moving average of another
            one, or there is no such unit or dtype.
    """
    if not torch.distributed.is_initialized():
        raise ConfigError(
            "FullyShard needs several processes: start them with torchrun, and --launcher pytorch"
        )
    _check_not_shared(module)
    _check_no_teacher(module)
    policy = MixedPrecisionPolicy(
        _dtype(param_dtype), _dtype(reduce_dtype), torch.float32 if param_dtype else None
    )
    values = {name: value.detach() for name, value in _state(module).items()} if get_rank() == 0 else {}
    device = get_device()
    mesh = init_device_mesh(device, (get_world_size(),))
    nn.Module.to(module, "meta")  # not the module's own `to`, which notes the device
    for unit in (*_units(module, units), module):
        fully_shard(unit, mesh=mesh, reshard_after_forward=reshard_after_forward, mp_policy=policy)
    module.to_empty(device=device)
    spread_values(module, values)
    return module.to(device)


def _check_no_teacher(module: nn.Module) -> None:
    from framework.models.selfsup import CosineEMA

    teacher = next((name for name, part in module.named_modules() if isinstance(part, CosineEMA)), None)
    if teacher is not None:
        raise ConfigError(
            f"FullyShard cannot spread {type(module).__name__}: its teacher '{teacher}' follows the student "
            "between forward passes, when the student's parameters are partly gathered. Leave "
            "model_wrapper_cfg out to train it with DistributedDataParallel"
        )


def is_sharded(model: nn.Module) -> bool:
    """Tell whether the parameters of a model are spread over the processes."""
    return isinstance(model, FSDPModule)


def suffix_of(model: nn.Module) -> str:
    """Return the ending of the names of a model's checkpoints: of a file, or of a sharded model's folder."""
    return ".dcp" if is_sharded(model) else ".pth"


def state_file(checkpoint: str | os.PathLike[str]) -> Path:
    """Return the file of a training checkpoint that holds all but tensors: of a sharded one `run.pth`."""
    path = Path(checkpoint).expanduser()
    return path / REST if path.is_dir() else path


def spread_values(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Give a sharded model the values that the first process has. Every process must call this.

    Args:
        model: The model.
        values: In the first process all parameters and buffers, whole, by name; in the others nothing.
    """
    state = model.state_dict()
    saved: dict[str, Any] = {name: value for name, value in values.items() if name in state}
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(model, saved, options=options)
    for name, buffer in model.named_buffers():
        if name not in state:
            if name in values:
                buffer.copy_(values[name])
            torch.distributed.broadcast(buffer, 0)


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers, also those that a state dict leaves out."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers()), **module.state_dict()}


def _dtype(name: str | None) -> torch.dtype | None:
    if name is not None and name not in DTYPES:
        raise ConfigError(
            f"FullyShard: param_dtype and reduce_dtype are one of {', '.join(DTYPES)}, got {name!r}"
        )
    return None if name is None else DTYPES[name]


def _check_not_shared(module: nn.Module) -> None:
    names: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        other = names.setdefault(id(parameter), name)
        if other != name:
            raise ConfigError(f"FullyShard cannot keep {other} and {name} the same parameter: use DDP")


def _units(module: nn.Module, names: Sequence[str] | None) -> Iterable[nn.Module]:
    """Return the parts that are sharded on their own, inner ones first."""
    if names is None:
        return repeated_blocks(module).values()
    classes = {type(part).__name__ for part in module.modules()}
    for name in names:
        if name not in classes:
            hint = did_you_mean(name, classes) or f". There are: {', '.join(sorted(classes))}"
            raise ConfigError(f"FullyShard: the model has no part of class {name!r}{hint}")
    return reversed(
        [part for part in module.modules() if part is not module and type(part).__name__ in names]
    )
