"""DINO."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from framework.models.selfsup.base import BaseSelfSupervisor, InitCfg, Part, check_views, last
from framework.models.selfsup.collapse import embedding_std, prototype_entropy
from framework.models.selfsup.momentum import CosineEMA
from framework.registry import MODELS


@MODELS.register_module()
class DINO(BaseSelfSupervisor):
    """A network learns from small views of an image what its teacher makes of large ones, without labels.

    Nothing is dropped at random in the teacher; its batch normalisation, if it has any, is that of training.
    Checkpoints of the official code (the full ones, with a Vision Transformer) and of mmpretrain go on
    training here by the path alone, teacher and centre included.

    Source: Emerging Properties in Self-Supervised Vision Transformers, https://arxiv.org/abs/2104.14294.

    Args:
        backbone: Config of the backbone, or the backbone.
        neck: Config of the projector, a `DINONeck`, or the projector.
        head: Config of the head, a `DINOHead`, or the head.
        base_momentum: Share of the new weights in the first update of the teacher: 1 - the paper's momentum.
            It goes to 0 along half a cosine.
        data_preprocessor: See `BaseSelfSupervisor`.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Attributes:
        teacher: The teacher of backbone and projector.

    Raises:
        ConfigError: A part cannot be built.
    """

    def __init__(
        self,
        backbone: Part,
        neck: Part,
        head: Part,
        base_momentum: float = 0.004,
        data_preprocessor: Part | None = None,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(backbone, neck, head, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.teacher = CosineEMA(nn.Sequential(self.backbone, self.neck), base_momentum)
        self.train(self.training)

    def train(self, mode: bool = True) -> DINO:
        """Set training mode, except for what drops something at random in the teacher."""
        super().train(mode)
        for module in self.teacher.modules() if "teacher" in self._modules else ():
            module.training = mode and isinstance(module, _BatchNorm)
        return self

    def loss(self, inputs: Any, data_samples: Any = None) -> dict[str, Tensor]:
        """Return `loss`, `embedding_std` and `prototype_entropy`.

        Args:
            inputs: Views, each (batch, channels, height, width), as many as the head's `num_crops`; the
                first two are the teacher's, and those of one size stand together. Batches have the same size
                in all processes.
            data_samples: Of no account.
        """
        views = check_views(inputs, self.head.num_crops, "DINO")
        features = torch.cat([last(self.backbone(batch)) for batch in by_size(views)])
        self.update_teacher("teacher", nn.Sequential(self.backbone, self.neck))
        with torch.no_grad():
            targets = torch.cat([last(self.teacher(batch)) for batch in by_size(views[:2])])
        loss = self.head.loss(last(self.neck(features)), targets)
        return {
            "loss": loss,
            "embedding_std": embedding_std(features[: len(views[0])].flatten(1)),
            "prototype_entropy": prototype_entropy(self.head.assignments),
        }


def by_size(views: list[Tensor]) -> list[Tensor]:
    """Join views of one size that stand together to one batch."""
    return [torch.cat(list(group)) for _, group in groupby(views, key=lambda view: view.shape[-2:])]
