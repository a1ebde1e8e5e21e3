"""The models. Importing this package fills the registries."""

import framework.lean_import  # noqa: F401  # isort: skip  # before any import of mmengine.optim
from framework.models import backbones, classifiers, heads, layers, losses, necks, selfsup
from framework.registry import BACKBONES, HEADS, LOSSES, MODELS, NECKS

__all__ = [
    "BACKBONES",
    "HEADS",
    "LOSSES",
    "MODELS",
    "NECKS",
    "backbones",
    "classifiers",
    "heads",
    "layers",
    "losses",
    "necks",
    "selfsup",
]
