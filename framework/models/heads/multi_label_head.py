"""Heads for images with several labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from framework.models.heads.cls_head import ClsHead, InitCfg, check_features
from framework.models.heads.linear_head import check_num_classes
from framework.registry import HEADS

THRESHOLD = 0.5


@HEADS.register_module()
class MultiLabelClsHead(ClsHead):
    """A head whose features are the logits already, each class a decision of its own.

    Args:
        loss: Config of the loss, or the loss. Default: CrossEntropyLoss with `use_sigmoid`.
        thr: Classes of at least this probability are predicted.
        topk: Without `thr`, the number of classes that are predicted. Default: `thr` is 0.5.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
    """

    def __init__(
        self,
        loss: dict[str, Any] | nn.Module | None = None,
        thr: float | None = None,
        topk: int | None = None,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(loss or {"type": "CrossEntropyLoss", "use_sigmoid": True}, None, False, init_cfg)
        self.thr = THRESHOLD if thr is None and topk is None else thr
        self.num_predicted = topk

    def decide(self, logits: Tensor) -> dict[str, Tensor]:
        """Return what logits (batch, classes) say.

        Returns:
            `scores`, one probability for each class (batch, classes), and `pred_labels` (batch, classes), 1
            for the predicted classes and 0 for the others.
        """
        scores = logits.sigmoid()
        if self.thr is not None:
            return {"scores": scores, "pred_labels": (scores >= self.thr).long()}
        assert self.num_predicted is not None
        best = scores.topk(self.num_predicted, dim=1).indices
        return {"scores": scores, "pred_labels": torch.zeros_like(scores).scatter_(1, best, 1.0).long()}


@HEADS.register_module()
class MultiLabelLinearClsHead(MultiLabelClsHead):
    """A linear layer from features to logits, `fc`, each class a decision of its own.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the features.
        loss: Config of the loss, or the loss. Default: CrossEntropyLoss with `use_sigmoid`.
        thr: Classes of at least this probability are predicted.
        topk: Without `thr`, the number of classes that are predicted. Default: `thr` is 0.5.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Raises:
        ConfigError: `num_classes` is not positive.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        loss: dict[str, Any] | nn.Module | None = None,
        thr: float | None = None,
        topk: int | None = None,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(loss, thr, topk, init_cfg)
        check_num_classes(num_classes)
        self.in_channels, self.num_classes = in_channels, num_classes
        self.fc = nn.Linear(in_channels, num_classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """Return logits (batch, num_classes).

        Raises:
            ValueError: The features are of another shape.
        """
        return self.fc(check_features(self.pre_logits(features), self.in_channels))
