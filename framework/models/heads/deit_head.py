"""The head of DeiT with a distillation token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from framework.models.heads.cls_head import InitCfg, check_features
from framework.models.heads.vision_transformer_head import VisionTransformerClsHead
from framework.registry import HEADS

Pair = tuple[Tensor, Tensor]


@HEADS.register_module()
class DeiTClsHead(VisionTransformerClsHead):
    """The mean of two linear layers: `fc` on the class token, `fc_dist` on the distillation token.

    Source: DeiT, https://arxiv.org/abs/2012.12877, section 4, for classification; training with a teacher is
    not done here.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the tokens.
        hidden_dim: Channels of a hidden layer. Default: there is none.
        act_cfg: Activation of the hidden layer. Default Tanh.
        loss: Config of the loss, or the loss. Default: the classifier's.
        topk: The k of the accuracies that are logged in training. Default: the classifier's.
        cal_acc: Whether accuracies are computed in training.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
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
        super().__init__(num_classes, in_channels, hidden_dim, act_cfg, loss, topk, cal_acc, init_cfg)
        self.fc_dist = nn.Linear(hidden_dim or in_channels, num_classes)
        nn.init.zeros_(self.fc_dist.weight)
        nn.init.zeros_(self.fc_dist.bias)

    def pre_logits(self, features: Sequence[Pair]) -> Pair:  # type: ignore[override]
        """Return what the two layers get, each (batch, hidden_dim or in_channels).

        Args:
            features: Pairs of class token and distillation token, of which the last one counts.

        Raises:
            ValueError: The features are something else.
        """
        pair = features[-1]
        if isinstance(pair, Tensor) or len(pair) != 2:
            raise ValueError(
                "DeiTClsHead takes pairs of class token and distillation token, which "
                "DistilledVisionTransformer gives with out_type='cls_token'"
            )
        cls_token, dist_token = (self.hidden(check_features(token, self.in_channels)) for token in pair)
        return cls_token, dist_token

    def forward(self, features: Sequence[Pair]) -> Tensor:  # type: ignore[override]
        """Return logits (batch, num_classes)."""
        cls_token, dist_token = self.pre_logits(features)
        return (self.fc(cls_token) + self.fc_dist(dist_token)) / 2
