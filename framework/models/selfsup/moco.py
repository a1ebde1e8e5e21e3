"""MoCo, versions 1 and 2."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_gather, broadcast, get_rank, get_world_size
from torch import Tensor, nn
from torch.nn import functional

from framework.models.layers.precision import as_it_is, at_least_single
from framework.models.selfsup.base import BaseSelfSupervisor, InitCfg, Part, check_views, last
from framework.models.selfsup.collapse import embedding_std
from framework.models.selfsup.momentum import CosineEMA
from framework.registry import MODELS


@MODELS.register_module()
class MoCo(BaseSelfSupervisor):
    """A view finds the other view of its image among the keys of earlier batches, which a teacher made.

    The teacher sees each batch shuffled over the processes, so that its batch normalisation cannot tell which
    views belong together.

    Source: Momentum Contrast for Unsupervised Visual Representation Learning,
        https://arxiv.org/abs/1911.05722, algorithm 1 and section 3.3; with `MoCoV2Neck`, Improved Baselines
        with Momentum Contrastive Learning, https://arxiv.org/abs/2003.04297.

    Args:
        backbone: Config of the backbone, or the backbone.
        neck: Config of the neck, or the neck.
        head: Config of the head, a `ContrastiveHead`, or the head.
        queue_len: Number of keys that are kept.
        feat_dim: Channels of a key.
        momentum: Share of the new weights in an update of the teacher: 1 - the paper's momentum.
        data_preprocessor: See `BaseSelfSupervisor`.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Attributes:
        encoder_k: The teacher of backbone and neck.
        queue: The keys (feat_dim, queue_len).
        queue_ptr: Where the next key will stand.

    Raises:
        ConfigError: A part cannot be built.
    """

    queue: Tensor
    queue_ptr: Tensor

    def __init__(
        self,
        backbone: Part,
        neck: Part,
        head: Part,
        queue_len: int = 65536,
        feat_dim: int = 128,
        momentum: float = 0.001,
        data_preprocessor: Part | None = None,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(backbone, neck, head, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.encoder_k = CosineEMA(nn.Sequential(self.backbone, self.neck), momentum, momentum)
        self.queue_len = queue_len
        self.register_buffer("queue", functional.normalize(torch.randn(feat_dim, queue_len), dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))

    def loss(self, inputs: Any, data_samples: Any = None) -> dict[str, Tensor]:
        """Return `loss` and `embedding_std`.

        Args:
            inputs: Two views, each (batch, channels, height, width); batches of the same size in all
                processes.
            data_samples: Of no account.

        Raises:
            ValueError: A batch is larger than the queue.
        """
        query_view, key_view = check_views(inputs, 2, "MoCo")
        queries = functional.normalize(at_least_single(self.embed(query_view)), dim=1)
        self.update_teacher("encoder_k", nn.Sequential(self.backbone, self.neck))
        with torch.no_grad():
            keys = functional.normalize(at_least_single(self._keys(key_view)), dim=1)
        positives = (queries * keys).sum(dim=1, keepdim=True)
        with as_it_is(queries):
            negatives = queries @ self.queue.clone().to(queries)
        loss = self.head.loss(positives, negatives)
        if self.training:
            self._enqueue(keys)
        return {"loss": loss, "embedding_std": embedding_std(queries)}

    def _keys(self, images: Tensor) -> Tensor:
        """Return the teacher's embeddings of images, which other processes may compute."""
        if get_world_size() == 1:
            return last(self.encoder_k(images))
        everyone = torch.cat(all_gather(images))
        order = torch.randperm(len(everyone), device=images.device)
        broadcast(order)
        share = order.chunk(get_world_size())[get_rank()]
        shuffled = torch.cat(all_gather(last(self.encoder_k(everyone[share]))))
        place = order.argsort().chunk(get_world_size())[get_rank()]
        return shuffled[place]

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        """Put the keys of all processes in the place of the oldest ones."""
        keys = torch.cat(all_gather(keys)).to(self.queue)
        if len(keys) > self.queue_len:
            raise ValueError(
                f"queue_len={self.queue_len} is less than a batch of {len(keys)}: make it larger"
            )
        places = (self.queue_ptr + torch.arange(len(keys), device=keys.device)) % self.queue_len
        self.queue[:, places] = keys.T
        self.queue_ptr.copy_((self.queue_ptr + len(keys)) % self.queue_len)
