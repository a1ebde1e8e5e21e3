"""Several processes: how they find each other, and how the model is spread over them."""

from __future__ import annotations

import os
import subprocess
import warnings
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_rank, is_distributed
from mmengine.model import convert_sync_batchnorm, is_model_wrapper, revert_sync_batchnorm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from framework.engine.acceleration import keep_freed_memory
from framework.engine.sharded import NAME, shard_model
from framework.errors import ConfigError
from framework.models.backbones.foreign import ForeignBackbone
from framework.registry import MODEL_WRAPPERS

#: Where the processes of Slurm and MPI meet on the first machine, unless MASTER_PORT says otherwise.
PORT = 29500

#: What starts the processes for a launcher, and the variable that tells a process which one it is.
STARTED_BY = {
    "pytorch": ("torchrun", "RANK"),
    "slurm": ("srun", "SLURM_PROCID"),
    "mpi": ("mpirun of Open MPI", "OMPI_COMM_WORLD_RANK"),
}

#: The constructor of optimisers that asks for the layer of each parameter.
LAYERWISE = "LearningRateDecayOptimWrapperConstructor"

#: What `sync_bn` of a config may be.
SYNC_BN = ("torch", "mmcv")


def start_processes(env_cfg: Mapping[str, Any], launcher: str) -> None:
    """Set the threads of torch; without a GPU keep freed memory, and connect processes through gloo.

    Args:
        env_cfg: As for mmengine; besides `num_threads`, the threads of torch on the CPU. `dist_cfg.timeout`
            are the seconds after which a process no longer waits for the others.
        launcher: What started this process: 'none', 'pytorch' (torchrun), 'slurm' or 'mpi'.

    Raises:
        ConfigError: Something else has started this process.
    """
    if env_cfg.get("num_threads"):
        torch.set_num_threads(env_cfg["num_threads"])
    if not torch.cuda.is_available():
        keep_freed_memory(os.environ)
    if is_distributed():
        return
    _check_launcher(launcher, os.environ)
    if launcher == "none" or torch.cuda.is_available():
        return
    places = {"slurm": _place_in_slurm, "mpi": _place_in_mpi}
    options = places[launcher](os.environ) if launcher in places else {}
    timeout = (env_cfg.get("dist_cfg") or {}).get("timeout")
    if timeout is not None:
        options["timeout"] = timedelta(seconds=timeout)
    torch.distributed.init_process_group("gloo", **options)


def _check_launcher(launcher: str, environment: Mapping[str, str]) -> None:
    if launcher == "none":
        if "TORCHELASTIC_RUN_ID" in environment and int(environment.get("WORLD_SIZE", "1")) > 1:
            raise ConfigError(
                f"torchrun started {environment['WORLD_SIZE']} processes, each of which would train alone "
                f"in the same work dir: add --launcher pytorch"
            )
        return
    if launcher not in STARTED_BY:
        raise ConfigError(f"launcher={launcher!r}: accepted are none, {', '.join(STARTED_BY)}")
    program, variable = STARTED_BY[launcher]
    if variable not in environment:
        raise ConfigError(
            f"launcher={launcher} needs processes that {program} has started ({variable} is not set): see "
            f"docs/many_machines.md, or leave the launcher out to train with one process"
        )


def _place_in_slurm(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return who this process is among those that Slurm started, and where they meet."""
    address = environment.get("MASTER_ADDR")
    if address is None:
        nodes = ["scontrol", "show", "hostnames", environment["SLURM_JOB_NODELIST"]]
        address = subprocess.run(nodes, capture_output=True, text=True, check=True).stdout.split()[0]
    return {
        "init_method": f"tcp://{address}:{environment.get('MASTER_PORT', PORT)}",
        "rank": int(environment["SLURM_PROCID"]),
        "world_size": int(environment["SLURM_NTASKS"]),
    }


def _place_in_mpi(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return who this process is among those that Open MPI started, and where they meet."""
    ours, all_of_them = (environment[f"OMPI_COMM_WORLD_{name}"] for name in ("LOCAL_SIZE", "SIZE"))
    if "MASTER_ADDR" not in environment and ours != all_of_them:
        raise ConfigError("launcher=mpi on several machines needs the first one's name: -x MASTER_ADDR=NAME")
    address = environment.get("MASTER_ADDR", "127.0.0.1")
    return {
        "init_method": f"tcp://{address}:{environment.get('MASTER_PORT', PORT)}",
        "rank": int(environment["OMPI_COMM_WORLD_RANK"]),
        "world_size": int(all_of_them),
    }


def spread_model(
    model: nn.Module, wrapper_cfg: Mapping[str, Any] | None, cfg: Mapping[str, Any], *, launched: bool
) -> nn.Module:
    """Move a model to its device and, in a distributed run, wrap it for several processes.

    Args:
        model: The model.
        wrapper_cfg: `model_wrapper_cfg` of the config: `type` and arguments. Default:
            `MMDistributedDataParallel`. Not used by a run of one process.
        cfg: The config, of which `sync_bn` and `find_unused_parameters` count.
        launched: Whether the run has several processes, or one that a launcher started.

    Raises:
        ConfigError: An unknown `sync_bn`, or averages of weights that are sharded.
    """
    if is_model_wrapper(model):
        return model
    if not launched:
        return revert_sync_batchnorm(model.to(get_device()))
    model = _with_sync_bn(model, cfg.get("sync_bn"))
    options = {"type": "MMDistributedDataParallel", **(wrapper_cfg or {})}
    if options["type"] == NAME:
        _check_averages(cfg.get("custom_hooks") or ())
        return _sharded(model, options, (cfg.get("optim_wrapper") or {}).get("constructor"))
    wrapper = MODEL_WRAPPERS.get(options["type"]) if isinstance(options["type"], str) else options["type"]
    if isinstance(wrapper, type) and issubclass(wrapper, DistributedDataParallel):
        device = int(os.environ.get("LOCAL_RANK", 0))
        options.setdefault("device_ids", [device] if torch.cuda.is_available() else None)
        options.setdefault("broadcast_buffers", False)
        options.setdefault("find_unused_parameters", cfg.get("find_unused_parameters", False))
    with warnings.catch_warnings():  # newer torch has another word for `broadcast_buffers`, mmengine has not
        warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
        return MODEL_WRAPPERS.build(options, default_args={"module": model.to(get_device())})


def _check_averages(hooks: Iterable[Any]) -> None:
    """Refuse averages of weights that are sharded: torch cannot copy such a model."""
    types = [str(hook.get("type")) for hook in hooks if isinstance(hook, Mapping)]
    if any(name.rpartition(".")[2] == "EMAHook" for name in types):
        raise ConfigError(
            f"EMAHook (or --ema) averages whole weights, and {NAME} has a part of them in each process. "
            "Leave one of them out: MMDistributedDataParallel goes with EMAHook"
        )


def _sharded(model: nn.Module, options: dict[str, Any], constructor: str | None) -> nn.Module:
    """Spread the parameters, after `init_weights`, which needs them whole."""
    for part in model.modules():
        if isinstance(part, ForeignBackbone) and constructor == LAYERWISE:
            _ = part.layer_order  # cannot be found out when the parameters are spread
    initialise: Any = getattr(model, "init_weights", None)
    if get_rank() == 0 and initialise is not None:
        initialise()
    return MODEL_WRAPPERS.build({**options, "type": shard_model}, default_args={"module": model})


def _with_sync_bn(model: nn.Module, kind: str | None) -> nn.Module:
    from framework.models.layers.sync_batch_norm import sync_on_cpus  # all models come with it

    if kind not in (None, *SYNC_BN):
        raise ConfigError(f"sync_bn={kind!r}: accepted are {', '.join(SYNC_BN)}")
    model = model if kind is None else convert_sync_batchnorm(model, kind)
    return model if torch.cuda.is_available() else sync_on_cpus(model)
