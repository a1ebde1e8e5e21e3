"""The registries, and the one function that turns a config dict into an object.

Free of torch at import. The registries hang below mmengine's root registries under the scope `framework`, so
`framework.ResNet` is known to every OpenMMLab project, and their types are known here. Unlike mmengine's own,
a build here does not depend on the default scope: the class is looked up first, in a fixed order.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from importlib import import_module
from typing import Any

from mmengine import registry as mm
from mmengine.config import ConfigDict
from mmengine.utils import ManagerMixin

from framework.config import is_pretrained_init
from framework.errors import ConfigError, did_you_mean

SCOPE = "framework"

#: Scopes whose names of types are also ours, for configs that write `mmpretrain.ResNet`.
RELATED = ("mmpretrain", "mmcls", "mmselfsup")

#: Parts of the configs that are being built, as (dict, its path from the root), innermost build last.
_PARTS: ContextVar[tuple[tuple[Mapping[str, Any], str], ...]] = ContextVar("parts", default=())


class Registry(mm.Registry):
    """A table of buildable classes that finds them itself and builds the same under every default scope.

    A name is looked for in this registry, in its children, in its parents (and their children), in mmengine's
    root, and last in the current default scope of mmengine.

    Args:
        name: What it holds, in the singular (`'backbone'`): the first word of config paths in errors.
        parent: The registry above.
        scope: Unique among the parent's children.
        location: The module whose import registers the classes; imported at the first look-up.
    """

    def __init__(self, name: str, parent: mm.Registry, scope: str, location: str) -> None:
        super().__init__(name, build_func=build, parent=parent, scope=scope, locations=[location])

    def get(self, key: str) -> Any:
        """Return the class registered as `key`, or None."""
        import_module(self._locations[0])
        scope, name = self.split_scope_key(key)
        if scope in (None, SCOPE, self.scope):
            found = self._family(name)
            if found is not None:
                return found
        return _foreign(self._get_root_registry(), key)

    def names(self) -> list[str]:
        """Return every name that this registry and its children hold, sorted."""
        import_module(self._locations[0])
        below = (name for child in self.children.values() for name in child.names())
        return sorted({*self.module_dict, *below})

    def _family(self, name: str) -> Any:
        """Look in this registry, below it, then above it."""
        found = self._below(name)
        if found is None and isinstance(self.parent, Registry):
            found = self.parent._family(name)
        return found

    def _below(self, name: str) -> Any:
        if name in self.module_dict:
            return self.module_dict[name]
        return next((hit for c in self.children.values() if (hit := c._below(name)) is not None), None)


def _foreign(root: mm.Registry, key: str) -> Any:
    """Look for `key` in mmengine's root, as a dotted or scoped name, and in the current default scope."""
    if key in root.module_dict:
        return root.module_dict[key]
    current = mm.DefaultScope.get_current_instance()
    scoped = [key] if "." in key else []
    if current is not None and current.scope_name not in (SCOPE, "mmengine"):
        scoped.append(f"{current.scope_name}.{key}")
    for candidate in scoped:
        with contextlib.suppress(RuntimeError):  # mmengine's way to say: not found
            return mm.Registry.get(root, candidate)
    return None


def build(cfg: Any, *args: Any, registry: mm.Registry, **kwargs: Any) -> Any:
    """Build an object from a config dict. This is what `REGISTRY.build(cfg)` calls.

    Args:
        cfg: A dict with `type` (a registered name or a class) and the arguments of that class. It is not
            changed. For models, a list of such dicts gives a `torch.nn.Sequential`, and `pretrain` (or
            mmengine's `init_cfg=dict(type='Pretrained', ...)`) names the weights to start from;
            `frozen=True` builds a module that does not learn.
        *args: For mmengine's own build functions.
        registry: Where to look the type up.
        **kwargs: `default_args`, as in mmengine: arguments for what `cfg` leaves out.

    Returns:
        The object.

    Raises:
        ConfigError: An unknown type or argument, or a missing one, with its place in the config.
        PretrainError: The weights that `pretrain` names cannot be had or do not fit.
    """
    default_build = registry._get_root_registry().build_func
    if default_build not in (mm.build_from_cfg, mm.build_model_from_cfg):
        resolved = {**cfg, "type": _resolve(cfg["type"], registry, registry.name)} if "type" in cfg else cfg
        return default_build(resolved, *args, registry=registry, **kwargs)
    if isinstance(cfg, (list, tuple)) and registry._get_root_registry() is mm.MODELS:
        from torch import nn

        token = _PARTS.set((*_parts(cfg, registry.name), *_PARTS.get()))
        try:
            return nn.Sequential(*[registry.build(part) for part in cfg])
        finally:
            _PARTS.reset(token)
    path = _path_of(cfg, registry)
    arguments = {**dict(kwargs.get("default_args") or {}), **_checked(cfg, path)}
    name, scope = arguments.pop("type", None), arguments.pop("_scope_", None)
    target = _resolve(f"{scope}.{name}" if scope and isinstance(name, str) else name, registry, path)
    arguments = _copy(arguments)
    if registry._get_root_registry() is mm.MODELS:
        return _build_model(target, arguments, path)
    return _construct(target, arguments, path)


def _checked(cfg: Any, path: str) -> dict[str, Any]:
    if not isinstance(cfg, Mapping):
        raise ConfigError(f"{path}: expected a dict with `type`, got {type(cfg).__name__}: {cfg!r:.80}")
    return dict(cfg.items())


def _resolve(name: Any, registry: mm.Registry, path: str) -> Any:
    """Return the class for `name`; a class or function stands for itself."""
    if name is None:
        raise ConfigError(f"{path}: the dict has no `type`. Add type='...', one of {registry.names()}")
    if not isinstance(name, str):
        if callable(name):
            return name
        raise ConfigError(f"{path}.type: expected a name or a class, got {type(name).__name__}: {name!r:.80}")
    found = registry.get(name)
    scope, _, bare = name.partition(".")
    if found is None and scope in RELATED:
        found = registry.get(bare)
    if found is None:
        names = [*registry.names(), *registry._get_root_registry().module_dict]
        hint = did_you_mean(name.split(".")[-1], names) or f". Known here: {', '.join(names)}"
        raise ConfigError(f"{path}.type: there is no {registry.name} called '{name}'{hint}")
    return found


def _path_of(cfg: Any, registry: mm.Registry) -> str:
    """Return where `cfg` stands in the config being built, e.g. 'model.backbone'."""
    parts = _PARTS.get()
    for part, path in reversed(parts):
        if part is cfg:
            return path
    if isinstance(cfg, Mapping):  # a constructor may have copied its part
        for part, path in reversed(parts):
            if part.keys() == cfg.keys() and part.get("type") == cfg.get("type"):
                return path
    return registry.name


def _copy(value: Any) -> Any:
    """Copy the containers of a config; what is in them stays the same object."""
    if isinstance(value, Mapping):
        copied = {key: _copy(item) for key, item in value.items()}
        return ConfigDict(copied) if isinstance(value, ConfigDict) else copied
    if type(value) in (list, tuple):
        return type(value)(_copy(item) for item in value)
    return value


def _build_model(target: Any, arguments: dict[str, Any], path: str) -> Any:
    """Construct a module; where the config says so, load its weights and freeze it afterwards."""
    frozen = _take_frozen(target, arguments, path)
    pretrain = _take_pretrain(target, arguments, path)
    if pretrain is None and not _names_weights(arguments):
        module = _construct(target, arguments, path)
    else:
        from framework.pretrain.nested import build_nested  # needs torch

        module = build_nested(lambda: _construct(target, arguments, path), pretrain, f"{path}.pretrain")
    if frozen:
        from framework.models.frozen import freeze

        freeze(module, f"{path}.frozen")
    return module


def _take_frozen(target: Any, arguments: dict[str, Any], path: str) -> bool:
    """Take the `frozen` field out of `arguments`, unless the class has an argument of that name."""
    if "frozen" not in arguments or "frozen" in _parameters(target):
        return False
    frozen = arguments.pop("frozen")
    if not isinstance(frozen, bool):
        raise ConfigError(f"{path}.frozen: expected True or False, got {frozen!r:.80}")
    return frozen


def _take_pretrain(target: Any, arguments: dict[str, Any], path: str) -> Any:
    """Take the `pretrain` field, or mmengine's spelling of it, out of `arguments`."""
    pretrain = arguments.pop("pretrain", None)
    init_cfg = arguments.get("init_cfg")
    inits: list[Any] = init_cfg if isinstance(init_cfg, list) else [init_cfg]
    pretrained = [init for init in inits if is_pretrained_init(init)]
    if not pretrained or "checkpoint" not in pretrained[0]:
        return pretrain
    if pretrain is not None:
        raise ConfigError(f"{path}: both `pretrain` and `init_cfg` name weights. Keep one of them")
    rest = [init for init in inits if init is not pretrained[0]]
    arguments["init_cfg"] = rest or None
    if not rest and "init_cfg" not in _parameters(target):
        del arguments["init_cfg"]
    return {
        "path": pretrained[0]["checkpoint"],
        "sub_level": (pretrained[0].get("prefix") or "").rstrip(".") or None,
        "url_mapping": pretrained[0].get("url_mapping"),
    }


def _names_weights(value: Any) -> bool:
    """Tell whether some part of a config has weights to load."""
    if isinstance(value, Mapping):
        if value.get("pretrain") is not None or is_pretrained_init(value):
            return True
        return any(_names_weights(item) for item in value.values())
    return isinstance(value, (list, tuple)) and any(_names_weights(item) for item in value)


def _construct(target: Any, arguments: dict[str, Any], path: str) -> Any:
    """Call the class, its parts known by their place in the config."""
    _check_arguments(target, arguments, path)
    parts = _PARTS.get() + tuple(_parts(arguments, path))
    token = _PARTS.set(parts)
    try:
        if inspect.isclass(target) and issubclass(target, ManagerMixin):
            return target.get_instance(**arguments)  # type: ignore[attr-defined]
        return target(**arguments)
    finally:
        _PARTS.reset(token)


def _parts(value: Any, path: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, Mapping):
                yield item, f"{path}.{key}"
            yield from _parts(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if isinstance(item, Mapping):
                yield item, f"{path}[{index}]"
            yield from _parts(item, f"{path}[{index}]")


def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    torch = sys.modules.get("torch")
    if torch is not None and inspect.isclass(target) and target.__init__ is torch.nn.Module.__init__:
        return {}  # nn.Module's own constructor takes nothing, whatever its signature says
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):  # written in C, without a signature
        return {"kwargs": inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)}


def _check_arguments(target: Any, arguments: Mapping[str, Any], path: str) -> None:
    """Compare argument names with the signature, so that the error can name the place in the config."""
    parameters = _parameters(target)
    name = getattr(target, "__name__", repr(target))
    named = [p for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    accepted = [p.name for p in named]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for argument in arguments:
            if argument not in accepted:
                hint = did_you_mean(str(argument), accepted) or " is not an argument."
                raise ConfigError(
                    f"{path}.{argument}{hint} {name} accepts: {', '.join(accepted) or 'nothing'}"
                )
    missing = [p.name for p in named if p.default is p.empty and p.name not in arguments]
    if missing:
        raise ConfigError(
            f"{path}: {name} needs {', '.join(missing)}. It got: {', '.join(arguments) or 'nothing'}"
        )


def _below(root: mm.Registry, location: str) -> Registry:
    """Make our registry below one of mmengine's roots."""
    return Registry(root.name, parent=root, scope=SCOPE, location=f"{SCOPE}.{location}")


MODELS = _below(mm.MODELS, "models")
BACKBONES = Registry("backbone", parent=MODELS, scope="framework_backbones", location="framework.models")
NECKS = Registry("neck", parent=MODELS, scope="framework_necks", location="framework.models")
HEADS = Registry("head", parent=MODELS, scope="framework_heads", location="framework.models")
LOSSES = Registry("loss", parent=MODELS, scope="framework_losses", location="framework.models")

DATASETS = _below(mm.DATASETS, "datasets")
DATA_SAMPLERS = _below(mm.DATA_SAMPLERS, "datasets")
TRANSFORMS = _below(mm.TRANSFORMS, "transforms")

METRICS = _below(mm.METRICS, "evaluation")
EVALUATOR = _below(mm.EVALUATOR, "evaluation")

RUNNERS = _below(mm.RUNNERS, "engine")
LOOPS = _below(mm.LOOPS, "engine")
HOOKS = _below(mm.HOOKS, "engine")
STRATEGIES = _below(mm.STRATEGIES, "engine")
OPTIMIZERS = _below(mm.OPTIMIZERS, "engine")
OPTIM_WRAPPERS = _below(mm.OPTIM_WRAPPERS, "engine")
OPTIM_WRAPPER_CONSTRUCTORS = _below(mm.OPTIM_WRAPPER_CONSTRUCTORS, "engine")
PARAM_SCHEDULERS = _below(mm.PARAM_SCHEDULERS, "engine")
LOG_PROCESSORS = _below(mm.LOG_PROCESSORS, "engine")
MODEL_WRAPPERS = _below(mm.MODEL_WRAPPERS, "engine")
WEIGHT_INITIALIZERS = _below(mm.WEIGHT_INITIALIZERS, "engine")
TASK_UTILS = _below(mm.TASK_UTILS, "engine")
VISUALIZERS = _below(mm.VISUALIZERS, "engine")
VISBACKENDS = _below(mm.VISBACKENDS, "engine")
FUNCTIONS = _below(mm.FUNCTIONS, "engine")
INFERENCERS = _below(mm.INFERENCERS, "engine")
