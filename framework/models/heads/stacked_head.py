"""A head of several linear layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from framework.errors import ConfigError
from framework.models.heads.cls_head import ClsHead, InitCfg, check_features
from framework.models.heads.linear_head import check_num_classes
from framework.models.layers import build_activation, build_norm_layer
from framework.registry import HEADS


@HEADS.register_module()
class StackedLinearClsHead(ClsHead):
    """Hidden linear layers, each with normalisation, activation and dropout, and a last one to logits.

    The layers are called `layers.0.fc`, `layers.0.norm`, `layers.1.fc`, ..., as in mmpretrain.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the features.
        mid_channels: Channels of the hidden layers.
        dropout_rate: Dropout after each hidden layer.
        norm_cfg: Normalisation of the hidden layers, such as BN1d. Default: none.
        act_cfg: Activation of the hidden layers, None for none. Default ReLU.
        loss: Config of the loss, or the loss. Default: the classifier's.
        topk: The k of the accuracies that are logged in training. Default: the classifier's.
        cal_acc: Whether accuracies are computed in training.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Raises:
        ConfigError: `num_classes` is not positive, or there are no hidden layers.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        mid_channels: Sequence[int],
        dropout_rate: float = 0.0,
        norm_cfg: Mapping[str, Any] | None = None,
        act_cfg: Mapping[str, Any] | None = {"type": "ReLU"},
        loss: dict[str, Any] | nn.Module | None = None,
        topk: int | Sequence[int] | None = None,
        cal_acc: bool = True,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(loss, topk, cal_acc, init_cfg)
        check_num_classes(num_classes)
        if isinstance(mid_channels, int) or not mid_channels:
            raise ConfigError(
                f"mid_channels={mid_channels!r}: the channels of one hidden layer or more; without hidden "
                "layers use LinearClsHead"
            )
        self.in_channels, self.num_classes = in_channels, num_classes
        self.layers = nn.ModuleList()
        for before, after in zip([in_channels, *mid_channels], mid_channels, strict=False):
            parts = OrderedDict[str, nn.Module](fc=nn.Linear(before, after))
            if norm_cfg is not None:
                parts["norm"] = build_norm_layer(norm_cfg, after)
            if act_cfg is not None:
                parts["act"] = build_activation(act_cfg)
            parts["dropout"] = nn.Dropout(dropout_rate)
            self.layers.append(nn.Sequential(parts))
        self.layers.append(nn.Sequential(OrderedDict(fc=nn.Linear(mid_channels[-1], num_classes))))

    def pre_logits(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """Return what the last linear layer gets, (batch, mid_channels[-1]).

        Raises:
            ValueError: The features are of another shape.
        """
        x = check_features(super().pre_logits(features), self.in_channels)
        for layer in self.layers[:-1]:
            x = layer(x)
        return x

    def forward(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """Return logits (batch, num_classes)."""
        return self.layers[-1](self.pre_logits(features))
