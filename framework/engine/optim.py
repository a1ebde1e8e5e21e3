"""What happens between a loss and the new parameters; mixed precision on every device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper as _OptimWrapper
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from framework.engine.history import record
from framework.errors import ConfigError
from framework.registry import OPTIM_WRAPPERS

#: torch's own first factor of the loss.
INITIAL_SCALE = 2.0**16

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(_OptimWrapper):
    """mmengine's, which notes the norm of the clipped gradients without waiting for the device.

    It takes mmengine's arguments: `optimizer`; `accumulative_counts`, the iterations whose gradients
    are added up before a step; and `clip_grad`, the arguments of `torch.nn.utils.clip_grad_norm_`, or
    with `type='value'` of `clip_grad_value_`.
    """

    def _clip_grad(self) -> None:
        groups = self.optimizer.param_groups
        params = [p for group in groups for p in group["params"] if p.requires_grad and p.grad is not None]
        norm = self.clip_func(params, **self.clip_grad_kwargs) if params else None
        if norm is not None:
            whole = norm.full_tensor() if isinstance(norm, DTensor) else norm
            record(self.message_hub, f"train/{self.grad_name}", whole)


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(OptimWrapper):
    """Compute the losses under `torch.autocast`; scale them where float16 needs it.

    Args:
        optimizer: The optimiser.
        dtype: 'float16' or 'bfloat16'. Default: float16 on a GPU, bfloat16 on the CPU.
        loss_scale: 'dynamic', or a number to start from. Only float16 is scaled.
        accumulative_counts: Iterations whose gradients are added up before a step.
        clip_grad: Arguments of `torch.nn.utils.clip_grad_norm_`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        dtype: str | torch.dtype | None = None,
        loss_scale: str | float = "dynamic",
        accumulative_counts: int = 1,
        clip_grad: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(optimizer, accumulative_counts=accumulative_counts, clip_grad=clip_grad)
        self.device = get_device()
        self.dtype = self._dtype(dtype)
        scale = INITIAL_SCALE if loss_scale == "dynamic" else float(loss_scale)
        self.scaler = torch.amp.GradScaler(self.device, scale, enabled=self.dtype is torch.float16)

    def _dtype(self, dtype: str | torch.dtype | None) -> torch.dtype:
        if dtype is None:
            return torch.bfloat16 if self.device == "cpu" else torch.float16
        name = str(dtype).removeprefix("torch.")
        if name not in DTYPES:
            raise ConfigError(f"AmpOptimWrapper: dtype is one of {', '.join(DTYPES)}, got {dtype!r}")
        return DTYPES[name]

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Compute the gradients of the scaled loss."""
        self.scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs: Any) -> None:
        """Update the parameters, unless a gradient is infinite."""
        if self.clip_grad_kwargs:
            self.scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return the optimiser's state, with the scaler's as `loss_scaler`."""
        return {**super().state_dict(), "loss_scaler": self.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the optimiser's state, and the scaler's if it is there."""
        state = dict(state_dict)
        scaler = state.pop("loss_scaler", None)
        if scaler:
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the model in mixed precision, and without gradient exchange while gradients are added up."""
        with super().optim_context(model), torch.autocast(self.device, dtype=self.dtype):
            yield
