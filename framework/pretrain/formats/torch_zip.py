"""Files of `torch.save` since torch 1.6, and of `torch.jit.save`: a zip archive of a pickle and storages."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from framework.pretrain.errors import DamagedCheckpointError
from framework.pretrain.formats.blob import Blob, MemoryBlob
from framework.pretrain.formats.dtypes import STORAGES, ElementType
from framework.pretrain.formats.globals import Names
from framework.pretrain.formats.stubs import Global, Storage, Stub
from framework.pretrain.formats.tree import Contents, flattened, tree_of
from framework.pretrain.formats.unpickle import unpickle

_MAX_UNPACKED_PICKLE = 1 << 28


def archive_folder(names: Iterable[str]) -> str | None:
    """Return the folder of the archive that has a `data.pkl`, or None.

    Args:
        names: Of the archive's members.
    """
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    return pickles[0].removesuffix("data.pkl") if len(pickles) == 1 else None


def read_torch_zip(records: Mapping[str, Blob]) -> Contents:
    """Return the contents of a file of `torch.save` or `torch.jit.save`.

    Args:
        records: The members of the archive, in which there is an `archive_folder`.

    Raises:
        CheckpointError: See `open_checkpoint`.
    """
    folder = archive_folder(records)
    if folder is None:
        raise DamagedCheckpointError("the archive lacks 'data.pkl'")
    names = Names()
    storages = _Storages(records, folder)
    root, _ = unpickle(_unpacked(storages.record("data.pkl")), names, storages.find)
    names.check()
    replaced = sorted(name for name in names.replaced if not name.startswith("__torch__."))
    tree = tree_of(root)
    if f"{folder}constants.pkl" not in records:
        return Contents("torch zip", tree, replaced)
    told = {name: node for name, node in flattened(tree).items() if name.rpartition(".")[2] != "training"}
    return Contents("torchscript", told, replaced)


def _unpacked(pickle: Blob) -> Blob:
    """Return a pickle that can be read from anywhere."""
    if pickle.splits:
        return pickle
    if pickle.size > _MAX_UNPACKED_PICKLE:
        raise DamagedCheckpointError(f"the pickle in the archive unpacks to {pickle.size:,} bytes")
    return MemoryBlob(pickle.read(0, pickle.size))


class _Storages:
    """Finds the bytes that the pickle means by ('storage', type, key, device, number of elements)."""

    def __init__(self, records: Mapping[str, Blob], folder: str) -> None:
        self._records = records
        self._folder = folder
        self._found: dict[str, Storage] = {}
        self._foreign = self._byte_order() != sys.byteorder

    def record(self, name: str) -> Blob:
        """Return the bytes of a member of the archive's folder."""
        if self._folder + name not in self._records:
            raise DamagedCheckpointError(f"the archive lacks '{name[:80]}'")
        return self._records[self._folder + name]

    def _byte_order(self) -> str:
        if self._folder + "byteorder" not in self._records:
            return "little"
        record = self.record("byteorder")
        order = record.read(0, min(record.size, 6)).decode("latin-1")
        if order not in ("little", "big"):
            raise DamagedCheckpointError(f"the archive has the byte order {order!r}")
        return order

    def find(self, reference: object) -> Storage | Stub:
        """Return the storage for a persistent id; an inert object if torch has no such type any more."""
        match reference:
            case ("storage", Global() as kind, str(key), _, int(count), *_) if kind.name in STORAGES:
                dtype = STORAGES[kind.name]
                if key not in self._found:
                    self._found[key] = Storage(self.record(f"data/{key}"), dtype, foreign=self._foreign)
                return self._checked(self._found[key], dtype, count)
            case ("storage", Global() as kind, *_):
                return Stub(kind.name)
        raise DamagedCheckpointError("the pickle refers to something that is no storage")

    def _checked(self, storage: Storage, dtype: ElementType, count: int) -> Storage:
        if storage.dtype != dtype or count * dtype.itemsize != storage.blob.size:
            raise DamagedCheckpointError(
                f"a storage of {count} elements of {dtype} is announced, it has {storage.blob.size} bytes"
            )
        return storage
