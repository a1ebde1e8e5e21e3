"""ResNets in the layouts of self-supervised repositories and OpenMMLab: our features are the source's."""

from __future__ import annotations

import pickle
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from framework import BACKBONES, MODELS
from framework.pretrain import load_pretrained

Weights = dict[str, Tensor]
R18 = dict(type="ResNet", depth=18)


def prefixed(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


def no_fc(weights: Weights) -> Weights:
    return {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")}


def noise(weights: Weights) -> Weights:
    return {name: torch.rand_like(t) if t.is_floating_point() else t for name, t in weights.items()}


def projector(name: str, *numbers: int) -> Weights:
    return {f"{name}.{n}.weight": torch.rand(16, 512) for n in numbers}


def moco(w: Weights) -> Any:
    encoder = no_fc(w) | {"fc.weight": torch.rand(7, 512), "fc.bias": torch.rand(7)}
    both = prefixed("module.encoder_q.", encoder) | prefixed("module.encoder_k.", noise(encoder))
    return dict(state_dict=both | {"module.queue": torch.rand(16, 32)}, arch="resnet18")


def moco_v3(w: Weights) -> Any:
    encoder = no_fc(w) | projector("fc", 0, 3)
    momentum = prefixed("module.momentum_encoder.", noise(encoder))
    return dict(state_dict=prefixed("module.base_encoder.", encoder) | momentum)


def densecl(w: Weights) -> Any:
    return dict(state_dict=prefixed("backbone.", no_fc(w)) | prefixed("encoder_q.0.", no_fc(w)))


def vissl(w: Weights) -> Any:
    model = dict(trunk=prefixed("_feature_blocks.", no_fc(w)), heads=projector("0.clf", 0))
    return dict(classy_state_dict=dict(base_model=dict(model=model)), phase_idx=1)


def numbered(w: Weights) -> Any:
    """The names of nn.Sequential(*list(resnet.children())[:-1])."""
    numbers = dict(conv1="0", bn1="1", layer1="4", layer2="5", layer3="6", layer4="7")
    return {re.sub(r"^\w+", lambda m: numbers[m[0]], name): tensor for name, tensor in no_fc(w).items()}


def detectron2(w: Weights) -> Weights:
    rules = (
        (r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}"),
        (r"^(conv|bn)1", r"stem.\g<1>1"),
        (r"bn(\d)", r"conv\1.norm"),
        (r"downsample\.0", "shortcut"),
        (r"downsample\.1", "shortcut.norm"),
    )
    result = {}
    for name, tensor in no_fc(w).items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        if not name.endswith("num_batches_tracked"):
            result[name] = tensor
    return result


LAYOUTS = {
    "torchvision": lambda w: w,
    "MoCo": moco,
    "MoCo v3": moco_v3,
    "SimSiam": lambda w: dict(state_dict=prefixed("module.encoder.", no_fc(w) | projector("fc", 0, 3, 6))),
    "SwAV": lambda w: prefixed("module.", no_fc(w) | projector("projection_head", 0, 3)),
    "DINO": lambda w: dict(
        student=prefixed("module.backbone.", noise(no_fc(w))), teacher=prefixed("module.backbone.", no_fc(w))
    ),
    "Barlow Twins": lambda w: dict(model=prefixed("module.backbone.", no_fc(w)) | projector("projector", 0)),
    "VICReg": no_fc,
    "BYOL": lambda w: dict(online_backbone=prefixed("module.", no_fc(w)), online_projector={}),
    "DenseCL": densecl,
    "VISSL": vissl,
    "lightly": lambda w: dict(
        state_dict=prefixed("backbone.", numbered(w)) | projector("projection_head", 0)
    ),
    "detectron2": lambda w: dict(model=prefixed("backbone.bottom_up.", detectron2(w)), iteration=3),
    "mmdetection": lambda w: dict(state_dict=prefixed("backbone.", no_fc(w)), meta=dict(epoch=1)),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_features_are_the_source_models(case, tmp_path, filled, assert_close) -> None:
    theirs = filled(resnet18())
    torch.save(LAYOUTS[case](dict(theirs.state_dict())), tmp_path / "file.pth")
    ours = BACKBONES.build(dict(R18, pretrain=str(tmp_path / "file.pth"))).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = nn.Sequential(*list(theirs.children())[:-2])(images)
        assert_close(ours(images)[-1], expected)
    assert not ours.pretrain_report.fresh, str(ours.pretrain_report)


def test_a_pickle_of_numpy_arrays_from_detectron2(tmp_path, filled, assert_close) -> None:
    theirs = filled(resnet18())
    arrays = {name: tensor.numpy() for name, tensor in detectron2(dict(theirs.state_dict())).items()}
    (tmp_path / "R-18.pkl").write_bytes(pickle.dumps(dict(model=arrays, __author__="x"), protocol=2))
    ours = BACKBONES.build(dict(R18, pretrain=str(tmp_path / "R-18.pkl"))).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(ours(images)[-1], nn.Sequential(*list(theirs.children())[:-2])(images))


def test_a_sequential_of_children_takes_torchvisions_file(tmp_path, filled, assert_close) -> None:
    theirs = filled(resnet18())
    torch.save(theirs.state_dict(), tmp_path / "file.pth")
    children = nn.Sequential(*list(resnet18().children())[:-2]).eval()
    load_pretrained(children, tmp_path / "file.pth")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(children(images), nn.Sequential(*list(theirs.children())[:-2])(images))


@pytest.mark.parametrize("case", ["MoCo", "MoCo v3"])
def test_a_projector_never_becomes_the_classifier(case, tmp_path, filled) -> None:
    torch.save(LAYOUTS[case](dict(filled(resnet18()).state_dict())), tmp_path / "file.pth")
    head = dict(type="ClassifierHead", dim=512, num_classes=7)
    model = MODELS.build(
        dict(
            type="Classifier",
            backbone=R18,
            neck=dict(type="GlobalAveragePooling"),
            head=head,
            pretrain=str(tmp_path / "file.pth"),
        )
    )
    assert set(model.pretrain_report.fresh) == {"head.fc.weight", "head.fc.bias"}
    plain = resnet18(num_classes=7)
    assert set(load_pretrained(plain, tmp_path / "file.pth").fresh) == {"fc.weight", "fc.bias"}


def mm_deep(weights: Weights, pooled: bool) -> Any:
    result = {}
    for name, tensor in no_fc(weights).items():
        name = re.sub(r"^conv1\.", "stem.", name)
        name = re.sub(r"^bn1\.", "stem.7.", name)
        if pooled and name.startswith("layer1."):  # nothing to pool in the first stage
            name = re.sub(r"downsample\.(\d)", lambda m: f"downsample.{int(m[1]) - 1}", name)
        result[name] = tensor
    return dict(state_dict=prefixed("backbone.", result))


@pytest.mark.parametrize(("name", "kind"), [("resnet50c", "ResNetV1c"), ("resnet50d", "ResNetV1d")])
@pytest.mark.parametrize("layout", ["timm", "mmpretrain"])
def test_deep_stems(name, kind, layout, tmp_path, filled, assert_close) -> None:
    timm = pytest.importorskip("timm")
    theirs = filled(timm.create_model(name))
    weights = dict(theirs.state_dict())
    torch.save(weights if layout == "timm" else mm_deep(weights, kind == "ResNetV1d"), tmp_path / "file.pth")
    ours = BACKBONES.build(dict(type=kind, depth=50, pretrain=str(tmp_path / "file.pth"))).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(ours(images)[-1], theirs.forward_features(images))
    assert not ours.pretrain_report.fresh, str(ours.pretrain_report)


def test_squeeze_and_excitation(tmp_path, filled, assert_close) -> None:
    timm = pytest.importorskip("timm")
    theirs = filled(timm.create_model("seresnet50"))
    weights = {
        re.sub(r"\.se\.fc(\d)\.", r".se_layer.conv\1.conv.", name): t
        for name, t in theirs.state_dict().items()
    }
    torch.save(dict(state_dict=prefixed("backbone.", no_fc(weights))), tmp_path / "file.pth")
    ours = BACKBONES.build(dict(type="SEResNet", depth=50, pretrain=str(tmp_path / "file.pth"))).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(ours(images)[-1], theirs.forward_features(images))
    assert not ours.pretrain_report.fresh, str(ours.pretrain_report)
