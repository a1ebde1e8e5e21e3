"""The head of DINO."""

from __future__ import annotations

import torch
from mmengine.dist import all_reduce
from mmengine.model import BaseModule
from torch import Tensor

from framework.errors import ConfigError
from framework.models.heads.cls_head import InitCfg
from framework.models.layers.precision import at_least_single
from framework.registry import HEADS

#: How many views the teacher sees.
TEACHER_VIEWS = 2


@HEADS.register_module()
class DINOHead(BaseModule):
    """Every view predicts what the teacher makes of the other large views, centred and sharpened.

    Source: https://arxiv.org/abs/2104.14294, algorithm 1 and equations 3 and 4.

    Args:
        out_channels: Number of prototypes.
        num_crops: Number of views, of which the first two are large.
        student_temp: Temperature of the student.
        teacher_temp: Temperature of the teacher; `DINOTeacherTempWarmupHook` changes it epoch by epoch.
        center_momentum: Share of the old centre in an update.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Attributes:
        center: The moving average of what the teacher gives (1, out_channels).
        assignments: The last probabilities of the teacher (batch, out_channels), for the log.

    Raises:
        ConfigError: Fewer than two views.
    """

    center: Tensor

    def __init__(
        self,
        out_channels: int,
        num_crops: int,
        student_temp: float = 0.1,
        center_momentum: float = 0.9,
        teacher_temp: float = 0.04,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_crops < TEACHER_VIEWS:
            raise ConfigError(f"DINOHead: num_crops={num_crops}, expected 2 or more")
        self.num_crops = num_crops
        self.student_temp, self.teacher_temp = student_temp, teacher_temp
        self.center_momentum = center_momentum
        self.register_buffer("center", torch.zeros(1, out_channels))
        self.assignments: Tensor | None = None

    def loss(self, student_output: Tensor, teacher_output: Tensor) -> Tensor:
        """Return the loss, a scalar; in training, move the centre.

        Args:
            student_output: Similarities with the prototypes (views * batch, out_channels), the views one
                after the other.
            teacher_output: The teacher's of the first two views (2 * batch, out_channels). Batches of the
                same size in all processes.
        """
        student, teacher = at_least_single(student_output), at_least_single(teacher_output.detach())
        targets = ((teacher - self.center.to(teacher)) / self.teacher_temp).softmax(dim=1)
        self.assignments = targets
        predictions = (student / self.student_temp).log_softmax(dim=1).chunk(self.num_crops)
        losses = [
            -(target * prediction).sum(dim=1).mean()
            for i, target in enumerate(targets.chunk(TEACHER_VIEWS))
            for j, prediction in enumerate(predictions)
            if i != j
        ]
        if self.training:
            self._move_center(teacher)
        return torch.stack(losses).mean()

    @torch.no_grad()
    def _move_center(self, teacher: Tensor) -> None:
        mean = teacher.mean(dim=0, keepdim=True)
        all_reduce(mean, op="mean")
        self.center.lerp_(mean.to(self.center), 1 - self.center_momentum)
