"""Files of `torch.save` before torch 1.6: a few pickles, then the storages one after the other."""

from __future__ import annotations

import sys

from framework.pretrain.errors import DamagedCheckpointError
from framework.pretrain.formats.blob import Blob, LateBlob
from framework.pretrain.formats.constructors import CONSTRUCTORS, Args
from framework.pretrain.formats.dtypes import STORAGES, ElementType
from framework.pretrain.formats.globals import Names
from framework.pretrain.formats.stubs import Global, Storage, Stub, as_blob, text_items
from framework.pretrain.formats.tree import Contents, tree_of
from framework.pretrain.formats.unpickle import unpickle

MAGIC = 0x1950A86A20F9469CFC6C
MAGIC_PICKLE = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little") + b"."
_PROTOCOL = 1001
_COUNT_BYTES = 8


def read_torch_legacy(file: Blob) -> Contents:
    """Return the contents of a file of torch's format before 1.6.

    Args:
        file: All of it.

    Raises:
        CheckpointError: See `open_checkpoint`.
    """
    names = Names()
    root = _read_stream(file, names)
    return Contents("torch legacy", tree_of(root), sorted(names.replaced))


def storage_from_bytes(args: Args) -> object:
    """`torch.storage._load_from_bytes(data)`: plain pickle writes a storage as a file in the pickle."""
    blob = as_blob(args[0]) if args else None
    if blob is None or blob.read(0, min(blob.size, len(MAGIC_PICKLE))) != MAGIC_PICKLE:
        return Stub("torch.storage._load_from_bytes")
    names = Names(CONSTRUCTORS)
    return _read_stream(blob, names)


def _read_stream(file: Blob, names: Names) -> object:
    """Read the pickles; the bytes of the storages are only located."""
    position = 0
    for expected in (MAGIC, _PROTOCOL):
        value, position = unpickle(file, names, start=position)
        if not isinstance(value, int) or value != expected:
            names.check()
            raise DamagedCheckpointError(f"the file lacks the number {expected}, which torch writes there")
    system, position = unpickle(file, names, start=position)
    storages = _Storages(foreign=_is_foreign(system))
    root, position = unpickle(file, names, storages.find, position)
    keys, position = unpickle(file, names, start=position)
    names.check()
    storages.locate(file, keys, position)
    return root


def _is_foreign(system: object) -> bool:
    little = text_items(system).get("little_endian", True)
    return isinstance(little, bool) and little != (sys.byteorder == "little")


class _Storages:
    """The storages that the pickle refers to; where they are is known only after it."""

    def __init__(self, *, foreign: bool) -> None:
        self._foreign = foreign
        self._found: dict[str, tuple[Storage, LateBlob]] = {}

    def find(self, reference: object) -> object:
        """Return the storage, or the class of a pickled module, for a persistent id."""
        match reference:
            case ("module", Global() as cls, *_):
                return cls
            case ("storage", Global() as kind, str(key), _, int(count), view) if kind.name in STORAGES:
                return self._storage(STORAGES[kind.name], key, count, view)
        raise DamagedCheckpointError("the pickle refers to something that is no storage")

    def _storage(self, dtype: ElementType, key: str, count: int, view: object) -> Storage:
        if not 0 <= count < 1 << 60:
            raise DamagedCheckpointError(f"a storage claims {count} elements")
        if key not in self._found:
            blob = LateBlob(count * dtype.itemsize)
            self._found[key] = Storage(blob, dtype, foreign=self._foreign), blob
        storage, _ = self._found[key]
        if storage.dtype != dtype or storage.blob.size != count * dtype.itemsize:
            raise DamagedCheckpointError("a storage is announced twice, and differently")
        match view:
            case None:
                return storage
            case (_, int(start), int(size)) if start >= 0 and size >= 0 and start + size <= count:
                return Storage(storage.blob, dtype, start, foreign=self._foreign)
        raise DamagedCheckpointError("a view of a storage reaches outside of it")

    def locate(self, file: Blob, keys: object, position: int) -> None:
        """Give the storages their bytes, from `position` on in the order of `keys`."""
        listed = [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
        if len(listed) != len(self._found) or set(listed) != set(self._found):
            raise DamagedCheckpointError("the file lists other storages than its tensors need")
        starts = []
        for key in listed:
            _, blob = self._found[key]
            starts.append(position)
            position += _COUNT_BYTES + blob.size
            blob.inner = file.part(position - blob.size, blob.size)
        self._check_counts(file, listed, starts)

    def _check_counts(self, file: Blob, keys: list[str], starts: list[int]) -> None:
        for key, count in zip(keys, file.read_each(starts, _COUNT_BYTES), strict=True):
            storage, _ = self._found[key]
            if int.from_bytes(count, "little") * storage.dtype.itemsize != storage.blob.size:
                raise DamagedCheckpointError("a storage has another length than its tensors expect")
