"""The projector of SwAV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from framework.models.layers import build_norm_layer
from framework.models.necks.nonlinear_neck import InitCfg, as_vectors, check_channels, vector_norm
from framework.registry import NECKS


@NECKS.register_module()
class SwAVNeck(BaseModule):
    """Linear layer, batch normalisation, ReLU and linear layer, `projection_neck`; the length is made 1.

    Source: Unsupervised Learning of Visual Features by Contrasting Cluster Assignments,
        https://arxiv.org/abs/2006.09882, section 4.

    Args:
        in_channels: Channels of the features.
        hid_channels: Channels between the layers; 0 for one linear layer only.
        out_channels: Channels that come out; 0 for no layer.
        with_avg_pool: Whether feature maps are averaged over all positions first.
        with_l2norm: Whether the length of what comes out is made 1.
        norm_cfg: The normalisation. Default: SyncBN.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.
    """

    def __init__(
        self,
        in_channels: int,
        hid_channels: int,
        out_channels: int,
        with_avg_pool: bool = True,
        with_l2norm: bool = True,
        norm_cfg: Mapping[str, Any] | None = None,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        self.with_avg_pool, self.with_l2norm = with_avg_pool, with_l2norm
        self.in_channels, self.out_channels = in_channels, out_channels or in_channels
        if out_channels == 0:
            self.projection_neck: nn.Module = nn.Identity()
        elif hid_channels == 0:
            self.projection_neck = nn.Linear(in_channels, out_channels)
        else:
            self.projection_neck = nn.Sequential(
                nn.Linear(in_channels, hid_channels),
                build_norm_layer(vector_norm(norm_cfg), hid_channels),
                nn.ReLU(inplace=True),
                nn.Linear(hid_channels, out_channels),
            )

    def forward(self, features: Tensor | Sequence[Any]) -> Tensor:
        """Project the views of a batch.

        Args:
            features: What the backbone gives for views of one size; a list of that where sizes differ.

        Returns:
            (views * batch, out_channels), the views one after the other.
        """
        sizes = features if isinstance(features, list) else [features]
        x = torch.cat([as_vectors(one, self.with_avg_pool) for one in sizes])
        check_channels(self, x, self.in_channels)
        x = self.projection_neck(x)
        return functional.normalize(x, dim=1) if self.with_l2norm else x
