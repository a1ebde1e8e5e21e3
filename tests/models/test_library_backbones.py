"""Networks of torchvision, timm and transformers as backbones."""

import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from framework.errors import ConfigError
from framework.models.backbones.probe import run_without_values
from framework.registry import BACKBONES, MODELS

TINY_RESNET = {"model_type": "resnet", "depths": [1, 1], "hidden_sizes": [8, 16], "embedding_size": 8}
TINY_VIT = {
    "model_type": "vit",
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
TINY_SWIN = {
    "model_type": "swin",
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 4],
    "window_size": 4,
    "image_size": 64,
    "patch_size": 4,
}


def randomise(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.1 + ("var" in name))
    return model.eval()


def saved(model: nn.Module, folder: Path) -> str:
    torch.save(model.state_dict(), folder / "model.pth")
    return str(folder / "model.pth")


@pytest.mark.parametrize(
    ("name", "trunk", "stages", "channels"),
    [
        ("efficientnet_b0", "features", 5, (16, 1280)),
        ("mobilenet_v3_small", "features", 5, (16, 576)),
        ("squeezenet1_1", "features", 4, (64, 512)),
        ("mnasnet0_5", "layers", 5, (8, 1280)),
        ("regnet_y_400mf", "trunk_output", 5, (32, 440)),
    ],
)
def test_features_are_torchvisions(
    name: str, trunk: str, stages: int, channels: tuple, tmp_path: Path
) -> None:
    oracle = randomise(torchvision.models.get_model(name, weights=None))
    cfg = {"type": "TorchvisionBackbone", "name": name, "out_indices": (0, -1)}
    model = BACKBONES.build({**cfg, "pretrain": saved(oracle, tmp_path)}).eval()
    assert not model.pretrain_report.fresh
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        first, last = model(images)
        whole = oracle.get_submodule(trunk)(oracle.stem(images) if name.startswith("regnet") else images)
    assert torch.equal(last, whole)
    assert (
        len(model.stages) == stages and model.out_channels == channels and model.feature_dim == channels[-1]
    )
    assert first.shape[:2] == (1, channels[0]) and first.shape[2] > last.shape[2]


def test_stages_end_with_the_last_part_of_each_resolution() -> None:
    model = BACKBONES.build({"type": "TorchvisionBackbone", "name": "resnet18", "out_indices": (1, 2, 3, 4)})
    assert model.stages == ("relu", "layer1", "layer2", "layer3", "layer4")
    native = BACKBONES.build({"type": "ResNet", "depth": 18, "out_indices": (0, 1, 2, 3)}).eval()
    native.load_state_dict({name.removeprefix("model."): value for name, value in model.state_dict().items()})
    images = torch.randn(1, 3, 64, 64)
    ours, theirs = model.eval()(images), native(images)
    assert model.out_channels == native.out_channels == (64, 128, 256, 512)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_parts_by_name_other_channels_and_arguments() -> None:
    cfg = {"type": "TorchvisionBackbone", "name": "shufflenet_v2_x0_5", "in_channels": 5}
    model = BACKBONES.build({**cfg, "features": ["stage3", "stage2"]}).eval()
    assert model.out_channels == (96, 48) and model.model.conv1[0].weight.shape[1] == 5
    shapes = [tuple(feature.shape) for feature in model(torch.randn(1, 5, 64, 64))]
    assert shapes == [(1, 96, 4, 4), (1, 48, 8, 8)]
    wide = BACKBONES.build(
        {"type": "TorchvisionBackbone", "name": "mobilenet_v2", "model_args": {"width_mult": 0.5}}
    )
    assert wide.out_channels == (1280,) and wide.model.features[0][0].out_channels == 16
    depth = {"model.features.0.0.weight": 0, "model.features.3.conv.0.0.weight": 3}
    assert {name: wide.get_layer_depth(name)[0] for name in depth} == depth
    assert wide.get_layer_depth("backbone.model.features.18.1.bias", "backbone.") == (18, 19)


def test_a_classifier_on_torchvisions_network() -> None:
    model = MODELS.build(
        {
            "type": "Classifier",
            "backbone": {"type": "TorchvisionBackbone", "name": "googlenet", "norm_eval": True},
            "neck": {"type": "GlobalAveragePooling"},
            "head": {"type": "ClassifierHead", "num_classes": 3},
        }
    ).train()
    loss = model(torch.randn(2, 3, 64, 64), torch.tensor([0, 2]), mode="loss")["loss"]
    loss.backward()
    assert model.head.in_channels == 1024
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    assert not model.backbone.model.conv1.bn.training


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "efficientnet_b9"}, "no network 'efficientnet_b9': did you mean efficientnet_b"),
        ({"name": "vit_b_16"}, "use VisionTransformer"),
        ({"name": "swin_v2_t"}, "use SwinTransformerV2"),
        ({"name": "squeezenet1_1", "features": ["features.33"]}, "did you mean features.*Stages: features.1"),
        ({"name": "squeezenet1_1", "out_indices": 4}, "from 0 to 3"),
    ],
)
def test_wrong_names_are_told_with_the_nearest(arguments: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BACKBONES.build({"type": "TorchvisionBackbone", **arguments})


def test_finding_shapes_reads_and_changes_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model[2].eval()
    output = run_without_values(model, 2, 3, 8, 8)
    assert output.shape == (2, 4, 6, 6) and output.device.type == "meta"
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model[0].training and not model[2].training and model[0].weight.device.type == "cpu"


@pytest.mark.parametrize("kind", ["TimmBackbone", "TIMMBackbone"])
def test_features_are_timms(kind: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    oracle = randomise(timm.create_model("test_resnet"))
    cfg = {"type": kind, "model_name": "test_resnet", "pretrain": saved(oracle, tmp_path)}
    model, staged = (BACKBONES.build({**cfg, **own}).eval() for own in ({}, {"out_indices": (1, -1)}))
    assert not model.pretrain_report.fresh and not staged.pretrain_report.fresh
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images)[0], oracle.forward_features(images))
        theirs = oracle.forward_intermediates(images, indices=[1, 4], intermediates_only=True)
        assert all(torch.equal(a, b) for a, b in zip(staged(images), theirs, strict=True))
    assert model.out_channels == (model.feature_dim,) == (model(images)[0].shape[1],)
    assert staged.out_channels == tuple(feature.shape[1] for feature in theirs)


def test_arguments_of_timm_and_of_mmpretrain() -> None:
    pytest.importorskip("timm")
    cfg = {"type": "TimmBackbone", "model_name": "test_vit", "in_channels": 1, "img_size": 64}
    model = BACKBONES.build({**cfg, "features_only": True}).eval()
    features = model(torch.randn(1, 1, 64, 64))
    assert len(features) == len(model.out_channels) and all(f.ndim == 4 for f in features)
    assert tuple(f.shape[1] for f in features) == model.out_channels
    tokens = BACKBONES.build(cfg)(torch.randn(1, 1, 64, 64))[0]
    assert tokens.shape == (1, 17, 64)
    names = [name for name, _ in model.named_parameters()]
    depths = [model.get_layer_depth(name)[0] for name in names]
    assert model.get_layer_depth("timm_model.patch_embed.proj.weight")[0] == 0
    assert max(depths) == model.get_layer_depth("timm_model.norm.weight")[1] - 1 and depths == sorted(depths)


def test_checkpoint_path_is_another_way_to_load(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    oracle = randomise(timm.create_model("test_resnet"))
    cfg = {"type": "TimmBackbone", "model_name": "test_resnet", "checkpoint_path": saved(oracle, tmp_path)}
    model = BACKBONES.build(cfg)
    assert torch.equal(model.timm_model.conv1[0].weight, oracle.conv1[0].weight)
    model.init_weights()
    assert torch.equal(model.timm_model.conv1[0].weight, oracle.conv1[0].weight)


def test_networks_that_timm_lacks_are_told() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ConfigError, match="no network 'test_resnett': did you mean test_resnet"):
        BACKBONES.build({"type": "TimmBackbone", "model_name": "test_resnett"})


@pytest.mark.parametrize(
    ("cfg", "size", "last", "out_channels"),
    [
        (TINY_RESNET, 64, (1, 16, 8, 8), (8, 16)),
        (TINY_VIT, 32, (1, 17, 24), (24, 24)),
        (TINY_SWIN, 64, (1, 64, 16), (16, 16)),
    ],
    ids=lambda value: value.get("model_type") if isinstance(value, dict) else "",
)
def test_features_are_those_of_transformers(
    cfg: dict, size: int, last: tuple, out_channels: tuple, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    args = {key: value for key, value in cfg.items() if key != "model_type"}
    config = transformers.AutoConfig.for_model(cfg["model_type"], **args)
    oracle = randomise(transformers.AutoModel.from_config(config))
    oracle.save_pretrained(tmp_path)
    built = {"type": "HuggingFaceBackbone", "config": cfg}
    images = torch.randn(1, 3, size, size)
    theirs = oracle(pixel_values=images, output_hidden_states=True)
    for how in (cfg, str(tmp_path)):
        model = BACKBONES.build({**built, "config": how, "pretrain": str(tmp_path)}).eval()
        assert not model.pretrain_report.fresh
        torch.testing.assert_close(model(images)[0], theirs.last_hidden_state)
        assert model(images)[0].shape == last and model.feature_dim == out_channels[-1]
    staged = BACKBONES.build({**built, "out_indices": (0, 1), "pretrain": str(tmp_path)}).eval()
    features = staged(images)
    assert staged.out_channels == tuple(f.shape[1 if f.ndim == 4 else -1] for f in features) == out_channels
    expected = getattr(theirs, "reshaped_hidden_states", None) or theirs.hidden_states
    torch.testing.assert_close(features[0], expected[1])


def test_other_channels_and_wrong_types_of_transformers() -> None:
    pytest.importorskip("transformers")
    model = BACKBONES.build({"type": "HuggingFaceBackbone", "config": TINY_RESNET, "in_channels": 2})
    assert model(torch.randn(1, 2, 32, 32))[0].shape == (1, 16, 4, 4) and model.feature_dim == 16
    with pytest.raises(ConfigError, match="no model_type 'resnett': did you mean resnet"):
        BACKBONES.build({"type": "HuggingFaceBackbone", "config": {"model_type": "resnett"}})


@pytest.mark.parametrize(
    ("package", "cfg"),
    [
        ("timm", {"type": "TimmBackbone", "model_name": "resnet18"}),
        ("transformers", {"type": "HuggingFaceBackbone", "config": TINY_VIT}),
    ],
)
def test_a_missing_library_is_told(package: str, cfg: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=f"pip install {package}"):
        BACKBONES.build(cfg)
