"""Looking into checkpoints: what a file holds, how it differs from a model or another file, and tidy copies.

The public names are imported when they are first used: reading names and shapes needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framework.inspection.facts import FileFacts, inspect_file
    from framework.inspection.page import write_page

_MODULE_OF = {"FileFacts": "facts", "inspect_file": "facts", "write_page": "page"}

__all__ = ["FileFacts", "inspect_file", "write_page"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'. It has: {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
