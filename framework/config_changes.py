"""Changes to a config by dotted names, as the command line makes them. What exists nowhere is refused."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.config import ConfigDict

from framework.errors import ConfigError, did_you_mean

#: Names that every dict may have.
EVERYWHERE = ("type", "_scope_", "_delete_")

#: Which registry knows the `type` of a dict, by the nearest of these names above it.
REGISTRY_OF = {
    "model": "MODELS",
    "dataset": "DATASETS",
    "pipeline": "TRANSFORMS",
    "transforms": "TRANSFORMS",
    "sampler": "DATA_SAMPLERS",
    "batch_sampler": "DATA_SAMPLERS",
    "optim_wrapper": "OPTIM_WRAPPERS",
    "optimizer": "OPTIMIZERS",
    "param_scheduler": "PARAM_SCHEDULERS",
    "default_hooks": "HOOKS",
    "custom_hooks": "HOOKS",
    "val_evaluator": "METRICS",
    "test_evaluator": "METRICS",
    "train_cfg": "LOOPS",
    "val_cfg": "LOOPS",
    "test_cfg": "LOOPS",
    "visualizer": "VISUALIZERS",
    "vis_backends": "VISBACKENDS",
    "log_processor": "LOG_PROCESSORS",
}

#: What a dict without `type` is, by its place.
TYPE_OF = {
    "optim_wrapper": "OptimWrapper",
    "val_cfg": "ValLoop",
    "test_cfg": "TestLoop",
    "visualizer": "Visualizer",
    "log_processor": "LogProcessor",
    "model.data_preprocessor": "ClsDataPreprocessor",
}

#: Names beside the arguments of the class, by the place of the dict or its registry.
BESIDE = {
    "optim_wrapper": ("optimizer", "constructor", "paramwise_cfg"),
    "train_cfg": ("by_epoch",),
    "MODELS": ("pretrain", "frozen", "init_cfg"),
    "HOOKS": ("priority",),
}

#: Names of dicts that no class stands for, by the last name of their place.
NAMES_OF = {
    "randomness": ("seed", "diff_rank_seed", "deterministic"),
    "env_cfg": ("num_threads", "cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"),
    "mp_cfg": ("mp_start_method", "opencv_num_threads"),
    "auto_scale_lr": ("enable", "base_batch_size"),
    "clip_grad": ("type", "max_norm", "norm_type", "error_if_nonfinite", "foreach", "clip_value"),
}

#: Dicts with names that only the user knows, or that are checked where they are used.
FREE = ("custom_keys", "init_cfg", "dist_cfg", "compile", "model_wrapper_cfg", "paramwise_cfg")

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def change_config(config: Any, changes: Mapping[str, Any]) -> None:
    """Change a config in place.

    A name may be new where the class that its dict describes has such an argument, where every dict of that
    place may have it (as `pretrain` in a model), or where the same changes give the dict a `type`.

    Args:
        config: mmengine's config, or a dict.
        changes: Dotted names, with numbers for the places in lists, and new values.

    Raises:
        ConfigError: A name exists nowhere; the nearest ones are named. Nothing is changed then.
    """
    given = copy.deepcopy(dict(config.items()))
    for name, value in changes.items():
        if name.endswith(".type"):
            _change(given, name.split("."), value)
    for name in changes:
        _check(name, given)
    for name, value in changes.items():
        first, *rest = name.split(".")
        config[first] = _change(config.get(first), rest, value)


def _change(node: Any, parts: Sequence[str], value: Any) -> Any:
    """Return `node` with a new value at the place that `parts` name below it."""
    if not parts:
        return _merged(node, value)
    head, rest = parts[0], parts[1:]
    if isinstance(node, (list, tuple)):
        items = list(node)
        items[int(head)] = _change(items[int(head)], rest, value)
        return type(node)(items)
    node = ConfigDict() if node is None else node
    node[head] = _change(node.get(head), rest, value)
    return node


def _merged(old: Any, new: Any) -> Any:
    """Merge a dict into a dict; anything else takes the place of the old value."""
    if isinstance(new, Mapping) and isinstance(old, dict) and not new.get("_delete_"):
        for key, value in new.items():
            old[key] = _merged(old.get(key), value)
        return old
    if isinstance(new, Mapping):
        new = {key: value for key, value in new.items() if key != "_delete_"}
    return ConfigDict(value=new)["value"]


def _check(name: str, config: Mapping[str, Any]) -> None:
    node: Any = config
    done: list[str] = []
    for part in name.split("."):
        place = ".".join(done)
        if isinstance(node, (list, tuple)):
            node = _item(node, part, place)
        elif node is None or isinstance(node, Mapping):
            node = node or {}
            known = _known(done, node)
            if known is not None and part not in known and part not in node:
                raise ConfigError(_unknown(name, place, part, (*node, *known)))
            node = node.get(part)
        else:
            raise ConfigError(f"{place} is {node!r:.80} and has no parts, so there is no {name}")
        done.append(part)


def _item(items: Sequence[Any], part: str, place: str) -> Any:
    if not part.isdigit() or int(part) >= len(items):
        last = len(items) - 1
        raise ConfigError(f"{place} is a list, whose parts are 0 to {last}; got '{part}'")
    return items[int(part)]


def _unknown(name: str, place: str, part: str, known: Iterable[str]) -> str:
    known = list(dict.fromkeys(key for key in known if not key.startswith("_")))
    hint = did_you_mean(part, known) or f". There are: {', '.join(known) or 'none'}"
    return f"{place or 'The config'} has no '{part}', as in {name}{hint}"


def _known(done: Sequence[str], node: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names that a dict may have besides those that it has, or None where any will do."""
    from framework.config import FIELDS

    place, last = ".".join(done), done[-1] if done else ""
    if not done:
        return FIELDS
    if last in FREE:
        return None
    if last in ("pretrain", "load_from"):
        from framework.pretrain.spec import FIELDS as PRETRAIN_FIELDS

        return PRETRAIN_FIELDS
    if last in NAMES_OF:
        return NAMES_OF[last]
    if place == "default_hooks":
        return _default_hooks()
    if place in LOADERS:
        return _loader_arguments()
    return _arguments(done, node)


def _arguments(done: Sequence[str], node: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the arguments of the class that a dict describes; None where it takes any, or none is known."""
    import framework.registry as registries

    place = ".".join(done)
    kind = node.get("type") or _type_of(place, node)
    name = next((REGISTRY_OF[part] for part in reversed(done) if part in REGISTRY_OF), None)
    if kind is None:
        return () if node else None
    target = getattr(registries, name).get(kind) if name and isinstance(kind, str) else kind
    if not callable(target):
        return None
    parameters = inspect.signature(target).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    beside = (*BESIDE.get(place, ()), *BESIDE.get(name or "", ()))
    return (*(p.name for p in parameters), *beside, *EVERYWHERE)


def _type_of(place: str, node: Mapping[str, Any]) -> str | None:
    if place == "train_cfg":
        return (
            "EpochBasedTrainLoop" if node.get("by_epoch", "max_iters" not in node) else "IterBasedTrainLoop"
        )
    if place.startswith("default_hooks."):
        from framework.engine.runner import DEFAULT_HOOKS

        default = DEFAULT_HOOKS.get(place.split(".")[1])
        return str(default["type"]) if isinstance(default, Mapping) else None
    return TYPE_OF.get(place)


def _default_hooks() -> tuple[str, ...]:
    from framework.engine.runner import DEFAULT_HOOKS

    return tuple(DEFAULT_HOOKS)


def _loader_arguments() -> tuple[str, ...]:
    from torch.utils.data import DataLoader

    return ("total_batch_size", *inspect.signature(DataLoader).parameters)
