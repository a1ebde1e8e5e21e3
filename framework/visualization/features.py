"""Frozen features in two dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framework.errors import ConfigError

METHODS = ("pca", "tsne")

#: The fewest images that either method can place.
LEAST = 3


@torch.no_grad()
def features_of(model: Any, batches: Iterable[Tensor]) -> Tensor:
    """Return a feature vector for each image (images, channels), on the CPU.

    Maps and the patch tokens of a Vision Transformer are averaged.

    Args:
        model: A model with `extract_feat` and a data preprocessor. It is put into evaluation mode.
        batches: Images (batch, channels, height, width), as they come from the dataset.

    Raises:
        ConfigError: The features are none of these.
    """
    model.eval()
    prepared = (model.data_preprocessor({"inputs": images}, False)["inputs"] for images in batches)
    return torch.cat([_vectors(model.extract_feat(inputs), model).float().cpu() for inputs in prepared])


def _vectors(features: Any, model: Any) -> Tensor:
    found = features[-1] if isinstance(features, list | tuple) else features
    dims = found.ndim if isinstance(found, Tensor) else 0
    if dims == 2:
        return found
    if dims == 3:  # tokens
        return found[:, getattr(model.backbone, "num_prefix_tokens", 0) :].mean(1)
    if dims == 4:
        return found.mean((2, 3))
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    raise ConfigError(
        f"The features of {type(model).__name__} are {shape}; a scatter needs a vector for each image: set "
        f"model.backbone.out_type to cls_token or avg_featmap"
    )


def project(features: Tensor, method: str = "pca", seed: int = 0) -> tuple[np.ndarray, str]:
    """Place features in two dimensions.

    Args:
        features: (images, channels).
        method: `pca`, the two directions of the largest variance, or `tsne`, which keeps neighbours together
            (van der Maaten and Hinton, https://jmlr.org/papers/v9/vandermaaten08a.html), started from PCA.
        seed: Seed of t-SNE.

    Returns:
        Places (images, 2), and a sentence about them.

    Raises:
        ConfigError: There is no such method, or there are too few images or channels.
    """
    if method not in METHODS:
        raise ConfigError(f"there is no method {method!r}: accepted are {', '.join(METHODS)}")
    if len(features) < LEAST or features.shape[1] < 2:
        raise ConfigError(
            f"{len(features)} images with {features.shape[1]} features each cannot be placed in two "
            f"dimensions: expected are at least {LEAST} images and 2 features"
        )
    values = features.double().numpy()
    return _pca(values) if method == "pca" else _tsne(values, seed)


def _pca(values: np.ndarray) -> tuple[np.ndarray, str]:
    from sklearn.decomposition import PCA  # a second

    pca = PCA(n_components=2, svd_solver="full")
    places = pca.fit_transform(values)
    return places, f"{pca.explained_variance_ratio_.sum():.0%} of the variance"


def _tsne(values: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(values) - 1) / 3)
    places = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(values)
    return places, f"perplexity {perplexity:.3g}"
