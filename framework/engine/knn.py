"""From a config to the accuracy of nearest neighbours on the features of its model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from torch import Tensor, nn
from torch.utils.data import DataLoader

from framework.apis import get_model
from framework.config import load_config
from framework.engine.dataloader import build_dataloader
from framework.errors import ConfigError
from framework.evaluation.knn import knn_accuracy


def evaluate_knn(
    config: str | Path,
    checkpoint: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    k: int = 20,
    temperature: float = 0.07,
) -> dict[str, float]:
    """Classify the test images of a config by their nearest training images.

    The features are those of the frozen backbone, and the neck's if the model is a classifier with one. The
    training images get the transforms of the test images.

    Args:
        config: A config with `model`, `train_dataloader` and `test_dataloader` (or `val_dataloader`).
        checkpoint: Weights for the model, in any form that `pretrain` takes. Default: those that the config
            names.
        changes: Dotted names of the config and new values.
        k: See `knn_accuracy`.
        temperature: See `knn_accuracy`.

    Returns:
        `knn/top1` and `knn/top5`, between 0 and 1.

    Raises:
        ConfigError: The config lacks a part, or the features are no vectors.
        PretrainError: Weights cannot be had, or do not fit.
    """
    cfg = load_config(config, changes)
    test = cfg.get("test_dataloader") or cfg.get("val_dataloader")
    if test is None or cfg.get("train_dataloader") is None:
        raise ConfigError(f"{config} needs train_dataloader, and test_dataloader or val_dataloader")
    dataset = {**cfg.train_dataloader.dataset, "pipeline": test.dataset.get("pipeline", [])}
    model = get_model(cfg.model, True if checkpoint is None else str(checkpoint)).to(get_device())
    train_loader = build_dataloader({**test, "dataset": dataset}, 0)
    bank, queries = (extract_features(model, loader) for loader in (train_loader, build_dataloader(test, 0)))
    accuracy = knn_accuracy(bank, queries, k, temperature)
    return {f"knn/{name}": value for name, value in accuracy.items()}


@torch.no_grad()
def extract_features(model: Any, loader: DataLoader[Any]) -> tuple[Tensor, Tensor]:
    """Return features (images, channels) and labels (images,) of all images of a loader, on the CPU.

    Args:
        model: A model with `extract_feat` and a data preprocessor. It is put into evaluation mode.
        loader: Gives `inputs` and `labels`.

    Raises:
        ConfigError: The features are no vectors, one per image, nor maps, which are averaged.
    """
    model.eval()
    features, labels = [], []
    for batch in loader:
        prepared = model.data_preprocessor(batch, False)
        features.append(_vectors(model.extract_feat(prepared["inputs"]), model).cpu())
        labelled = prepared if "labels" in prepared else prepared["data_samples"]  # of self-supervised models
        labels.append(torch.as_tensor(labelled["labels"]).cpu())
    return torch.cat(features), torch.cat(labels)


def _vectors(features: Any, model: nn.Module) -> Tensor:
    found = features[-1] if isinstance(features, list | tuple) else features
    if isinstance(found, Tensor) and found.ndim == 4:
        return found.mean((2, 3))
    if isinstance(found, Tensor) and found.ndim == 2:
        return found
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    raise ConfigError(
        f"The features of {type(model).__name__} are {shape}; neighbours need a vector for each image: "
        f"set model.backbone.out_type to cls_token or avg_featmap, or add a neck"
    )
