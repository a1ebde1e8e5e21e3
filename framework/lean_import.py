"""mmengine without transformers, which it imports wherever that is installed, for one optimiser.

That import takes most of a second, and most runs do not use it. So it is refused during the first import of
`mmengine.optim`, to the importing thread alone, by a finder that is gone afterwards. The optimiser is put
where mmengine would have put it, and imports transformers when it is built.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from threading import get_ident
from typing import Any


class _Refusal(MetaPathFinder):
    """A finder which says that a package is not installed, to the thread that made it.

    Args:
        package: Name of the package.
    """

    def __init__(self, package: str) -> None:
        self.package, self.thread = package, get_ident()

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """Refuse the package; leave all else to the finders that follow."""
        if fullname == self.package and get_ident() == self.thread:
            raise ModuleNotFoundError(f"No module named '{fullname}'", name=fullname)


@contextmanager
def left_out(package: str) -> Iterator[None]:
    """Let imports of a package by this thread fail, unless it has been imported already."""
    refusal = _Refusal(package)
    sys.meta_path.insert(0, refusal)
    try:
        yield
    finally:
        sys.meta_path.remove(refusal)


with left_out("transformers"):
    import mmengine.optim  # noqa: F401

from mmengine.registry import OPTIMIZERS  # noqa: E402


def adafactor(params: Any, **arguments: Any) -> Any:
    """Build the optimiser of transformers, which has to be installed; torch's own is `TorchAdafactor`."""
    from transformers import Adafactor

    return Adafactor(params, **arguments)


if "Adafactor" not in OPTIMIZERS.module_dict:
    OPTIMIZERS.register_module(name="Adafactor", module=adafactor)
