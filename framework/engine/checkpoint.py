"""Training checkpoints as files: written whole or not at all, and read without running anything of theirs."""

from __future__ import annotations

import os
import re
import shutil
import socket
import uuid
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.serialization import get_crc32_options

from framework.engine.mmengine_state import is_of_mmengine, plain_state
from framework.engine.state import digest, plain
from framework.errors import SaveError
from framework.pretrain.checkpoint import open_checkpoint
from framework.pretrain.errors import CheckpointError, DamagedCheckpointError, PretrainError
from framework.pretrain.formats.trusted import UnpicklingError

#: What a training checkpoint has at least.
PARTS = ("meta", "state_dict", "message_hub")

#: Kinds of files: everything in one, or the weights in one and all else beside it.
FORMATS = ("pth", "safetensors")

#: The file in a folder, the checkpoint of a sharded model, that holds all but the tensors.
RUN_FILE = "run.pth"

_STATE_FILE = "training_state"  # entry in the description of the weights that names the file beside


def save_checkpoint(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Write a checkpoint.

    A `.pth` file holds everything, and `torch.load(path, weights_only=True)` reads it. A `.safetensors` file
    holds the weights, and names the file beside it that holds the rest. Either appears under its name when
    everything is complete and on the disk; until then an older checkpoint of that name stays as it is.

    Args:
        checkpoint: Tensors and plain values in dicts, lists and tuples; the weights are its `state_dict`.
        path: The file, in a folder that exists. Its suffix chooses the format.

    Raises:
        SaveError: It cannot be written, e.g. as the disk is full.
        TypeError: A value is neither tensor nor plain; the message says where it stands.
    """
    write_checkpoint(plain(checkpoint), Path(path))


def write_checkpoint(values: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint of plain values; see `save_checkpoint`."""
    if path.suffix == ".safetensors":
        _write_pair(values, path)
    else:
        checked = {**values, "checksums": get_crc32_options()}
        write_file(path, lambda file: torch.save(checked, file))


def _write_pair(values: Mapping[str, Any], path: Path) -> None:
    """Write the rest first, under a name that no other save uses; then the weights, which name it."""
    weights = {name: value for name, value in values["state_dict"].items() if isinstance(value, Tensor)}
    others = {name: value for name, value in values["state_dict"].items() if name not in weights}
    beside = path.with_name(f"{path.stem}.{uuid.uuid4().hex[:12]}.state")
    rest: dict[str, Any] = {key: value for key, value in values.items() if key != "state_dict"}
    rest["checksums"] = get_crc32_options()
    rest["weights"] = {
        "names": list(values["state_dict"]),
        "digest": digest(weights[name] for name in sorted(weights)),
        "others": others,
        "metadata": getattr(values["state_dict"], "_metadata", None),
    }
    write_file(beside, lambda file: torch.save(rest, file))
    own = {name: value.clone().contiguous() for name, value in weights.items()}  # shared memory is refused
    description = {"format": "pt", _STATE_FILE: beside.name}
    write_file(path, lambda file: save_file(own, file.name, description))
    for old in _state_files(path):
        if old != beside:
            old.unlink(missing_ok=True)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, with what lies beside it; it is no error if there is none."""
    path.unlink(missing_ok=True)
    for beside in _state_files(path) if path.suffix == ".safetensors" else ():
        beside.unlink(missing_ok=True)


def _state_files(path: Path) -> list[Path]:
    pattern = re.compile(re.escape(path.stem) + r"\.[0-9a-f]{12}\.state")
    return [file for file in path.parent.iterdir() if pattern.fullmatch(file.name)]


def write_text(path: Path, text: str) -> None:
    """Replace a small text file at once."""
    write_file(path, lambda file: file.write(text.encode()))


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace a file at once, by what `write` puts into the one that it gets.

    Raises:
        SaveError: The system refuses; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        with explained(path):
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                sync_to_disk(temporary)
            temporary.replace(path)
            sync_to_disk(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the system says about a file or folder that it does not write into a `SaveError`."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have their own kinds
        raise SaveError(
            f"{path} could not be written: {_cause(error)}{_room(path.parent)}. Checkpoints saved before are "
            f"whole. Make room, keep fewer files with default_hooks.checkpoint.max_keep_ckpts, or choose "
            f"another work_dir; then go on with --resume"
        ) from error


def _room(folder: Path) -> str:
    with suppress(OSError):
        return f" ({shutil.disk_usage(folder).free / 2**20:.1f} MiB are free there)"
    return ""


def _cause(error: BaseException) -> str:
    """Return the system's own words, where torch has put its own in front of them."""
    while error.__context__ is not None and not isinstance(error, OSError):
        error = error.__context__
    strerror = getattr(error, "strerror", None)
    return strerror or str(error).splitlines()[0]


def remove_left_over(folder: Path) -> None:
    """Remove what processes of this machine that are no more were writing into a folder."""
    pattern = re.compile(rf"\..+\.{re.escape(socket.gethostname())}-(\d+)\.tmp")
    for file in folder.iterdir():
        match = pattern.fullmatch(file.name)
        if match and not _is_alive(int(match[1])):
            file.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a training checkpoint of this project or of mmengine, on the CPU. No code of the file is run.

    Raises:
        NotFoundError: There is no such file.
        CheckpointError: It is damaged, or no training checkpoint.
    """
    path = Path(path).expanduser().absolute()
    if path.is_dir():
        path /= RUN_FILE
    contents = open_checkpoint(path)
    if contents.format == "safetensors":
        return _read_pair(path)
    missing = [part for part in PARTS if part not in contents.tree]
    if missing:
        raise _not_resumable(path, f"it has no {', '.join(missing)}")
    if is_of_mmengine(contents.tree):
        return plain_state(contents.tree)
    if contents.replaced:
        raise _not_resumable(path, f"it holds {', '.join(contents.replaced[:3])}")
    return _load(path)


def _read_pair(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, "pt") as file:
            name = (file.metadata() or {}).get(_STATE_FILE)
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DamagedCheckpointError(f"{path} is damaged: {error}") from error
    if name is None:
        raise _not_resumable(path, "it holds weights only")
    beside = path.with_name(Path(name).name)
    if not beside.is_file():
        raise _not_resumable(path, f"the file {beside.name} with the state of the training is not beside it")
    state = _load(beside)
    about = state.pop("weights")
    if about["digest"] != digest(weights[key] for key in sorted(weights)):
        raise DamagedCheckpointError(f"{path} is damaged: its weights are not those that were saved")
    values = weights | about["others"]
    state["state_dict"] = OrderedDict((key, values[key]) for key in about["names"])
    if about["metadata"] is not None:
        state["state_dict"]._metadata = about["metadata"]
    return state


def _load(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, UnpicklingError) as error:
        raise DamagedCheckpointError(f"{path} is damaged: {error}") from error
    if state.pop("checksums", False):
        _check_archive(path)
    return state


def _check_archive(path: Path) -> None:
    """Compare the checksums in the file, which torch writes and does not look at."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError) as error:
        raise DamagedCheckpointError(f"{path} is damaged: {error}") from error
    if damaged is not None:
        raise DamagedCheckpointError(f"{path} is damaged: the checksum of {damaged} in it is wrong")


def _not_resumable(path: Path, reason: str) -> PretrainError:
    return CheckpointError(
        f"{path} cannot be resumed from, as {reason}. To start from its weights, use model.pretrain={path}"
    )
