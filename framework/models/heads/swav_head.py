"""The head of SwAV."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from framework.models.heads.cls_head import InitCfg
from framework.registry import HEADS, LOSSES


@HEADS.register_module()
class SwAVHead(BaseModule):
    """Hands embeddings to the loss, which has the prototypes.

    Args:
        loss: Config of the loss, `SwAVLoss`, or the loss.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
    """

    def __init__(self, loss: dict[str, Any] | nn.Module, init_cfg: InitCfg = None) -> None:
        super().__init__(init_cfg)
        self.loss_module = loss if isinstance(loss, nn.Module) else LOSSES.build(loss)

    def loss(self, pred: Tensor) -> Tensor:
        """Return the loss of embeddings (views * batch, channels)."""
        return self.loss_module(pred)
