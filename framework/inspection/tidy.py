"""Tidy copies: the weights of a file alone, named after their hash, and the mean of several files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framework.apis.new_file import check_new
from framework.inspection.facts import facts_of
from framework.pretrain.checkpoint import Checkpoint, LazyTensor, open_checkpoint
from framework.pretrain.dialects.common import BOOKKEEPING
from framework.pretrain.errors import CheckpointError, MismatchError, SpecError
from framework.pretrain.fold import fold
from framework.pretrain.formats.dtypes import SAFETENSORS
from framework.pretrain.inventory import last_of, take_inventory, unwrapped
from framework.pretrain.source import fetch
from framework.pretrain.spec import PretrainSpec, parse_spec

if TYPE_CHECKING:
    from torch import Tensor

#: Which weights to take where a file has averaged ones, too.
CHOICES = ("ema", "raw")

_SPELLED = {kind: name for name, kind in SAFETENSORS.items()}


@dataclass(frozen=True)
class Written:
    """A file that was written.

    Attributes:
        path: Where it is.
        entry: The entry of the source that was taken, '' for the top level.
        tensors: How many tensors it holds.
        nbytes: Its size.
        sha256: Its hash.
        left_out: Keys of the source that are not in it, folded.
    """

    path: Path
    entry: str
    tensors: int
    nbytes: int
    sha256: str
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return {**vars(self), "path": str(self.path), "left_out": list(self.left_out)}


@dataclass(frozen=True)
class _Source:
    """The weights of a file by their names without wrappers."""

    path: Path
    entry: str
    tensors: Mapping[str, LazyTensor]
    left_out: tuple[str, ...]


def publish(pretrain: Any, folder: str | os.PathLike[str] = ".", weights: str | None = None) -> Written:
    """Write the weights of a file alone as `NAME-<first 8 digits of their SHA-256>.safetensors`.

    Optimiser state, other entries and everything that is no tensor stay behind; the names lose the wrappers'
    segments (`module.`). Memory is needed for one tensor at a time.

    Args:
        pretrain: As the field of that name; `key` names the entry to take.
        folder: Where to write.
        weights: `ema` or `raw`, where the file has both. Default: what a load would take.

    Raises:
        PretrainError: The file cannot be had or read, or has no such weights.
    """
    source = _weights(pretrain, weights)
    stem = _stem(source.path)
    return _write(source, Path(folder), lambda digest: f"{stem}-{digest[:8]}.safetensors", _one(source))


def average(
    sources: Sequence[Any], out: str | os.PathLike[str], weights: str | None = None, overwrite: bool = False
) -> Written:
    """Write the mean of the weights of several files, added up in float32 (float64 where they are that).

    The types, and what is no floating-point number (counters, indices), are the first file's. Memory is
    needed for one tensor at a time.

    Args:
        sources: Two files or more, as the field `pretrain`.
        out: The .safetensors file to write.
        weights: As in `publish`.
        overwrite: Replace `out` where it is there already.

    Raises:
        PretrainError: A file cannot be had or read.
        SpecError: There are too few files, or `out` is no such name or there already.
        MismatchError: They do not have the same names and shapes.
    """
    target = Path(out)
    if len(sources) < 2:
        raise SpecError("an average needs two files or more")
    if target.suffix != ".safetensors":
        raise SpecError(f"'{target}' must end in .safetensors, the format that is written")
    check_new(target, overwrite)
    files = [_weights(one, weights) for one in sources]
    for other in files[1:]:
        _check_same(files[0], other)
    return _write(files[0], target.parent, lambda digest: target.name, _means(files))


def _weights(pretrain: Any, weights: str | None) -> _Source:
    spec = parse_spec(pretrain)
    path = fetch(spec.path, sha256=spec.sha256, url_mapping=spec.url_mapping)
    checkpoint = open_checkpoint(path, trust_pickle=spec.trust_pickle)
    entry = spec.key or (_role(checkpoint, spec, weights) if weights else facts_of(checkpoint, spec).entry)
    tensors: dict[str, LazyTensor] = {}
    left: list[str] = []
    for one in take_inventory(checkpoint, spec).tensors.values():
        inner = one.key[len(entry) + 1 :] if entry else one.key
        inside = one.entry == entry or (entry and one.entry.startswith(f"{entry}."))
        if inside and not (last_of(inner) in BOOKKEEPING and "." not in inner):
            short = unwrapped(inner)
            tensors[inner if short in tensors else short] = one.tensor
        else:
            left.append(one.key)
    unknown = sorted({t.kind.name for t in tensors.values() if t.kind not in _SPELLED})
    if unknown:
        raise CheckpointError(f"'{path}': safetensors has no type {', '.join(unknown)}")
    return _Source(path, entry, tensors, tuple(fold(left)))


def _role(checkpoint: Checkpoint, spec: PretrainSpec, weights: str) -> str:
    """Return the entry of the averaged weights, or of the others."""
    if weights not in CHOICES:
        raise SpecError(f"weights={weights!r}: accepted are {', '.join(CHOICES)}")
    facts = facts_of(checkpoint, spec)
    entries = [one.name for one in facts.entries]
    averaged = [name for name in entries if "ema" in name.lower()]
    others = [name for name in entries if name not in averaged and not name.startswith("optim")]
    if "ema_state_dict" in averaged and "state_dict" in others:  # mmengine's hook swaps them when it saves
        averaged, others = ["state_dict"], ["ema_state_dict"]
    if not averaged and weights == "raw":
        return facts.entry
    if not averaged:
        there = ", ".join(name or "the top level" for name in entries)
        raise MismatchError(f"'{spec.path}' has no averaged weights. Its entries: {there}")
    chosen = averaged if weights == "ema" else others
    if len(chosen) != 1:
        raise MismatchError(
            f"'{spec.path}': which of {', '.join(chosen) or 'no entries'}? `--pretrain.key` names one"
        )
    return chosen[0]


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (".pth.tar", ".index.json", *path.suffixes[-1:]):
        name = name.removesuffix(suffix)
    return name or "weights"


def _one(source: _Source) -> Callable[[str], Tensor]:
    return lambda name: source.tensors[name].read()


def _means(files: Sequence[_Source]) -> Callable[[str], Tensor]:
    def mean(name: str) -> Tensor:
        import torch

        first = files[0].tensors[name].read()
        if not (first.is_floating_point() or first.is_complex()):
            return first
        small = (
            not first.is_complex() and first.dtype.itemsize < 4
        )  # eight bits have no common type with others
        total = first.to(torch.float32 if small else torch.promote_types(first.dtype, torch.float32))
        for other in files[1:]:
            total += other.tensors[name].read().to(total.dtype)
        return (total / len(files)).to(first.dtype)

    return mean


def _check_same(first: _Source, other: _Source) -> None:
    lacking = [*first.tensors.keys() - other.tensors.keys()]
    excess = [*other.tensors.keys() - first.tensors.keys()]
    if lacking or excess:
        told = [
            f"{path} lacks {', '.join(fold(sorted(names))[:8])}"
            for path, names in ((other.path, lacking), (first.path, excess))
            if names
        ]
        raise MismatchError(f"an average needs the same names in all files: {'; '.join(told)}")
    for name, tensor in first.tensors.items():
        if other.tensors[name].shape != tensor.shape:
            shapes = f"{tensor.shape} in {first.path}, {other.tensors[name].shape} in {other.path}"
            raise MismatchError(f"an average needs the same shapes in all files: {name} is {shapes}")


def _write(
    source: _Source, folder: Path, name_of: Callable[[str], str], value: Callable[[str], Tensor]
) -> Written:
    """Write a safetensors file tensor by tensor, and give it its name when its hash is known."""
    if folder.exists() and not folder.is_dir():
        raise SpecError(f"'{folder}' is a file: name a folder to write into")
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{os.getpid()}.part"
    digest = sha256()
    count = 0
    try:
        with part.open("wb") as stream:
            for piece in _pieces(source.tensors, value):
                digest.update(piece)
                stream.write(piece)
                count += len(piece)
        path = folder / name_of(digest.hexdigest())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return Written(path, source.entry, len(source.tensors), count, digest.hexdigest(), source.left_out)


def _pieces(tensors: Mapping[str, LazyTensor], value: Callable[[str], Tensor]) -> Iterator[Any]:
    """Yield header and values (https://github.com/huggingface/safetensors), the widest types first."""
    names = sorted(tensors, key=lambda name: (-tensors[name].kind.itemsize, name))
    yield _header(tensors, names)
    for name in names:
        yield _bytes_of(value(name))


def _header(tensors: Mapping[str, LazyTensor], names: Iterable[str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        start, end = end, end + tensors[name].nbytes
        kind, shape = _SPELLED[tensors[name].kind], list(tensors[name].shape)
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _bytes_of(values: Tensor) -> memoryview:
    import torch

    return values.contiguous().reshape(-1).view(torch.uint8).numpy().data
