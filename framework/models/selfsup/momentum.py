"""Teachers: networks that follow another one slowly."""

from __future__ import annotations

from copy import deepcopy
from math import cos, pi
from typing import Any

import torch
from mmengine.logging import MessageHub
from torch import Tensor, nn

from framework.errors import ConfigError
from framework.registry import MODELS


@MODELS.register_module()
class CosineEMA(nn.Module):
    """A copy of a network whose weights are a moving average of that network's: the teacher of a student.

    An update makes them `(1 - momentum) * teacher + momentum * student`, where `momentum` goes from its first
    value to `end_momentum` along half a cosine. The papers' momentum is 1 - that. Parameters, count of
    updates and name in a state dict (`module`, `steps`) are those of mmengine's averaged models.

    Source: Bootstrap Your Own Latent, https://arxiv.org/abs/2006.07733, section 3.2, for the schedule.

    Args:
        model: The student, of which a copy is made.
        momentum: Share of the student in the first update.
        end_momentum: Share of the student in the last one; equal to `momentum` for none of the cosine.
        interval: Iterations between two updates.
        update_buffers: Whether buffers are averaged. Default: the teacher has its own, which its batch
            normalisation updates in training.
        max_iters: Length of the schedule. Default: that of the run; outside of one, `momentum` stays.

    Raises:
        ConfigError: A share above 0.5, which is the momentum of the papers.
    """

    steps: Tensor

    def __init__(
        self,
        model: nn.Module,
        momentum: float = 0.004,
        end_momentum: float = 0.0,
        interval: int = 1,
        update_buffers: bool = False,
        max_iters: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("momentum", momentum), ("end_momentum", end_momentum)):
            if not 0 <= value <= 0.5:
                hint = f": the papers' {value:g} is {1 - value:g} here" if 0.5 < value <= 1 else ""
                raise ConfigError(f"{name}={value}: the share of the new weights, from 0 to 0.5{hint}")
        self.module = deepcopy(model).requires_grad_(False)
        self.register_buffer("steps", torch.tensor(0, dtype=torch.long))
        self.momentum, self.end_momentum = momentum, end_momentum
        self.interval, self.update_buffers, self.max_iters = interval, update_buffers, max_iters
        self._seen: tuple[int, list[float]] | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the teacher."""
        return self.module(*args, **kwargs)

    @torch.compiler.disable
    @torch.no_grad()
    def update(self, student: nn.Module, loaded: frozenset[str] = frozenset()) -> None:
        """Follow the student, if its weights have changed since the last update.

        Called before every use of the teacher in training, this is one update for each step of the
        optimiser, also where gradients of several batches make one step. The first update copies the
        student.

        Args:
            student: The student, whose parameters have the same names.
            loaded: Names of the teacher's tensors that the first update leaves alone, as they came from a
                file.
        """
        if not self._has_moved(student):
            return
        steps = int(self.steps)
        if steps == 0:
            self._copy(student, loaded)
        elif steps % self.interval == 0:
            self._average(student, self.share())
        self.steps += 1

    def _has_moved(self, student: nn.Module) -> bool:
        """Tell whether the student's weights have changed since the last time that they had.

        torch counts changes of a tensor, but not those that a fused optimiser makes, so lengths are compared,
        too.
        """
        weights = [parameter.detach() for parameter in student.parameters()]
        changes = sum(weight._version for weight in weights)
        lengths = torch.stack([n.float() for n in torch._foreach_norm(weights)]).tolist() if weights else []
        if self._seen == (changes, lengths):
            return False
        self._seen = changes, lengths
        return True

    def share(self) -> float:
        """Return the share of the student in an update that is made now."""
        if self.momentum == self.end_momentum:
            return self.momentum
        infos = MessageHub.get_current_instance().runtime_info
        last = self.max_iters or infos.get("max_iters")
        if not last:
            return self.momentum
        done = int(self.steps) if self.max_iters else infos.get("iter", int(self.steps))
        return (
            self.end_momentum + (self.momentum - self.end_momentum) * (cos(pi * min(done / last, 1)) + 1) / 2
        )

    def _copy(self, student: nn.Module, loaded: frozenset[str]) -> None:
        values = student.state_dict()
        for name, target in self.module.state_dict().items():
            if name not in loaded:
                target.copy_(values[name])

    def _average(self, student: nn.Module, share: float) -> None:
        values: dict[str, Tensor] = dict(student.named_parameters())
        targets: dict[str, Tensor] = dict(self.module.named_parameters())
        if self.update_buffers:
            values |= dict(student.named_buffers())
            targets |= dict(self.module.named_buffers())
        averaged = [name for name, target in targets.items() if target.is_floating_point()]
        torch._foreach_lerp_(
            [targets[name] for name in averaged], [values[name].to(targets[name]) for name in averaged], share
        )
        for name in targets.keys() - set(averaged):
            targets[name].copy_(values[name])
