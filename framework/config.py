"""Reading a config file, and the changes that the command line makes to it."""

from __future__ import annotations

import ast
import json
import os
import tempfile
import traceback
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from framework.config_changes import change_config
from framework.errors import ConfigError, nearest

SUFFIXES = (".py", ".yaml", ".yml", ".json")

#: What a config may hold at its top.
FIELDS = (
    *("model", "data_preprocessor", "work_dir", "experiment_name", "default_scope", "custom_imports"),
    *("train_dataloader", "val_dataloader", "test_dataloader", "val_evaluator", "test_evaluator"),
    *("train_cfg", "val_cfg", "test_cfg", "optim_wrapper", "param_scheduler", "auto_scale_lr"),
    *("default_hooks", "custom_hooks", "env_cfg", "log_level", "log_processor", "visualizer"),
    *("load_from", "resume", "launcher", "randomness", "compile", "sync_bn", "find_unused_parameters"),
    *("model_wrapper_cfg", "activation_checkpointing", "efficient_conv_bn_eval", "channels_last"),
)


def load_config(path: str | os.PathLike[str], changes: Mapping[str, Any] | None = None) -> Config:
    """Read a config file with all that it inherits.

    A `.py` config is a program and is run, also where another config inherits it. A `.yaml` or `.json`
    config is data: nothing in it is run.

    Args:
        path: The file.
        changes: Dotted names and new values, such as `{'model.pretrain': 'weights.pth'}`; see
            `framework.config_changes.change_config`.

    Raises:
        ConfigError: No such file, not a config, no `model` in it, or a change to a name that exists nowhere.
    """
    config = read_config(path)
    change_config(config, changes or {})
    if config.get("model") is None:
        given = ", ".join(config) or "nothing"
        raise ConfigError(f"The config {find_config(path)} has no `model`. It has: {given}")
    return config


def read_config(path: str | os.PathLike[str]) -> Config:
    """Read a file of settings with all that it inherits, whatever it describes.

    Raises:
        ConfigError: No such file, or not one of settings.
    """
    file = find_config(path)
    check_sources(file)
    config = _read(file)
    vars(config)["_format_python_code"] = False  # to format what is logged takes long, and fails at functions
    return config


def _read(file: Path) -> Config:
    if not _runs_at_once(file):
        return _read_lazily(file)
    config = Config.fromfile(file, lazy_import=False)
    for name in [name for name, value in config.items() if isinstance(value, type)]:
        config.pop(name)  # imported, to be used below
    _name_types(config._cfg_dict)
    return config


def _read_lazily(file: Path) -> Config:
    """Read a config with `read_base`, whose imports mmengine replaces by names, which cannot be called."""
    try:
        return Config.fromfile(file)
    except RuntimeError as error:
        if str(error):
            raise
        *_, place, _ = traceback.extract_tb(error.__traceback__)
        raise ConfigError(
            f"{place.filename}, line {place.lineno}, calls what it has imported ({place.line}), which a "
            "config that is inherited with read_base() cannot: inherit it with _base_ = '...'"
        ) from error


def _name_types(node: Any) -> None:
    """Replace classes and functions by dotted names: registries look these up, and they can be saved."""
    for value in node.values() if isinstance(node, Mapping) else node:
        if isinstance(value, (Mapping, list, tuple)):
            _name_types(value)
    kind = node.get("type") if isinstance(node, Mapping) else None
    if callable(kind):
        node["type"] = f"{kind.__module__}.{kind.__qualname__}"


def find_config(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a config file, or raise an error that names its neighbours."""
    file = Path(path).expanduser().absolute()
    if file.suffix not in SUFFIXES:
        raise ConfigError(f"{file} is no config: the suffixes of configs are {', '.join(SUFFIXES)}")
    if file.is_file():
        return file
    folder = next(parent for parent in file.parents if parent.is_dir())
    there = {str(near.relative_to(folder)): near for near in folder.glob("**/*") if near.suffix in SUFFIXES}
    close = nearest(str(file.relative_to(folder)), there) or nearest(file.name, there)
    hint = f": did you mean {', '.join(str(there[name]) for name in close)}?" if close else ""
    raise ConfigError(f"There is no config {file}{hint}")


def check_sources(file: Path) -> None:
    """Refuse YAML with tags that would create Python objects, in a config or in anything that it inherits.

    mmengine reads YAML with a loader that runs what such tags name. What is looked at is the text that it
    reads: with its `{{...}}` replaced.

    Raises:
        ConfigError: Such a tag, a text that is no config, or an inherited config that is not there.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, f"config{file.suffix}")
        Config._substitute_predefined_vars(str(file), str(copy))
        Config._substitute_env_variables(str(copy), str(copy))
        Config._pre_substitute_base_vars(str(copy), str(copy))
        bases = _bases_of(file, copy)
    for base in [bases] if isinstance(bases, str) else bases:
        if "::" not in base:
            check_sources(find_config(file.parent / base))
        elif find_spec("pkg_resources") is None:
            raise ConfigError(
                f"{file} inherits {base}, a config of a package: mmengine finds it with pkg_resources, "
                f"which setuptools 81 and later do not have. Write its path, or install setuptools<81"
            )


def _bases_of(file: Path, copy: Path) -> str | list[str]:
    """Return what a config inherits, as the copy of it says that mmengine would read."""
    text = copy.read_text(encoding="utf-8")
    try:
        if file.suffix == ".py":
            ast.parse(text)
            return Config._get_base_files(str(copy))
        values = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except SyntaxError as error:
        raise ConfigError(f"{file}, line {error.lineno}: {error.msg}") from error
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        kind = "JSON" if file.suffix == ".json" else "plain YAML"
        raise ConfigError(f"{file} is not a {kind} config: {error}") from error
    if not isinstance(values, Mapping):
        raise ConfigError(f"{file} must hold names and values, got {type(values).__name__}")
    return values.get("_base_", [])


def without_pretrain(part: Any) -> Any:
    """Copy a model config without the weights that it names, at any depth."""
    if isinstance(part, Mapping):
        kept = {key: without_pretrain(value) for key, value in part.items() if key != "pretrain"}
        return {key: value for key, value in kept.items() if not is_pretrained_init(value)}
    if isinstance(part, (list, tuple)):
        return type(part)(without_pretrain(item) for item in part if not is_pretrained_init(item))
    return part


def is_pretrained_init(init: Any) -> bool:
    """Tell whether a part of a config is mmengine's way to name weights."""
    return isinstance(init, Mapping) and init.get("type") in ("Pretrained", "PretrainedInit")


def _runs_at_once(file: Path) -> bool:
    """Tell whether a file is a program without `read_base`, which mmengine has a way of its own to run."""
    return file.suffix == ".py" and "read_base" not in file.read_text(encoding="utf-8")
