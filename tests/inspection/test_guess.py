"""The config that `inspect` prints builds, and takes all of the file."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from framework.inspection import inspect_file
from framework.inspection.architecture import Architecture, config_line
from framework.pretrain.translate import rename
from framework.registry import BACKBONES

KEYS = Path(__file__).parents[1] / "pretrain" / "keys"


def stored(file: Path) -> dict[str, torch.Tensor]:
    """A state of zeros, with the names and shapes of a real model."""
    lines = file.read_text().splitlines()[1:]
    return {n: torch.zeros(tuple(map(int, shape))) for n, *shape in (line.split() for line in lines)}


def built(line: str) -> nn.Module:
    """Build what a printed line `backbone=dict(...)` says, and nothing else."""
    call = ast.parse(f"dict({line})", mode="eval")
    config = eval(compile(call, "line", "eval"), {"__builtins__": {}, "dict": dict})
    return BACKBONES.build(config["backbone"])


#: One real model per naming scheme. Tiny ResNets have no depth that there is a class for; see below.
NAMED = [path.stem for path in sorted(KEYS.glob("*.txt")) if not path.stem.startswith("resnet")]


@pytest.mark.parametrize("name", NAMED)
def test_the_printed_config_takes_the_whole_file(name: str, tmp_path: Path) -> None:
    torch.save(stored(KEYS / f"{name}.txt"), tmp_path / "file.pth")
    facts = inspect_file(tmp_path / "file.pth", sha256=False)
    assert facts.architecture is not None
    line = config_line(facts.architecture, str(facts.path))
    assert line is not None
    report = built(line).pretrain_report
    assert not report.fresh, str(report)
    assert not report.mismatched, str(report)


TORCHVISION = ["resnet18"]


@pytest.mark.parametrize("name", TORCHVISION)
def test_models_of_torchvision(name: str, tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        state = getattr(torchvision.models, name)().state_dict()
    check(state, tmp_path / "file.pth")


@pytest.mark.parametrize("dialect", ["mmpretrain", "huggingface", "detectron2", "sequential"])
def test_a_resnet_in_other_names(dialect: str, tmp_path: Path) -> None:
    source = BACKBONES.build(dict(type="ResNet", depth=18, base_channels=8, stem_channels=8))
    check(rename(source.state_dict(), dialect), tmp_path / "file.pth")


THREE = dict(strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
SMALL = dict(embed_dims=64, num_layers=2, num_heads=1, feedforward_channels=128)
OURS = {
    "Wide ResNet": dict(type="ResNet", depth=50, base_channels=8, width_per_group=128),
    "ResNeXt": dict(type="ResNeXt", depth=50, base_channels=16, stem_channels=16),
    "ResNetV1d": dict(type="ResNetV1d", depth=50, base_channels=16, stem_channels=16),
    "SEResNet": dict(type="SEResNet", depth=18, base_channels=32),
    "three stages": dict(type="ResNet", depth=18, num_stages=3, **THREE, in_channels=4),
    "group norm": dict(type="ResNet", depth=18, norm_cfg=dict(type="GN", num_groups=32)),
    "DeiT": dict(type="DistilledVisionTransformer", arch=SMALL, img_size=64),
    "registers": dict(type="VisionTransformer", arch=SMALL, img_size=64, num_registers=4),
    "no_embed_class": dict(type="VisionTransformer", arch=SMALL, img_size=64, no_embed_class=True),
    "mean of the patches": dict(
        type="VisionTransformer", arch=SMALL, img_size=64, out_type="avg_featmap", final_norm=False
    ),
    "huge": dict(
        type="VisionTransformer",
        arch=dict(embed_dims=1280, num_layers=1, num_heads=16, feedforward_channels=64),
        patch_size=14,
    ),
    "oblong patches": dict(type="VisionTransformer", arch=SMALL, img_size=(64, 32), patch_size=(16, 8)),
    "positions of Swin": dict(
        type="SwinTransformer",
        arch=dict(embed_dims=8, depths=(1, 2, 1, 1), num_heads=(1, 2, 4, 8)),
        use_abs_pos_embed=True,
        img_size=64,
    ),
    "ConvNeXt V2": dict(type="ConvNeXt", arch="atto", use_grn=True, layer_scale_init_value=0.0),
}


@pytest.mark.parametrize("name", OURS)
def test_the_arguments_are_told(name: str, tmp_path: Path) -> None:
    source = BACKBONES.build(OURS[name])
    target = check(source.state_dict(), tmp_path / "file.pth")
    assert {n: t.shape for n, t in target.state_dict().items()} == {
        n: t.shape for n, t in source.state_dict().items()
    }
    for backbone in (source, target):
        assert getattr(backbone, "num_prefix_tokens", 0) == getattr(source, "num_prefix_tokens", 0)
    heads = [getattr(part, "num_heads", None) for part in source.modules()]
    assert [getattr(part, "num_heads", None) for part in target.modules()] == heads


def check(state: dict[str, torch.Tensor], path: Path) -> nn.Module:
    torch.save({n: torch.zeros((), dtype=t.dtype).expand(t.shape) for n, t in state.items()}, path)
    facts = inspect_file(path, sha256=False)
    assert facts.architecture is not None
    line = config_line(facts.architecture, str(path))
    assert line is not None
    module = built(line)
    report = module.pretrain_report
    assert not (report.fresh or report.mismatched or report.adapted or report.left_inside()), str(report)
    return module


def test_what_the_file_does_not_tell_is_said(tmp_path: Path) -> None:
    state = BACKBONES.build(dict(type="VisionTransformer", arch="tiny", img_size=32)).state_dict()
    torch.save(state, tmp_path / "file.pth")
    architecture = inspect_file(tmp_path / "file.pth", sha256=False).architecture
    assert architecture is not None and architecture.assumed == ("num_heads",)
    assert architecture.figures == dict(depth=12, width=192, heads=3, patch_size=16, image_size=32)


def test_a_network_of_no_known_family(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).state_dict(), tmp_path / "file.pth")
    assert inspect_file(tmp_path / "file.pth", sha256=False).architecture is None


#: Networks of other architectures whose names are like those of a family -> what the output says.
LIKE = {
    "cait_xxs24_224": r"attn\.\{?proj_l",
    "eva02_tiny_patch14_224": r"blocks\.\{0...11\}\.mlp\.fc1",
    "samvit_base_patch16": "pos_embed",
    "vit_relpos_small_patch16_224": r"attn\.rel_pos",
    "vit_tiny_r_s16_p8_224": r"patch_embed\.backbone",
    "convit_tiny": r"attn\.qkv\.weight",
    "convnext_atto_ols": r"stem\.0",
    "edgenext_xx_small": r"conv_dw",
    "legacy_seresnet50": r"se_module",
    "ecaresnet50t": r"se\.conv",
}


@pytest.mark.parametrize("name", LIKE)
def test_no_config_for_what_only_looks_like_a_class(name: str, tmp_path: Path) -> None:
    """One that builds and loads would compute something else."""
    found = inspected(name, tmp_path)
    assert found is not None and found.figures
    assert config_line(found, "x") is None and not found.assumed
    assert re.search(LIKE[name], " ".join(found.unlike)), found.unlike


@pytest.mark.parametrize(
    "name", ["mvitv2_tiny", "swinv2_cr_tiny_ns_224", "poolformer_s12", "efficientformer_l1"]
)
def test_networks_that_share_little_with_a_family_are_none_of_it(name: str, tmp_path: Path) -> None:
    assert inspected(name, tmp_path) is None


def inspected(name: str, folder: Path) -> Architecture | None:
    """Inspect a file with the names and shapes of a model of timm, and no values."""
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    header, end = {}, 0
    for key, tensor in state.items():
        start, end = end, end + 4 * tensor.numel()
        header[key] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with (folder / "a.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return inspect_file(folder / "a.safetensors", sha256=False).architecture


def _without(*names: str):
    return lambda state: {n: v for n, v in state.items() if not n.startswith(names)}


def _reshaped(name: str, shape: tuple[int, ...]):
    return lambda state: {**state, name: torch.zeros(shape)}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("resnet18", _without("layer1.0.")),
        ("resnet18", _without("layer4.0.")),
        ("resnet18", _without("layer3.")),
        ("resnet18", _reshaped("conv1.weight", (5,))),
        ("resnet18", _reshaped("layer1.0.conv2.weight", ())),
        ("resnet50", _without("layer1.0.conv2.")),
        ("resnet50", _reshaped("layer1.0.conv2.weight", (64, 0, 3, 3))),
    ],
)
def test_a_network_with_holes_is_named_and_has_no_config(name, change, tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        state = getattr(torchvision.models, name)().state_dict()
    state = {key: torch.empty_like(value, device="cpu") for key, value in state.items()}
    torch.save(change(state), tmp_path / "file.pth")
    found = inspect_file(tmp_path / "file.pth", sha256=False).architecture
    assert found is not None and found.family == "resnet" and found.figures["blocks"]
    assert config_line(found, "file.pth") is None and not found.assumed


@pytest.mark.parametrize("name", [path.stem for path in sorted(KEYS.glob("*.timm.txt"))])
def test_no_shape_of_a_file_stops_the_guess(name: str, tmp_path: Path) -> None:
    """Every tensor loses its dimensions in one file, and is away in another."""
    state = stored(KEYS / f"{name}.txt")
    shapes = [{n: torch.zeros(()) for n in state}, {n: torch.zeros(0, 0) for n in state}]
    half = {n: value for number, (n, value) in enumerate(state.items()) if number % 2}
    for number, changed in enumerate([*shapes, half]):
        torch.save(changed, tmp_path / f"{number}.pth")
        facts = inspect_file(tmp_path / f"{number}.pth", sha256=False)
        assert len(facts.tensors) == len(changed)
