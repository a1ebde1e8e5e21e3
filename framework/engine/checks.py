"""What can be wrong in a run before its first iteration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.registry import PARAM_SCHEDULERS

from framework.errors import ConfigError, did_you_mean

#: Fields that a config has together or not at all.
TOGETHER = (
    ("train_dataloader", "train_cfg", "optim_wrapper"),
    ("val_dataloader", "val_cfg", "val_evaluator"),
    ("test_dataloader", "test_cfg", "test_evaluator"),
)


def check_fields(given: Mapping[str, Any]) -> None:
    """Refuse the fields of a run that lack others.

    Raises:
        ConfigError: Names what is missing.
    """
    for names in TOGETHER:
        missing = [name for name in names if given.get(name) is None]
        if 0 < len(missing) < len(names):
            there = ", ".join(name for name in names if name not in missing)
            raise ConfigError(f"The config has {there}, and lacks {', '.join(missing)}: they go together")


def check_schedulers(config: Any) -> None:
    """Refuse schedulers of unknown types.

    Raises:
        ConfigError: Names the nearest types.
    """
    groups = config.values() if isinstance(config, Mapping) and "type" not in config else [config]
    for group in groups:
        for one in group if isinstance(group, (list, tuple)) else [group]:
            kind = one.get("type") if isinstance(one, Mapping) else None
            if isinstance(kind, str) and PARAM_SCHEDULERS.get(kind) is None:
                hint = did_you_mean(kind, PARAM_SCHEDULERS.module_dict)
                raise ConfigError(f"param_scheduler: there is no scheduler called '{kind}'{hint}")


def check_classes(model: Any, dataset: Any) -> None:
    """Refuse labels that a classifier has no output for; a GPU's own message would not say so.

    Raises:
        ConfigError: The data have more classes than the head.
    """
    outputs = getattr(getattr(model, "head", None), "num_classes", None)
    classes = (getattr(dataset, "metainfo", None) or {}).get("classes")
    if isinstance(outputs, int) and classes is not None and len(classes) > outputs:
        data = type(getattr(dataset, "dataset", dataset)).__name__
        raise ConfigError(f"{data} has {len(classes)} classes, and model.head.num_classes is {outputs}")
