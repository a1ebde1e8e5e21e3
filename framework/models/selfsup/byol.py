"""BYOL."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from framework.models.selfsup.base import BaseSelfSupervisor, InitCfg, Part, check_views, last
from framework.models.selfsup.collapse import embedding_std
from framework.models.selfsup.momentum import CosineEMA
from framework.registry import MODELS


@MODELS.register_module()
class BYOL(BaseSelfSupervisor):
    """A network predicts from one view what its teacher makes of the other view.

    Source: Bootstrap Your Own Latent, https://arxiv.org/abs/2006.07733, equation 2. The loss is the paper's
    less the constant 4.

    Args:
        backbone: Config of the backbone, or the backbone.
        neck: Config of the projector, or the projector.
        head: Config of the head, a `LatentPredictHead`, or the head.
        base_momentum: Share of the new weights in the first update of the teacher: 1 - the paper's momentum.
            It goes to 0 along half a cosine.
        data_preprocessor: See `BaseSelfSupervisor`.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Attributes:
        target_net: The teacher of backbone and projector.

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
        self.target_net = CosineEMA(nn.Sequential(self.backbone, self.neck), base_momentum)

    def loss(self, inputs: Any, data_samples: Any = None) -> dict[str, Tensor]:
        """Return `loss`, from -4 to 4, and `embedding_std`.

        Args:
            inputs: Two views, each (batch, channels, height, width).
            data_samples: Of no account.
        """
        views = check_views(inputs, 2, "BYOL")
        first, second = [self.embed(view) for view in views]
        self.update_teacher("target_net", nn.Sequential(self.backbone, self.neck))
        with torch.no_grad():
            first_target, second_target = [last(self.target_net(view)) for view in views]
        loss = 2 * (self.head.loss(first, second_target) + self.head.loss(second, first_target))
        return {"loss": loss, "embedding_std": embedding_std(first)}
