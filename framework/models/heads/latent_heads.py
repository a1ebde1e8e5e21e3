"""Heads that compare what two networks, or one network twice, make of an image."""

from __future__ import annotations

from typing import Any

from mmengine.dist import get_world_size
from mmengine.model import BaseModule
from torch import Tensor, nn

from framework.models.heads.cls_head import InitCfg
from framework.models.layers.collectives import sum_over_processes
from framework.models.layers.precision import as_it_is, at_least_single
from framework.registry import HEADS, LOSSES, NECKS


@HEADS.register_module()
class LatentPredictHead(BaseModule):
    """Predicts what the other view gives, `predictor`, which does not learn from the prediction.

    Source: BYOL, https://arxiv.org/abs/2006.07733; SimSiam, https://arxiv.org/abs/2011.10566.

    Args:
        loss: Config of the loss, or the loss.
        predictor: Config of the predictor, a neck, or the neck.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
    """

    def __init__(
        self,
        loss: dict[str, Any] | nn.Module,
        predictor: dict[str, Any] | nn.Module,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        self.loss_module = loss if isinstance(loss, nn.Module) else LOSSES.build(loss)
        self.predictor = predictor if isinstance(predictor, nn.Module) else NECKS.build(predictor)

    def loss(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            input: What to predict from (batch, channels).
            target: What to predict (batch, channels); no gradient flows there.
        """
        prediction = self.predictor([input])
        prediction = prediction if isinstance(prediction, Tensor) else prediction[-1]
        return self.loss_module(prediction, target.detach())


@HEADS.register_module()
class LatentCrossCorrelationHead(BaseModule):
    """Correlates the channels of two views over the batches of all processes.

    Source: Barlow Twins, https://arxiv.org/abs/2103.03230, equation 2 and algorithm 1.

    Args:
        in_channels: Channels of the embeddings.
        loss: Config of the loss, or the loss.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
    """

    def __init__(self, in_channels: int, loss: dict[str, Any] | nn.Module, init_cfg: InitCfg = None) -> None:
        super().__init__(init_cfg)
        self.bn = nn.SyncBatchNorm(in_channels, affine=False)
        self.loss_module = loss if isinstance(loss, nn.Module) else LOSSES.build(loss)

    def loss(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar that is the same in all processes.

        Args:
            input: Embeddings of a view (batch, channels); batches of the same size in all processes.
            target: Those of the other view.
        """
        samples = len(input) * get_world_size()
        with as_it_is(input):
            first, second = self.bn(at_least_single(input)), self.bn(at_least_single(target))
            return self.loss_module(sum_over_processes(first.T @ second / samples))
