"""LARS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from framework.errors import ConfigError
from framework.registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class LARS(Optimizer):
    """SGD in which every layer has a learning rate of its own, for large batches.

    Source: Large Batch Training of Convolutional Networks, https://arxiv.org/abs/1708.03888, algorithm 1.
    The learning rate stands inside the momentum, as it does there. A layer whose weights or gradients are
    all zero, and parameters of a group with `lars_exclude`, learn with the learning rate itself.

    Args:
        params: Parameters or groups of them; a group may have `lars_exclude=True`.
        lr: Learning rate.
        momentum: Factor of earlier steps.
        weight_decay: Added to the gradient, times the weights.
        dampening: 1 - the factor of the present step.
        eta: The trust coefficient.
        nesterov: Whether the step looks ahead.
        eps: Added to the denominator.

    Raises:
        ConfigError: A negative argument, or `nesterov` without momentum or with dampening.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        dampening: float = 0.0,
        eta: float = 0.001,
        nesterov: bool = False,
        eps: float = 1e-8,
    ) -> None:
        numbers = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "eta": eta}
        for name, value in numbers.items():
            if value < 0:
                raise ConfigError(f"LARS: {name}={value}, expected 0 or more")
        if nesterov and (momentum == 0 or dampening != 0):
            raise ConfigError("LARS: nesterov needs momentum, and no dampening")
        rest = {"dampening": dampening, "nesterov": nesterov, "eps": eps, "lars_exclude": False}
        super().__init__(params, {**numbers, **rest})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step; `closure` computes the loss once more and returns it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(self._update(parameter, group))
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        decay, momentum = group["weight_decay"], group["momentum"]
        update = parameter.grad.add(parameter, alpha=decay)  # type: ignore[union-attr]
        update.mul_(group["lr"] if group["lars_exclude"] else group["lr"] * _trust(parameter, group))
        if momentum == 0:
            return update
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = update.clone()
        else:
            state["momentum_buffer"].mul_(momentum).add_(update, alpha=1 - group["dampening"])
        buffer: Tensor = state["momentum_buffer"]
        return update.add(buffer, alpha=momentum) if group["nesterov"] else buffer


def _trust(parameter: Tensor, group: dict[str, Any]) -> Tensor:
    """Return the ratio of the layer's learning rate to the global one, a scalar on its device."""
    weights, gradients = torch.linalg.vector_norm(parameter), torch.linalg.vector_norm(parameter.grad)
    ratio = group["eta"] * weights / (gradients + group["weight_decay"] * weights + group["eps"])
    return torch.where((weights > 0) & (gradients > 0), ratio, torch.ones_like(ratio))
