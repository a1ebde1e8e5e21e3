"""Vision models from dicts, with declarative pretrained weights.

The public names are imported when they are first used, so that `import framework` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framework.apis import get_model, list_models
    from framework.errors import ConfigError
    from framework.pretrain import LoadReport, PretrainError, load_pretrained, plan_pretrained
    from framework.registry import (
        BACKBONES,
        DATASETS,
        HEADS,
        HOOKS,
        LOSSES,
        METRICS,
        MODELS,
        NECKS,
        RUNNERS,
        TRANSFORMS,
    )

__version__ = "0.1.0"

_HOME = {
    "framework.registry": [
        *["MODELS", "BACKBONES", "NECKS", "HEADS", "LOSSES"],
        *["DATASETS", "TRANSFORMS", "METRICS", "HOOKS", "RUNNERS"],
    ],
    "framework.apis": ["get_model", "list_models"],
    "framework.pretrain": ["load_pretrained", "plan_pretrained", "LoadReport", "PretrainError"],
    "framework.errors": ["ConfigError"],
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "BACKBONES",
    "DATASETS",
    "HEADS",
    "HOOKS",
    "LOSSES",
    "METRICS",
    "MODELS",
    "NECKS",
    "RUNNERS",
    "TRANSFORMS",
    "ConfigError",
    "LoadReport",
    "PretrainError",
    "get_model",
    "list_models",
    "load_pretrained",
    "plan_pretrained",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'framework' has no attribute '{name}'. It has: {', '.join(__all__)}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
