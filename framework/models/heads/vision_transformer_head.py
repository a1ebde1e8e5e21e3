"""The head of the Vision Transformer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from framework.models.heads.cls_head import ClsHead, InitCfg, check_features
from framework.models.heads.linear_head import check_num_classes
from framework.models.layers import build_activation
from framework.registry import HEADS


@HEADS.register_module()
class VisionTransformerClsHead(ClsHead):
    """A linear layer `fc` from features to logits, after a hidden layer `hidden.fc` if there is one.

    Source: An Image is Worth 16x16 Words, https://arxiv.org/abs/2010.11929, section 3.1: a hidden layer in
    pre-training, none in fine-tuning. `fc` starts from 0, as there.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the features.
        hidden_dim: Channels of the hidden layer. Default: there is none.
        act_cfg: Activation of the hidden layer. Default Tanh.
        loss: Config of the loss, or the loss. Default: the classifier's.
        topk: The k of the accuracies that are logged in training. Default: the classifier's.
        cal_acc: Whether accuracies are computed in training.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Raises:
        ConfigError: `num_classes` is not positive, or there is no such activation.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        hidden_dim: int | None = None,
        act_cfg: Mapping[str, Any] | None = None,
        loss: dict[str, Any] | nn.Module | None = None,
        topk: int | Sequence[int] | None = None,
        cal_acc: bool = True,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(loss, topk, cal_acc, init_cfg)
        check_num_classes(num_classes)
        self.in_channels, self.num_classes = in_channels, num_classes
        self.hidden: nn.Module = nn.Identity()
        if hidden_dim is not None:
            self.hidden = _hidden_layer(in_channels, hidden_dim, act_cfg or {"type": "Tanh"})
        self.fc = nn.Linear(hidden_dim or in_channels, num_classes)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def pre_logits(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """Return what the last linear layer gets, (batch, hidden_dim or in_channels).

        Args:
            features: (batch, in_channels), or several of them, of which the last one counts.

        Raises:
            ValueError: The features are of another shape.
        """
        return self.hidden(check_features(super().pre_logits(features), self.in_channels))

    def forward(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """Return logits (batch, num_classes)."""
        return self.fc(self.pre_logits(features))


def _hidden_layer(in_channels: int, hidden_dim: int, act_cfg: Mapping[str, Any]) -> nn.Sequential:
    linear = nn.Linear(in_channels, hidden_dim)
    nn.init.trunc_normal_(linear.weight, std=in_channels**-0.5)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(OrderedDict(fc=linear, act=build_activation(act_cfg)))
