"""Heads of one linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from framework.errors import ConfigError
from framework.models.heads.cls_head import ClsHead, InitCfg, check_features
from framework.registry import HEADS


@HEADS.register_module()
class LinearClsHead(ClsHead):
    """A linear layer from features to logits, `fc`. Its weights start from a normal distribution of deviation
    0.01.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the features.
        loss: Config of the loss, or the loss. Default: the classifier's.
        topk: The k of the accuracies that are logged in training. Default: the classifier's.
        cal_acc: Whether accuracies are computed in training.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
        dropout_rate: Dropout of the features.

    Raises:
        ConfigError: `num_classes` is not positive.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        loss: dict[str, Any] | nn.Module | None = None,
        topk: int | Sequence[int] | None = None,
        cal_acc: bool = True,
        init_cfg: InitCfg = None,
        dropout_rate: float = 0.0,
    ) -> None:
        super().__init__(loss, topk, cal_acc, init_cfg)
        check_num_classes(num_classes)
        self.in_channels, self.num_classes = in_channels, num_classes
        self.dropout = nn.Dropout(dropout_rate)
        self.fc = nn.Linear(in_channels, num_classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """Return logits (batch, num_classes).

        Args:
            features: (batch, in_channels), or several of them, of which the last one counts.

        Raises:
            ValueError: The features are of another shape.
        """
        return self.fc(self.dropout(check_features(self.pre_logits(features), self.in_channels)))


@HEADS.register_module()
class ClassifierHead(LinearClsHead):
    """A linear layer from features to logits, `fc`: `LinearClsHead` with essmc2's arguments.

    Args:
        dim: Channels of the features.
        num_classes: Number of classes.
        dropout_rate: Dropout of the features.
        loss: Config of the loss, or the loss. Default: the classifier's.
        topk: The k of the accuracies that are logged in training. Default: the classifier's.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Raises:
        ConfigError: `num_classes` is not positive.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        dropout_rate: float = 0.0,
        loss: dict[str, Any] | nn.Module | None = None,
        topk: int | Sequence[int] | None = None,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(num_classes, dim, loss, topk, init_cfg=init_cfg, dropout_rate=dropout_rate)


def check_num_classes(num_classes: int) -> None:
    """Check a number of classes.

    Raises:
        ConfigError: It is not positive.
    """
    if num_classes < 1:
        raise ConfigError(f"num_classes={num_classes!r}: a head needs one class or more")
