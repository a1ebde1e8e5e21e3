"""What a file says beside its tensors: who wrote it, and the harmless values in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from framework.pretrain.checkpoint import Checkpoint, Inert, LazyTensor
from framework.pretrain.dialects.common import NO_WEIGHTS, WRAPPERS
from framework.pretrain.inventory import Inventory

if TYPE_CHECKING:
    from framework.inspection.architecture import Architecture

#: Longer texts are cut, longer lists are left out.
LONGEST_TEXT, LONGEST_LIST = 200, 16

#: Values beyond this number are left out.
MOST_VALUES = 100

#: Keys at the top of a container -> whose habit it is to write them. The first that is there in full tells.
HABITS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"pytorch-lightning_version", "state_dict"}), "PyTorch Lightning"),
    (frozenset({"classy_state_dict"}), "VISSL"),
    (frozenset({"meta", "state_dict", "message_hub"}), "mmengine"),
    (frozenset({"meta", "state_dict"}), "OpenMMLab (mmcv or mmengine)"),
    (frozenset({"ds_config", "module"}), "DeepSpeed"),
    (frozenset({"module", "ds_version"}), "DeepSpeed"),
    (frozenset({"__author__", "model"}), "detectron2"),
    (frozenset({"model_state", "cfg"}), "pycls"),
    (frozenset({"student", "teacher", "dino_loss"}), "DINO"),
    (frozenset({"student", "teacher", "ibot_loss"}), "iBOT"),
    (frozenset({"experiment_state"}), "DeepMind's jaxline (BYOL)"),
    (frozenset({"target_encoder", "predictor"}), "I-JEPA or V-JEPA"),
    (frozenset({"collater_state", "models"}), "solo-learn or lightly"),
    (frozenset({"arch", "epoch", "state_dict", "version"}), "timm's training script"),
    (frozenset({"arch", "epoch", "state_dict"}), "a script after torch's ImageNet example (MoCo, SimSiam)"),
    (
        frozenset({"model", "optimizer", "epoch", "args"}),
        "a training script of FAIR or Microsoft (MAE, DeiT)",
    ),
    (frozenset({"model", "optimizer", "epoch", "config"}), "a training script of Microsoft (Swin, SimMIM)"),
)


def producer_of(checkpoint: Checkpoint, file: Inventory, architecture: Architecture | None) -> str:
    """Say who wrote a file, by its container and by its names; '' where nothing tells."""
    top = frozenset(checkpoint.tree)
    container = next((who for keys, who in HABITS if keys <= top), "")
    names = f"names as written by {architecture.producers}" if architecture else ""
    return "; ".join(filter(None, (container, names)))


def wrappers_in(keys: Iterable[str]) -> tuple[str, ...]:
    """Return the wrapper modules whose names are segments of keys."""
    found: dict[str, None] = {}
    for key in keys:
        if any(wrapper in key for wrapper in WRAPPERS):
            found.update(dict.fromkeys(s for s in key.split(".")[:-1] if s in WRAPPERS))
    return tuple(found)


def metadata_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the harmless values of a file by dotted name: numbers, texts, short lists of them."""
    said = list(checkpoint.metadata.items())[:MOST_VALUES]
    found: dict[str, Any] = {name: _cut(text) for name, text in said}
    _collect(checkpoint.tree, "", found)
    return found


def _collect(node: Mapping[str, Any], path: str, found: dict[str, Any]) -> None:
    for key, value in node.items():
        name = f"{path}.{key}" if path else key
        inner = value.state if isinstance(value, Inert) else value
        if len(found) >= MOST_VALUES or isinstance(inner, LazyTensor) or key in NO_WEIGHTS:
            continue
        if isinstance(inner, Mapping):
            _collect(inner, name, found)
        elif isinstance(inner, list):
            if len(inner) <= LONGEST_LIST and all(_is_scalar(item) for item in inner):
                found[name] = [_cut(item) for item in inner]
        elif _is_scalar(inner) and inner is not None:
            found[name] = _cut(inner)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return f"{value[:LONGEST_TEXT]}... ({len(value):,} characters)"
    return value
