"""Self-supervised methods: learning from images without labels."""

from framework.models.selfsup.base import BaseSelfSupervisor, built, check_views, last
from framework.models.selfsup.collapse import embedding_std, prototype_entropy
from framework.models.selfsup.data_preprocessor import SelfSupDataPreprocessor
from framework.models.selfsup.mae import MAE, MAEViT
from framework.models.selfsup.momentum import CosineEMA

__all__ = [
    "MAE",
    "BaseSelfSupervisor",
    "CosineEMA",
    "MAEViT",
    "SelfSupDataPreprocessor",
    "built",
    "check_views",
    "embedding_std",
    "last",
    "prototype_entropy",
]
