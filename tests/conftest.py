"""What every test shares: few threads, caches in a temporary folder, no variables left behind."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for processes that tests start, too; before torch is there

import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need a GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="session", autouse=True)
def few_threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_globals() -> Iterator[None]:
    """Start without the global instances that a run makes in mmengine, and leave none."""
    threads = torch.get_num_threads()
    managers = (DefaultScope, MessageHub, MMLogger, Visualizer)
    before = {manager: manager._instance_dict for manager in managers}
    for manager in managers:
        manager._instance_dict = OrderedDict()
    yield
    for manager, instances in before.items():
        manager._instance_dict = instances
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    before = _environment()
    yield
    assert _environment() == before, "a test changed the environment"
    assert not (torch.distributed.is_available() and torch.distributed.is_initialized())


@pytest.fixture(autouse=True)
def own_home(
    nothing_leaks: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    home = tmp_path_factory.mktemp("home")
    for name in ("FRAMEWORK_HOME", "HF_HOME", "TORCH_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))
    return home


def _environment() -> dict[str, str]:
    """Return the variables that we read; libraries set others of their own when they are imported."""
    ours = ("FRAMEWORK_", "HF_", "TORCH_HOME", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_")
    return {name: value for name, value in os.environ.items() if name.startswith(ours)}
