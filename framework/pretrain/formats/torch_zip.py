"""Files of `torch.save` since torch 1.6, and TorchScript archives: a zip archive with a pickle and its storages."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from framework.pretrain.errors import CheckpointError, DamagedCheckpointError
from framework.pretrain.formats.blob import Blob, DeflatedBlob, MemoryBlob
from framework.pretrain.formats.dtypes import STORAGES
from framework.pretrain.formats.stubs import Global, Storage
from framework.pretrain.formats.tree import Contents, tree_of
from framework.pretrain.formats.unpickle import Machine, Names
from framework.pretrain.formats.zip_directory import Member, open_member

_MAX_UNPACKED_PICKLE = 1 << 28


def archive_folder(members: Mapping[str, Member]) -> str | None:
    """Return the folder of the archive that has a `data.pkl`, or None.

    Args:
        members: Of the archive.
    """
    folders = [
        name.removesuffix("data.pkl")
        for name in members
        if name.count("/") == 1 and name.endswith("/data.pkl")
    ]
    return folders[0] if len(folders) == 1 else None


def read_torch_zip(archive: Blob, members: Mapping[str, Member], folder: str) -> Contents:
    """Return the contents of a file of `torch.save` or `torch.jit.save`.

    Args:
        archive: The whole file.
        members: Its directory.
        folder: As `archive_folder` gives it.

    Raises:
        CheckpointError: See `open_checkpoint`.
    """
    names = Names()
    storages = _Storages(archive, members, folder)
    pickle = storages.member("data.pkl")
    if isinstance(pickle, DeflatedBlob):
        if pickle.size > _MAX_UNPACKED_PICKLE:
            raise CheckpointError(f"the pickle in the archive unpacks to {pickle.size:,} bytes")
        pickle = MemoryBlob(pickle.read(0, pickle.size))
    root = Machine(pickle, names, storages.find).run()
    names.check()
    is_script = f"{folder}constants.pkl" in members
    replaced = {name for name in names.replaced if not name.startswith("__torch__.")}
    return Contents("torchscript" if is_script else "torch zip", tree_of(root), sorted(replaced))


class _Storages:
    """Finds the bytes that the pickle means by ('storage', type, key, device, number of elements)."""

    def __init__(self, archive: Blob, members: Mapping[str, Member], folder: str) -> None:
        self._archive = archive
        self._members = members
        self._folder = folder
        self._found: dict[str, Storage] = {}
        order = f"{folder}byteorder"
        self._foreign = order in members and self.member("byteorder").read(0, 3) != sys.byteorder[:3].encode()

    def member(self, name: str) -> Blob:
        """Return the bytes of a member of the archive's folder."""
        member = self._members.get(self._folder + name)
        if member is None:
            raise DamagedCheckpointError(f"the archive lacks '{name}'")
        return open_member(self._archive, member)

    def find(self, reference: object) -> Storage:
        """Return the storage for a persistent id."""
        match reference:
            case ("storage", Global() as kind, str(key), _, int(count), *_) if kind.name in STORAGES:
                if key not in self._found:
                    self._found[key] = Storage(
                        self.member(f"data/{key}"), STORAGES[kind.name], foreign=self._foreign
                    )
                return self._checked(self._found[key], kind.name, count)
        raise DamagedCheckpointError("the pickle refers to something that is no storage")

    def _checked(self, storage: Storage, kind: str, count: int) -> Storage:
        if storage.dtype != STORAGES[kind] or count * storage.dtype.itemsize != storage.blob.size:
            raise DamagedCheckpointError(
                f"a {kind} of {count} elements is announced, but the archive has {storage.blob.size} bytes for it"
            )
        return storage
