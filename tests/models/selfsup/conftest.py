from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def shared() -> dict[str, Any]:
    """Return what `two_processes.py` defines: small models of all methods."""
    return runpy.run_path(str(Path(__file__).with_name("two_processes.py")))
