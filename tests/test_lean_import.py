"""Imports that are left out for one thread only."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import mmengine.registry
import pytest
import torch

from framework.lean_import import left_out


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that has not been imported yet."""
    (tmp_path / "left_out_package.py").write_text("value = 1")
    monkeypatch.syspath_prepend(tmp_path)
    yield "left_out_package"
    sys.modules.pop("left_out_package", None)


def test_a_package_is_left_out_for_a_while(package):
    before = list(sys.meta_path)
    with left_out(package), pytest.raises(ModuleNotFoundError, match=package) as caught:
        import_module(package)
    assert caught.value.name == package
    assert sys.meta_path == before
    assert import_module(package).value == 1


def test_other_threads_can_import_it_meanwhile(package):
    with left_out(package), ThreadPoolExecutor(1) as pool:
        assert pool.submit(import_module, package).result().value == 1


@pytest.mark.parametrize("first", ["framework.engine", "framework.models", "framework.pretrain"])
def test_transformers_is_not_imported_with_the_package(first):
    pytest.importorskip("transformers")
    code = f"import sys, {first}; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_its_optimiser_is_where_mmengine_puts_it():
    transformers = pytest.importorskip("transformers")
    from framework.registry import OPTIMIZERS

    weight = torch.nn.Parameter(torch.ones(2))
    for registry in (OPTIMIZERS, mmengine.registry.OPTIMIZERS):
        built = registry.build({"type": "Adafactor", "params": [weight], "relative_step": False, "lr": 0.1})
        assert isinstance(built, transformers.Adafactor)
