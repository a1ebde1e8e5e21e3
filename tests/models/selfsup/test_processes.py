"""Two processes learn what one learns with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[3]
NAMES = ("SimCLR", "MoCo", "BYOL", "SimSiam", "BarlowTwins", "SwAV", "MoCoV3", "DINO", "MAE", "SimMIM")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    out = tmp_path_factory.mktemp("two")
    script = Path(__file__).with_name("two_processes.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(script), str(out)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    return [torch.load(out / f"{rank}.pth", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", NAMES)
def test_losses_gradients_and_state_are_those_of_one_process(
    name: str, two: list[dict[str, Any]], shared: dict[str, Any]
) -> None:
    alone = shared["learn"](name)
    assert alone["losses"].std() > 1e-3  # the steps differ
    assert all(gradient.abs().sum() > 0 for gradient in alone["gradients"].values())
    for process in two:
        torch.testing.assert_close(process[name], alone, rtol=1e-7, atol=1e-9)


def test_every_method_takes_part(shared: dict[str, Any]) -> None:
    assert tuple(shared["METHODS"]) == NAMES
