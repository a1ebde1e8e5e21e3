"""From what a pickle holds to nested dicts whose leaves are tensors, plain values and inert objects."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from framework.pretrain.errors import CheckpointError, DamagedCheckpointError
from framework.pretrain.formats.dtypes import ElementType
from framework.pretrain.formats.lazy import LazyTensor, StridedTensor
from framework.pretrain.formats.stubs import Global, Inert, Pairs, Stub, tensor_of

Node: TypeAlias = "LazyTensor | Inert | bool | int | float | str | list[object] | Mapping[str, Node] | None"

MAX_DEPTH = 64
MAX_NODES = 2_000_000
MAX_NAME = 2048
MAX_SEGMENTS = 128
_CONTAINER_NODES = 8  # what a container costs, compared to an entry
_SCALARS = (str, int, float, bool, type(None))
_MODULE_PARTS = ("_parameters", "_buffers", "_modules")
_SHARED_BYTES = 1 << 28
_SHARED_RATIO = 8


class Contents(NamedTuple):
    """What a reader has to say of a file.

    Attributes:
        format: Name of the format.
        tree: Names and tensors.
        replaced: Names of what the file has that was replaced by inert objects.
        metadata: What the file says of itself beside the tree.
    """

    format: str
    tree: dict[str, Node]
    replaced: Iterable[str] = ()
    metadata: Mapping[str, str] = MappingProxyType({})


def tree_of(root: object) -> dict[str, Node]:
    """Return the nested dicts that the object of a pickle amounts to.

    Dicts, and objects of subclasses of dict, become dicts with text keys. A pickled module becomes the dict
    of its parameters and buffers, as its `state_dict()`. Lists become dicts by index, and objects dicts by
    attribute, where there are tensors in them; otherwise they are leaves.

    Args:
        root: What a `Machine` returned.

    Raises:
        DamagedCheckpointError: It is nested beyond all measure, or its tensors share so much storage that
            they would fill many times as much memory as the file has bytes.
        CheckpointError: It is no container.
    """
    walk = _Walk()
    try:
        node = walk.node(root, 0)
    except RecursionError as error:
        raise DamagedCheckpointError("the objects of the file are nested too deep to be followed") from error
    if isinstance(node, LazyTensor):
        node = {"tensor": node}
    if not isinstance(node, dict):
        name = node.qualified_name if isinstance(node, Inert) else type(node).__name__
        raise CheckpointError(f"the file holds a single object ({name}), not a dict of tensors")
    _check_sharing(walk.tensors.values())
    return node


def check_names(node: Mapping[str, Node], length: int = 0, segments: int = 0) -> None:
    """Refuse names that no module gives: joined for every tensor below it, a long one would fill memory.

    Args:
        node: A part of a tree.
        length: Characters of the name of the part.
        segments: Segments of it.

    Raises:
        DamagedCheckpointError: The name of a tensor is longer than any real one.
    """
    for key, inner in node.items():
        if isinstance(inner, (LazyTensor, Mapping)):
            long, deep = length + len(key), segments + 1 + key.count(".")
            if long > MAX_NAME or deep > MAX_SEGMENTS:
                raise DamagedCheckpointError(f"a name in the file has {long:,} characters in {deep} segments")
            if isinstance(inner, Mapping):
                check_names(inner, long + 1, deep)


def flattened(node: Mapping[str, Node]) -> dict[str, Node]:
    """Return a module of modules as one dict with dotted names.

    Raises:
        DamagedCheckpointError: A name is longer than any real one.
    """
    check_names(node)
    made: dict[str, Node] = {}
    for name, inner in node.items():
        if isinstance(inner, dict):
            made.update({f"{name}.{key}": value for key, value in flattened(inner).items()})
        else:
            made[name] = inner
    return made


class _Walk:
    """One descent; counts what it meets, so that a small file cannot unfold into a large tree."""

    def __init__(self) -> None:
        self.tensors: dict[Hashable, LazyTensor] = {}
        self._met = 0
        self._met_torch = 0
        self._left = MAX_NODES
        self._above: set[int] = set()
        self._numbers = itertools.count(2)

    def node(self, value: object, depth: int) -> Node:
        """Return the node for one object of the pickle."""
        if isinstance(value, _SCALARS):
            return value
        if isinstance(value, (list, tuple, Stub)):
            return self._nested(value, depth)
        tensor = tensor_of(value)
        if tensor is not None:
            self._met += 1
            self._met_torch += isinstance(value, LazyTensor)
            self.tensors.setdefault(tensor.identity, tensor)
            return tensor
        if isinstance(value, ElementType):
            return str(value)
        return Inert(value.name if isinstance(value, Global) else type(value).__name__.lower())

    def _nested(self, value: list[object] | tuple[object, ...] | Stub, depth: int) -> Node:
        if id(value) in self._above:
            return Inert("a reference to what contains it")
        if depth > MAX_DEPTH:
            raise DamagedCheckpointError(f"the objects of the file are nested more than {MAX_DEPTH} deep")
        self._spend(_CONTAINER_NODES)
        self._above.add(id(value))
        if isinstance(value, Stub):
            node = self._object(value, depth)
        else:
            node = self._dict(value, depth) if isinstance(value, Pairs) else self._list(value, depth)
        self._above.discard(id(value))
        return node

    def _dict(self, pairs: Pairs, depth: int) -> dict[str, Node]:
        made: dict[str, Node] = {}
        owners: dict[str, object] = {}
        for key, value in self._items(pairs):
            name = _key_name(key)
            while name in owners and not _same_key(owners[name], key):
                name = f"{name} ({type(key).__name__} {next(self._numbers)})"
            owners[name] = key
            made[name] = self.node(value, depth + 1)
        return made

    def _list(self, values: list[object] | tuple[object, ...], depth: int) -> Node:
        self._spend(1 + len(values) // 8)
        if all(isinstance(value, _SCALARS) for value in values):
            return list(values)
        self._spend(len(values))
        before = self._met
        nodes = [self.node(value, depth + 1) for value in values]
        return {str(i): node for i, node in enumerate(nodes)} if self._met > before else list(nodes)

    def _object(self, stub: Stub, depth: int) -> Node:
        """Return the dict of a module, a subclass of dict, or an object with tensors; or an inert leaf."""
        state = stub.state if isinstance(stub.state, Pairs) else Pairs()
        attributes = {key: value for key, value in self._items(state) if isinstance(key, str)}
        if all(isinstance(attributes.get(part), (Pairs, Stub)) for part in _MODULE_PARTS):
            return self._module(attributes, depth)
        if stub.pairs is not None:
            return self._dict(stub.pairs, depth)
        before = self._met_torch
        inner = self.node(stub.items or stub.state or stub.args, depth + 1)
        return inner if isinstance(inner, dict) and self._met_torch > before else Inert(stub.name, inner)

    def _module(self, attributes: dict[str, object], depth: int) -> dict[str, Node]:
        """Return what `state_dict()` would: parameters, persistent buffers, and those of submodules."""
        hidden = attributes.get("_non_persistent_buffers_set")
        left_out = [name for name in hidden if isinstance(name, str)] if isinstance(hidden, list) else []
        made: dict[str, Node] = {}
        for part in _MODULE_PARTS:
            inner = self.node(attributes[part], depth + 1)
            made.update(inner if isinstance(inner, dict) else {})
        return flattened({n: node for n, node in made.items() if node is not None and n not in left_out})

    def _items(self, pairs: Pairs) -> Iterator[tuple[object, object]]:
        """Yield keys and values, those first from which the dict was made."""
        source = pairs.source if isinstance(pairs.source, (list, tuple)) else ()
        self._spend(1 + len(pairs) // 2 + len(source))
        if isinstance(source, Pairs):
            yield from zip(source[::2], source[1::2], strict=True)
        else:
            yield from (tuple(item) for item in source if isinstance(item, (list, tuple)) and len(item) == 2)
        yield from zip(pairs[::2], pairs[1::2], strict=True)

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise DamagedCheckpointError(
                f"the objects of the file unfold into more than {MAX_NODES:,} entries"
            )


def _key_name(key: object) -> str:
    """Return the text for a key of a dict."""
    if isinstance(key, str):
        return key
    if isinstance(key, int) and key.bit_length() > 64:
        raise DamagedCheckpointError("a dict of the file has whole numbers beyond 64 bits as keys")
    if key is None or isinstance(key, (int, float)):
        return str(key)
    if isinstance(key, bytes):
        return str(key, "latin-1")
    if isinstance(key, tuple) and len(key) <= 8 and not any(isinstance(part, (tuple, list)) for part in key):
        return f"({', '.join(_key_name(part) for part in key)})"
    return key.name if isinstance(key, (Stub, Global)) else type(key).__name__.lower()


def _same_key(a: object, b: object) -> bool:
    """Whether two keys of the same text are one key."""
    if isinstance(a, (int, float, str, bytes)) or a is None:
        return type(a) is type(b) and a == b
    return a is b


def _check_sharing(tensors: Iterable[LazyTensor]) -> None:
    views = [tensor for tensor in tensors if isinstance(tensor, StridedTensor)]
    stored = sum(size for size in {tensor.blob.key: tensor.blob.size for tensor in views}.values())
    wanted = sum(tensor.nbytes for tensor in views)
    if wanted > _SHARED_RATIO * stored + _SHARED_BYTES:
        raise DamagedCheckpointError(
            f"the tensors are views of {stored:,} bytes that would fill {wanted:,} bytes of memory"
        )
