"""Folders of torch.distributed.checkpoint: a pickle `.metadata`, and files with the chunks of the tensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from framework.pretrain.errors import CheckpointError, DamagedCheckpointError
from framework.pretrain.formats.blob import Blob, FileBlob
from framework.pretrain.formats.chunked import Chunk, ChunkedTensor
from framework.pretrain.formats.dtypes import ElementType
from framework.pretrain.formats.file import File, file_beside
from framework.pretrain.formats.globals import Names
from framework.pretrain.formats.lazy import LazyTensor
from framework.pretrain.formats.stubs import Inert, Pairs, Stub, text_items, whole_numbers
from framework.pretrain.formats.tree import Contents, Node
from framework.pretrain.formats.unpickle import unpickle

METADATA = ".metadata"
_MAX_DEPTH = 32


def read_distributed(metadata: FileBlob) -> Contents:
    """Return the tensors of a checkpoint of torch.distributed.checkpoint, in the dicts that were saved.

    Args:
        metadata: The file `.metadata`; the others lie beside it.

    Raises:
        CheckpointError: See `open_checkpoint`. What a chunk itself says is checked when it is read.
    """
    names = Names()
    root, _ = unpickle(metadata, names)
    names.check()
    fields = text_items(_state(root, "Metadata"))
    places = _Places(metadata.file.path.parent, fields.get("storage_data"))
    tree: dict[str, Node] = {}
    for name, entry in text_items(fields.get("state_dict_metadata")).items():
        tensor = _state(entry, "TensorStorageMetadata", optional=True)
        tree[name] = _tensor(name, text_items(tensor), places) if tensor is not None else Inert("object")
    _check_sizes(tree, places)
    return Contents("torch.distributed.checkpoint", _nested(tree, text_items(fields.get("planner_data"))))


def _nested(flat: dict[str, Node], paths: dict[str, object]) -> dict[str, Node]:
    """Undo the flattening of nested dicts, where the planner noted each name's path."""
    tree: dict[str, Node] = {}
    for name, node in flat.items():
        place = tree
        *folders, leaf = _path(name, paths.get(name))
        for folder in folders:
            inner = place.setdefault(folder, {})
            if not isinstance(inner, dict):  # a tensor has that name: keep to the flattened one
                place, leaf = tree, name
                break
            place = inner
        if leaf in place:
            raise DamagedCheckpointError(f"the metadata gives the place of '{name[:80]}' to two names")
        place[leaf] = node
    return tree


def _path(name: str, path: object) -> list[str]:
    """Return the path that the metadata gives for a name, if it is one, else the name."""
    if not isinstance(path, (list, tuple)) or len(path) > _MAX_DEPTH:
        return [name]
    parts = [str(part) for part in path if isinstance(part, (str, int))]
    return parts if len(parts) == len(path) and ".".join(parts) == name else [name]


class _Places:
    """Where the chunks are: (name, offsets) -> a range of a file."""

    def __init__(self, folder: Path, storage_data: object) -> None:
        self.files: dict[str, FileBlob] = {}
        self.folder = folder
        self._places: dict[str, dict[str, object]] = {}
        pairs = storage_data if isinstance(storage_data, Pairs) else Pairs()
        for index, info in zip(pairs[::2], pairs[1::2], strict=True):
            fields = text_items(_state(index, "MetadataIndex"))
            name, offset = fields.get("fqn"), fields.get("offset")
            if isinstance(name, str):
                key = _place_key(name, () if offset is None else whole_numbers(offset))
                self._places[key] = text_items(_state(info, "_StorageInfo"))

    def find(self, name: str, offsets: tuple[int, ...]) -> Blob:
        """Return the bytes of a chunk."""
        match self._places.get(_place_key(name, offsets)):
            case {"transform_descriptors": list()}:
                raise CheckpointError(f"tensor '{name}' is stored through an extension (compressed, perhaps)")
            case {"relative_path": str(path), "offset": int(start), "length": int(length)}:
                if path not in self.files:
                    self.files[path] = FileBlob(File(file_beside(self.folder, path)))
                return self.files[path].part(start, length)
        raise DamagedCheckpointError(f"the metadata does not say where tensor '{name}' is")


def _place_key(name: str, offsets: tuple[int, ...]) -> str:
    """Return a text, whose hash a file cannot foresee."""
    return f"{name}@{offsets}"


def _state(value: object, cls: str, *, optional: bool = False) -> object:
    """Return the state of an object of that class of torch.distributed.checkpoint."""
    if (
        isinstance(value, Stub)
        and value.name.startswith("torch.distributed.")
        and value.name.endswith(f".{cls}")
    ):
        return value.state
    if optional:
        return None
    raise DamagedCheckpointError(f"the metadata lacks a {cls}")


def _tensor(name: str, fields: dict[str, object], places: _Places) -> LazyTensor | Inert:
    properties = _state(fields.get("properties"), "TensorProperties")
    dtype = (
        properties[0] if isinstance(properties, tuple) and properties else text_items(properties).get("dtype")
    )
    chunks = fields.get("chunks")
    if not isinstance(dtype, ElementType) or not isinstance(chunks, list):
        return Inert("torch.Tensor")
    return ChunkedTensor(
        (places.folder, name), dtype, whole_numbers(fields.get("size")), list(_chunks(name, chunks, places))
    )


def _chunks(name: str, chunks: list[object], places: _Places) -> Iterator[Chunk]:
    for chunk in chunks:
        fields = text_items(_state(chunk, "ChunkStorageMetadata"))
        offsets, shape = whole_numbers(fields.get("offsets")), whole_numbers(fields.get("sizes"))
        yield Chunk(offsets, shape, places.find(name, offsets))


def _check_sizes(tree: dict[str, Node], places: _Places) -> None:
    wanted = sum(node.nbytes for node in tree.values() if isinstance(node, LazyTensor))
    stored = sum(file.size for file in places.files.values())
    if wanted > stored:
        raise DamagedCheckpointError(f"{wanted:,} bytes of tensors are announced, the files have {stored:,}")
