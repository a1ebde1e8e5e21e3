"""What classification heads have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from framework.registry import HEADS, LOSSES

InitCfg = dict[str, Any] | list[dict[str, Any]] | None


@HEADS.register_module()
class ClsHead(BaseModule):
    """A head whose features are the logits already. Base of the heads that compute them.

    Args:
        loss: Config of the loss, or the loss. Default: the classifier's.
        topk: The k of the accuracies that are logged in training. Default: the classifier's.
        cal_acc: Whether accuracies are computed in training.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Attributes:
        loss_module: The loss, or None.
    """

    def __init__(
        self,
        loss: dict[str, Any] | nn.Module | None = None,
        topk: int | Sequence[int] | None = None,
        cal_acc: bool = True,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        self.loss_module = loss if loss is None or isinstance(loss, nn.Module) else LOSSES.build(loss)
        self.topk = topk
        self.cal_acc = cal_acc

    def pre_logits(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """Return what the last linear layer gets, (batch, channels).

        Args:
            features: (batch, channels), or several of them, of which the last one counts.
        """
        return features if isinstance(features, Tensor) else features[-1]

    def forward(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """Return logits (batch, classes)."""
        return self.pre_logits(features)

    def decide(self, logits: Tensor) -> dict[str, Tensor]:
        """Return what logits (batch, classes) say.

        Returns:
            `scores`, probabilities (batch, classes), and `pred_labels`, class indices (batch,).
        """
        return most_probable(logits)


def most_probable(logits: Tensor) -> dict[str, Tensor]:
    """Return `scores`, probabilities (batch, classes), and `pred_labels`, the class of the highest one."""
    scores = logits.softmax(dim=1)
    return {"scores": scores, "pred_labels": scores.argmax(dim=1)}


def check_features(features: Tensor, channels: int) -> Tensor:
    """Return `features` if they are (batch, `channels`).

    Raises:
        ValueError: They are not.
    """
    if features.ndim == 2 and features.shape[1] == channels:
        return features
    got = tuple(features.shape)
    if features.ndim == 4:
        hint = "put a neck before the head: neck=dict(type='GlobalAveragePooling')"
    elif features.ndim == 3:
        hint = "choose an out_type of the backbone that gives one vector per image: cls_token or avg_featmap"
    else:
        hint = f"set the head's number of input channels (dim, in_channels) to {got[-1]}"
    raise ValueError(f"the head takes features of shape (batch, {channels}), got {got}: {hint}")
