"""Declarative pretrained weights: from the `pretrain` field to values in a module and a report.

The public names are imported when they are first used: the errors and the check of the field need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framework.pretrain.errors import PretrainError
    from framework.pretrain.guard import protect_loaded
    from framework.pretrain.load import load_pretrained, plan_pretrained
    from framework.pretrain.report import LoadReport
    from framework.pretrain.spec import PretrainSpec, parse_spec
    from framework.pretrain.translate import export

_MODULE_OF = {
    "LoadReport": "report",
    "PretrainError": "errors",
    "PretrainSpec": "spec",
    "export": "translate",
    "load_pretrained": "load",
    "parse_spec": "spec",
    "plan_pretrained": "load",
    "protect_loaded": "guard",
}

__all__ = [
    "LoadReport",
    "PretrainError",
    "PretrainSpec",
    "export",
    "load_pretrained",
    "parse_spec",
    "plan_pretrained",
    "protect_loaded",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'. It has: {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
