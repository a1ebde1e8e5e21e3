"""A start without transformers, which mmengine imports wherever it is installed, for one optimiser.

That import takes most of a second, and most runs do not use it. It is left out of the first import of
`mmengine.optim`, and the optimiser is registered here to import it when it is built.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from framework.registry import OPTIMIZERS


@contextmanager
def left_out(package: str) -> Iterator[None]:
    """Let imports of a package fail as if it were not installed, unless it has been imported already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


with left_out("transformers"):
    import mmengine.optim  # noqa: F401


@OPTIMIZERS.register_module(name="Adafactor")
def adafactor(params: Any, **arguments: Any) -> Any:
    """Build the optimiser of transformers, which has to be installed; torch's own is `TorchAdafactor`."""
    from transformers import Adafactor

    return Adafactor(params, **arguments)
