"""The head of MoCo v3."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_gather, get_rank
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from framework.models.heads.cls_head import InitCfg
from framework.models.layers.precision import as_it_is, at_least_single
from framework.registry import HEADS, LOSSES, NECKS


@HEADS.register_module()
class MoCoV3Head(BaseModule):
    """Finds the other view of an image among those of the batches of all processes.

    Source: An Empirical Study of Training Self-Supervised Vision Transformers,
        https://arxiv.org/abs/2104.02057, equation 1 and algorithm 1.

    Args:
        predictor: Config of the predictor, a neck, or the neck.
        loss: Config of the loss of the classification, or the loss. The paper's has the weight
            `2 * temperature`.
        temperature: What similarities are divided by.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
    """

    def __init__(
        self,
        predictor: dict[str, Any] | nn.Module,
        loss: dict[str, Any] | nn.Module,
        temperature: float = 1.0,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        self.predictor = predictor if isinstance(predictor, nn.Module) else NECKS.build(predictor)
        self.loss_module = loss if isinstance(loss, nn.Module) else LOSSES.build(loss)
        self.temperature = temperature

    def loss(self, base_out: Tensor, momentum_out: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            base_out: What the projector gives for a view (batch, channels).
            momentum_out: What the teacher's gives for the other view (batch, channels); no gradient flows
                there. Batches of the same size in all processes.
        """
        prediction = self.predictor([base_out])
        prediction = prediction if isinstance(prediction, Tensor) else prediction[-1]
        queries = functional.normalize(at_least_single(prediction), dim=1)
        keys = torch.cat(all_gather(functional.normalize(at_least_single(momentum_out.detach()), dim=1)))
        with as_it_is(queries):
            logits = queries @ keys.T / self.temperature
        own = len(queries) * get_rank() + torch.arange(len(queries), device=queries.device)
        return self.loss_module(logits, own)
