"""Self-supervised methods: learning from images without labels."""

from framework.models.selfsup.barlowtwins import BarlowTwins
from framework.models.selfsup.base import BaseSelfSupervisor, built, check_views, last
from framework.models.selfsup.byol import BYOL
from framework.models.selfsup.collapse import embedding_std, prototype_entropy
from framework.models.selfsup.data_preprocessor import SelfSupDataPreprocessor
from framework.models.selfsup.dino import DINO
from framework.models.selfsup.mae import MAE, MAEViT
from framework.models.selfsup.moco import MoCo
from framework.models.selfsup.mocov3 import MoCoV3, MoCoV3ViT
from framework.models.selfsup.momentum import CosineEMA
from framework.models.selfsup.simclr import SimCLR
from framework.models.selfsup.simmim import SimMIM, SimMIMBEiTViT, SimMIMSwinTransformer, SimMIMViT
from framework.models.selfsup.simsiam import SimSiam
from framework.models.selfsup.swav import SwAV

__all__ = [
    "BYOL",
    "DINO",
    "MAE",
    "BarlowTwins",
    "BaseSelfSupervisor",
    "CosineEMA",
    "MAEViT",
    "MoCo",
    "MoCoV3",
    "MoCoV3ViT",
    "SelfSupDataPreprocessor",
    "SimCLR",
    "SimMIM",
    "SimMIMBEiTViT",
    "SimMIMSwinTransformer",
    "SimMIMViT",
    "SimSiam",
    "SwAV",
    "built",
    "check_views",
    "embedding_std",
    "last",
    "prototype_entropy",
]
