"""What the classes and functions become that a pickle calls by name."""

from __future__ import annotations

from collections.abc import Mapping

from framework.pretrain.errors import DamagedCheckpointError, UnsafeCheckpointError
from framework.pretrain.formats.constructors import CONSTRUCTORS, Constructor
from framework.pretrain.formats.dtypes import ML_DTYPES, STORAGES, TORCH
from framework.pretrain.formats.refused import is_refused, qualified
from framework.pretrain.formats.stubs import Global, Stub

_MAX_LENGTH = 512
_MAX_NAMES = 10_000

_HARMLESS = frozenset(
    {
        "builtins.object",
        "builtins.int",
        "builtins.float",
        "builtins.str",
        "builtins.bool",
        "copyreg.__newobj__",
        "numpy.ndarray",
        "torch.Tensor",
        *(f"{module}.{name}" for module in ("ml_dtypes", "jax.numpy") for name in ML_DTYPES),
        *(f"numpy.{name}" for name in ("float64", "float32", "float16", "int64", "int32", "bool_")),
    }
)
"""Types that stand as arguments of what is understood."""


class Names:
    """The names in the pickles of one file.

    Attributes:
        replaced: Those that are not understood, whose objects become inert.
        refused: Those that run code.
    """

    def __init__(self, constructors: Mapping[str, Constructor] = CONSTRUCTORS) -> None:
        """Start with nothing named.

        Args:
            constructors: The functions that are understood, by qualified name.
        """
        self.replaced: set[str] = set()
        self.refused: set[str] = set()
        self._constructors = constructors
        self._resolved: dict[tuple[str, str], object] = {}

    def resolve(self, module: object, name: object) -> object:
        """Return what stands for a global: a torch dtype, or its name.

        Args:
            module: As the pickle says it.
            name: As the pickle says it; may be a path of attributes.

        Raises:
            DamagedCheckpointError: These are no names, or there are too many of them.
        """
        if not isinstance(module, str) or not isinstance(name, str) or len(module + name) > _MAX_LENGTH:
            raise DamagedCheckpointError("the pickle names a class by something other than a name")
        key = (module, name)
        if key not in self._resolved:
            if len(self._resolved) >= _MAX_NAMES:
                raise DamagedCheckpointError(
                    f"the pickle names more than {_MAX_NAMES:,} classes and functions"
                )
            self._resolved[key] = self._judge(module, name)
        return self._resolved[key]

    def call(self, function: object, args: object) -> object:
        """Return what stands for `function(*args)`.

        Args:
            function: What `resolve` or an earlier call returned.
            args: A tuple.

        Raises:
            DamagedCheckpointError: These are no function and no arguments.
        """
        if not isinstance(args, tuple):
            raise DamagedCheckpointError("the pickle calls a function with something other than arguments")
        if isinstance(function, Global):
            make = self._constructors.get(function.name)
            return make(args) if make else Stub(function.name, args)
        if isinstance(function, Stub):
            return Stub(function.name, args)
        raise DamagedCheckpointError("the pickle calls something that is no function")

    def check(self) -> None:
        """Raise if a name was met that runs code.

        Raises:
            UnsafeCheckpointError: All of these names.
        """
        if self.refused:
            raise UnsafeCheckpointError(
                "the file names functions that run code, which no checkpoint needs: "
                f"{', '.join(sorted(self.refused)[:20])}. Nothing was run. If you trust whoever made it, "
                "trust_pickle=True lets it run"
            )

    def _judge(self, module: str, name: str) -> object:
        path = qualified(module, name)
        if path in TORCH:
            return TORCH[path]
        if is_refused(module, name):
            self.refused.add(path)
        elif path not in self._constructors and path not in STORAGES and path not in _HARMLESS:
            self.replaced.add(path)
        return Global(path)
