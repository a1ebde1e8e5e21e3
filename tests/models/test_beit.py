"""BEiT against timm's, and what mmpretrain's arguments mean."""

import math

import pytest
import torch
from torch import nn

from framework.errors import ConfigError
from framework.models.backbones import BEiTViT
from framework.models.layers.beit_block import index_with_class_token
from framework.registry import BACKBONES

ARCH = {"embed_dims": 48, "num_layers": 3, "num_heads": 3, "feedforward_channels": 96}


def small(**kwargs: object) -> BEiTViT:
    return BEiTViT(**{"arch": ARCH, "img_size": 32, "patch_size": 8, **kwargs})


def timm_small(**kwargs: object) -> nn.Module:
    beit = pytest.importorskip("timm.models.beit")
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3, "mlp_ratio": 2}
    own = {"use_abs_pos_emb": False, "use_rel_pos_bias": True, "init_values": 0.1, "num_classes": 0}
    model = beit.Beit(**{**sizes, **own, **kwargs})
    generator = torch.Generator().manual_seed(3)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return model.eval()


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


SHARED = {"use_rel_pos_bias": False, "use_shared_rel_pos_bias": True}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        (SHARED, SHARED),
        ({"use_abs_pos_emb": True}, {"use_abs_pos_emb": True}),
        (
            {"use_abs_pos_emb": True, "use_rel_pos_bias": False},
            {"use_abs_pos_emb": True, "use_rel_pos_bias": False},
        ),
        ({"layer_scale_init_value": 0}, {"init_values": None}),
        ({"bias": False}, {"qkv_bias": False}),
        ({"out_type": "cls_token", "final_norm": True}, {"global_pool": "token"}),
        ({"img_size": (16, 40), "in_channels": 1}, {"img_size": (16, 40), "in_chans": 1}),
    ],
    ids=lambda arguments: ",".join(arguments),
)
def test_features_equal_timms(ours: dict, theirs: dict) -> None:
    oracle, model = timm_small(**theirs), small(**ours).eval()
    model.load_state_dict(oracle.state_dict())
    images = torch.randn(2, theirs.get("in_chans", 3), *theirs.get("img_size", (32, 32)))
    with torch.no_grad():
        close(model(images)[0], oracle(images))


def test_keys_may_have_a_bias() -> None:
    oracle, model = timm_small(), small(bias=True).eval()
    weights = oracle.state_dict()
    for i in range(3):
        query, value = (weights.pop(f"blocks.{i}.attn.{name}_bias") for name in "qv")
        weights[f"blocks.{i}.attn.qkv.bias"] = torch.cat((query, torch.zeros(48), value))
    model.load_state_dict(weights)
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        close(model(images)[0], oracle(images))


@pytest.mark.parametrize("name", ["base", "large"])
def test_named_sizes_are_timms(name: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        oracle = timm.create_model(f"beitv2_{name}_patch16_224", num_classes=0).state_dict()
        model = BEiTViT(name)
    ours = {key: value.shape for key, value in model.state_dict().items()}
    assert ours == {key: value.shape for key, value in oracle.items()}


def test_index_of_pairs_with_the_class_token() -> None:
    index = index_with_class_token((2, 3))
    offsets = [(row, column) for row in range(-1, 2) for column in range(-2, 3)]
    offsets += ["from class", "to class", "class"]
    assert offsets[index[0, 0]] == "class"
    for i in range(6):
        assert offsets[index[0, i + 1]] == "from class" and offsets[index[i + 1, 0]] == "to class"
        for j in range(6):
            assert offsets[index[i + 1, j + 1]] == (i // 3 - j // 3, i % 3 - j % 3)


def test_without_a_class_token_tables_have_no_rows_for_it() -> None:
    model = small(with_cls_token=False)
    assert model.blocks[0].attn.relative_position_bias_table.shape == (49, 3)
    assert model(torch.randn(1, 3, 32, 32))[0].shape == (1, 48)
    assert small(with_cls_token=False, **SHARED)(torch.randn(1, 3, 32, 32))[0].shape == (1, 48)


def test_what_the_loader_needs() -> None:
    model = small(img_size=(16, 40))
    assert model.blocks[1].attn.window_size == (2, 5)
    assert small(img_size=(16, 40), **SHARED).rel_pos_bias.window_size == (2, 5)
    assert not [name for name in model.state_dict() if "index" in name]


def test_initial_values() -> None:
    torch.manual_seed(0)
    model = BEiTViT("tiny", layer_scale_init_value=0.2)
    for i in (0, 3):
        block = model.blocks[i]
        # A normal distribution that is cut off at a hundred deviations.
        assert block.mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.05)
        expected = 0.02 / math.sqrt(2 * (i + 1))
        assert block.mlp.fc2.weight.std().item() == pytest.approx(expected, rel=0.05)
        assert block.attn.proj.weight.std().item() == pytest.approx(expected, rel=0.05)
    assert block.attn.relative_position_bias_table.abs().max() == 0
    assert block.gamma_1.tolist() == block.gamma_2.tolist() == [pytest.approx(0.2)] * 192


def test_layers_differ_and_drop_path_rises() -> None:
    model = small(drop_path_rate=0.4, layer_cfgs=[{}, {"bias": True}, {"num_heads": 6}])
    assert model.blocks[2].drop_path1.p == pytest.approx(0.4) and model.blocks[2].attn.num_heads == 6
    assert model.blocks[1].attn.qkv.bias is not None and model.blocks[1].attn.q_bias is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"use_shared_rel_pos_bias": True}, "exclude each other"),
        ({"bias": "kv_bias"}, "'qv_bias', True, False"),
        ({"arch": "bas"}, "BEiTViT has no arch 'bas': did you mean base"),
    ],
)
def test_wrong_values_are_told_with_the_accepted_ones(arguments: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BACKBONES.build({"type": "BEiTViT", "arch": ARCH, **arguments})


@pytest.mark.parametrize("kind", [{}, SHARED])
def test_images_of_another_size_are_refused_where_positions_are_relative(kind: dict) -> None:
    with pytest.raises(ValueError, match=r"4x6 patches.*for 4x4.*img_size"):
        small(**kind)(torch.randn(1, 3, 32, 48))
    model = small(use_rel_pos_bias=False, use_abs_pos_emb=True)
    assert model(torch.randn(1, 3, 32, 48))[0].shape == (1, 48)
