from __future__ import annotations

from math import sqrt

import pytest
import torch

from framework.errors import ConfigError
from framework.registry import OPTIMIZERS


def steps(optimizer: torch.optim.Optimizer, parameter: torch.Tensor, gradients: list[list[float]]) -> list:
    seen = []
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient, dtype=torch.double)
        optimizer.step()
        seen.append(parameter.tolist())
    return seen


def test_a_step_is_that_of_the_paper() -> None:
    w, gradients = [3.0, -4.0], [[1.0, 2.0], [-0.5, 0.3], [0.0, 0.0]]
    parameter = torch.tensor(w, dtype=torch.double, requires_grad=True)
    options = {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.1, "eta": 0.02, "eps": 0.0}
    seen = steps(OPTIMIZERS.build({"type": "LARS", "params": [parameter], **options}), parameter, gradients)
    velocity = [0.0, 0.0]
    for g, after in zip(gradients, seen, strict=True):
        norm_w, norm_g = sqrt(sum(x * x for x in w)), sqrt(sum(x * x for x in g))
        local = 0.02 * norm_w / (norm_g + 0.1 * norm_w) if norm_g else 1.0
        velocity = [0.9 * v + 0.5 * local * (gi + 0.1 * wi) for v, gi, wi in zip(velocity, g, w, strict=True)]
        w = [wi - v for wi, v in zip(w, velocity, strict=True)]
        assert after == pytest.approx(w, rel=1e-12)


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "dampening": 0.3}],
)
def test_what_is_excluded_learns_as_with_sgd(options: dict) -> None:
    gradients = [[1.0, 2.0], [-0.5, 0.3], [0.2, 0.1]]
    results = []
    for kind, group in (("LARS", {"lars_exclude": True}), ("SGD", {})):
        parameter = torch.tensor([3.0, -4.0], dtype=torch.double, requires_grad=True)
        groups = [{"params": [parameter], **group}]
        optimizer = OPTIMIZERS.build(
            {"type": kind, "params": groups, "lr": 0.1, "weight_decay": 0.01, **options}
        )
        results.append(steps(optimizer, parameter, gradients))
    torch.testing.assert_close(*map(torch.tensor, results))


def test_a_closure_is_run_with_gradients() -> None:
    parameter = torch.tensor([3.0], requires_grad=True)
    optimizer = OPTIMIZERS.build({"type": "LARS", "params": [parameter], "lr": 0.1})

    def closure() -> torch.Tensor:
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 9
    assert parameter.item() == pytest.approx(3 - 0.1 * 0.001 * 3)  # eta * |w| / |g| * g


@pytest.mark.parametrize(
    "options", [{"lr": -1.0}, {"lr": 1.0, "momentum": -1}, {"lr": 1.0, "nesterov": True}]
)
def test_arguments_without_sense_are_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match="LARS: "):
        OPTIMIZERS.build({"type": "LARS", "params": [torch.zeros(1, requires_grad=True)], **options})
