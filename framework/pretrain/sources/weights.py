"""Which of a folder's files are its weights. Names only, but for the index of a sharded checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from framework.pretrain.errors import DownloadError, NotFoundError

# In the order of preference: safetensors before pickles, whole files before shards.
USUAL_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "pytorch_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.bin",
)
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".pth.tar", ".ckpt", ".npz", ".pkl")
# What a trainer leaves beside the weights.
NO_WEIGHTS = (
    "training_args.bin",
    "optimizer",
    "scheduler",
    "rng_state",
    "scaler",
    "random_states",
    "adapter_model",
)
INDEX_SUFFIX = ".index.json"
# Written last into a folder of torch.distributed.checkpoint, which is read as a whole.
DISTRIBUTED_MARK = ".metadata"


def choose(names: Iterable[str], where: str) -> str:
    """Return the one file to read out of a folder: its weights, or the index of their shards.

    Args:
        names: Paths of files relative to the folder, with forward slashes.
        where: The folder's address, for the error, which says how to name one file of it.

    Raises:
        NotFoundError: no file looks like weights, or several do and none has a usual name.
    """
    candidates = sorted(name for name in names if _is_weights(name))
    top = [name for name in candidates if "/" not in name]
    for usual in USUAL_NAMES:
        if usual in top:
            return usual
    for choices in ([name for name in top if name.endswith(".safetensors")], top, candidates):
        if len(choices) == 1:
            return choices[0]
    if not candidates:
        raise NotFoundError(f"{where} holds no file of weights (names ending in {', '.join(SUFFIXES)})")
    listing = "".join(f"\n  {where.rstrip('/')}/{name}" for name in candidates[:20])
    rest = f"\n  and {len(candidates) - 20} more" if len(candidates) > 20 else ""
    raise NotFoundError(f"{where} holds several files of weights; name one of them:{listing}{rest}")


def _is_weights(name: str) -> bool:
    base = PurePosixPath(name).name
    return (base in USUAL_NAMES or base.endswith(SUFFIXES)) and not base.startswith(NO_WEIGHTS)


def shards_of(index: Path, where: str) -> list[str]:
    """Return the names of the files that a `*.index.json` spreads the weights over, each once.

    Raises:
        DownloadError: the file is no such index, or names files outside its own folder.
    """
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DownloadError(f"{where} is no index of a sharded checkpoint: it has no 'weight_map'") from error
    for name in names:
        if not is_plain(name):
            raise DownloadError(f"{where} names {name!r}, which is no plain name of a file beside it")
    return sorted(names)


def is_plain(name: object) -> bool:
    """Tell whether this is the name of a file in a folder, and no path that leads elsewhere."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set('/\\:?#%*"<>|\0')
