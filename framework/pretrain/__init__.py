"""Declarative pretrained weights: from the `pretrain` field to values in a module and a report."""

from __future__ import annotations

from framework.pretrain.errors import PretrainError
from framework.pretrain.load import load_pretrained, plan_pretrained, protect_loaded
from framework.pretrain.report import LoadReport
from framework.pretrain.spec import PretrainSpec, parse_spec

__all__ = [
    "LoadReport",
    "PretrainError",
    "PretrainSpec",
    "load_pretrained",
    "parse_spec",
    "plan_pretrained",
    "protect_loaded",
]
