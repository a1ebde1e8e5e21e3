from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from framework import BACKBONES
from framework.errors import ConfigError
from framework.models.backbones.layer_order import find_layer_order
from framework.models.backbones.probe import run_without_values

TINY = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
ISOTROPIC = [
    *(
        {"model_type": kind, "image_size": 32, "patch_size": 8, **TINY}
        for kind in ("vit", "beit", "clip_vision_model")
    ),
    {"model_type": "dinov2", "image_size": 28, "patch_size": 14, **TINY},
]
STAGED = {"depths": [2, 1, 2], "image_size": 64}
HIERARCHICAL = [
    {
        "model_type": "resnet",
        "hidden_sizes": [16, 24, 32],
        "embedding_size": 16,
        "layer_type": "basic",
        **STAGED,
    },
    {"model_type": "convnext", "hidden_sizes": [16, 24, 32], "num_stages": 3, **STAGED},
    {
        "model_type": "swin",
        "embed_dim": 8,
        "num_heads": [2, 2, 2],
        "window_size": 4,
        "patch_size": 4,
        **STAGED,
    },
]


def depths(backbone):
    return {name: backbone.get_layer_depth(name)[0] for name, _ in backbone.named_parameters()}


@pytest.mark.parametrize("config", ISOTROPIC, ids=lambda config: config["model_type"])
def test_layers_of_transformers_networks(config):
    pytest.importorskip("transformers")
    backbone = BACKBONES.build({"type": "HuggingFaceBackbone", "config": config})
    found = depths(backbone)
    for name, depth in found.items():
        numbers = [int(part) for part in name.split(".") if part.isdigit()]
        expected = numbers[0] + 1 if numbers else 0 if "embeddings" in name or "pre_layrnorm" in name else 4
        assert depth == expected, name
    assert {0, 1, 2, 3, 4} == set(found.values()) and backbone.num_blocks() == 3


@pytest.mark.parametrize("config", HIERARCHICAL, ids=lambda config: config["model_type"])
def test_stages_of_transformers_networks(config):
    pytest.importorskip("transformers")
    backbone = BACKBONES.build({"type": "HuggingFaceBackbone", "config": config})
    assert backbone.layer_order.stage_ends == (2, 3, 5)
    found = depths(backbone)
    order = list(found.values())
    assert order == sorted(order) or config["model_type"] == "swin"  # its merging stands after the blocks
    merging = {name: depth for name, depth in found.items() if "downsample" in name}
    assert set(merging.values()) <= {3, 4}, "between stages: part of the block that follows"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vit_tiny_patch16_224", {"depth": 3, "embed_dim": 12, "num_heads": 2, "img_size": 32}),
        ("resnet18", {}),
        ("convnext_atto", {"depths": (2, 1, 2, 1), "dims": (8, 12, 16, 20)}),
        ("swin_tiny_patch4_window7_224", {"depths": (2, 2), "num_heads": (2, 2), "embed_dim": 8}),
    ],
)
def test_layers_of_timm_networks_are_timms(name, arguments):
    timm = pytest.importorskip("timm")
    from timm.models import group_parameters

    backbone = BACKBONES.build({"type": "TimmBackbone", "model_name": name, **arguments})
    network = backbone.timm_model
    theirs = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    ours = {n.removeprefix("timm_model."): depth for n, depth in depths(backbone).items()}
    differing = {n for n in ours if ours[n] != theirs[n]}
    assert differing <= {"norm.weight", "norm.bias"}, timm.__version__  # timm: part of the last block


@pytest.mark.parametrize(
    ("name", "blocks", "stages"),
    [
        ("mnasnet0_5", 16, (3, 6, 9, 11, 15, 16)),
        ("squeezenet1_0", 8, (2, 3, 4, 6, 7, 8)),
        ("shufflenet_v2_x0_5", 16, (4, 12, 16)),
    ],
)
def test_layers_of_torchvision_networks(name, blocks, stages):
    backbone = BACKBONES.build({"type": "TorchvisionBackbone", "name": name})
    assert (backbone.num_blocks(), backbone.layer_order.stage_ends) == (blocks, stages)
    found = list(depths(backbone).values())
    assert found == sorted(found) and set(range(blocks + 1)) <= set(found)


OWN = [
    {"type": "ResNet", "depth": 18, "stem_channels": 4, "base_channels": 4},
    {
        "type": "SwinTransformer",
        "arch": {"embed_dims": 8, "depths": [2, 2], "num_heads": [2, 2]},
        "img_size": 32,
    }
    | {"window_size": 4, "out_indices": [0, 1]},
    *(
        {"type": kind, "img_size": 32, "patch_size": 8, "final_norm": True}
        | {"arch": {"embed_dims": 16, "num_layers": 2, "num_heads": 2, "feedforward_channels": 16}}
        for kind in ("VisionTransformer", "BEiTViT")
    ),
]


@pytest.mark.parametrize("config", OWN, ids=lambda config: config["type"])
def test_the_layers_that_our_own_backbones_tell_are_those_that_run(config):
    backbone = BACKBONES.build(config)
    order = find_layer_order(backbone, lambda: run_without_values(backbone, 1, 3, 32, 32))
    for name, depth in depths(backbone).items():
        if config["type"] != "SwinTransformer" or not name.startswith("norm"):  # one norm per output
            assert depth == order.depth_of(name), name


def test_the_groups_of_convnext_are_in_the_order_in_which_they_run():
    arch = {"depths": [2, 2, 10, 1], "channels": [4, 8, 12, 16]}
    backbone = BACKBONES.build({"type": "ConvNeXt", "arch": arch})
    order = find_layer_order(backbone, lambda: run_without_values(backbone, 1, 3, 64, 64))
    found = depths(backbone)
    names = sorted(found, key=order.depth_of)
    assert [found[name] for name in names] == sorted(found.values())


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)) for _ in range(2)))
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return self.blocks(x) * self.scale


def test_a_parameter_that_is_not_used_has_no_layer():
    network = Unused()
    order = find_layer_order(network, lambda: network(torch.ones(1, 2)))
    assert [order.depth_of(name) for name in ("scale", "blocks.0.1.bias", "blocks.1.0.weight")] == [0, 0, 1]
    with pytest.raises(
        ConfigError, match=r"parameter unused\.weight fits no layer, as the network does not use"
    ):
        order.depth_of("unused.weight")


FOREIGN = [
    ({"type": "TorchvisionBackbone", "name": "squeezenet1_0"}, 6),
    ({"type": "TimmBackbone", "model_name": "resnet18"}, 4),
    ({"type": "HuggingFaceBackbone", "config": ISOTROPIC[0]}, 3),
    ({"type": "HuggingFaceBackbone", "config": HIERARCHICAL[0]}, 3),
]


@pytest.mark.parametrize(("config", "count"), FOREIGN, ids=lambda value: str(value)[9:75])
def test_frozen_stages(config, count):
    pytest.importorskip("timm" if "Timm" in config["type"] else "transformers")
    free = BACKBONES.build(config)
    assert all(p.requires_grad for p in free.parameters()) and all(m.training for m in free.modules())
    total = len(free.layer_order.stage_ends)
    assert total == count
    for stages in (0, 2, total):
        backbone = copy.deepcopy(BACKBONES.build({**config, "frozen_stages": stages}))
        backbone.train()
        ends = (0, *free.layer_order.stage_ends)
        limit = 99 if stages == total else ends[stages]
        for name, parameter in backbone.named_parameters():
            assert parameter.requires_grad is (backbone.get_layer_depth(name)[0] > limit), (stages, name)
        for name, part in backbone.named_modules():
            own = [p.requires_grad for p in part.parameters()]
            assert not own or not name or part.training is any(own), (stages, name)
    with pytest.raises(ConfigError, match=rf"accepted are -1 \(nothing\) to {total} \(everything\)"):
        BACKBONES.build({**config, "frozen_stages": total + 1})
