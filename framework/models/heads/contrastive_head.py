"""The head of contrastive methods."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from framework.models.heads.cls_head import InitCfg
from framework.models.layers.precision import at_least_single
from framework.registry import HEADS, LOSSES


@HEADS.register_module()
class ContrastiveHead(BaseModule):
    """Finds the positive among negatives: InfoNCE, a classification by similarity.

    Source: Representation Learning with Contrastive Predictive Coding, https://arxiv.org/abs/1807.03748,
        equation 4.

    Args:
        loss: Config of the loss of the classification, or the loss.
        temperature: What similarities are divided by.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
    """

    def __init__(
        self, loss: dict[str, Any] | nn.Module, temperature: float = 0.1, init_cfg: InitCfg = None
    ) -> None:
        super().__init__(init_cfg)
        self.loss_module = loss if isinstance(loss, nn.Module) else LOSSES.build(loss)
        self.temperature = temperature

    def loss(self, pos: Tensor, neg: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            pos: Similarities with the positives (batch, 1).
            neg: Similarities with the negatives (batch, negatives).
        """
        logits = at_least_single(torch.cat([pos, neg], dim=1)) / self.temperature
        return self.loss_module(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
