"""Necks and heads."""

import pytest
import torch
from torch import nn

from framework.errors import ConfigError
from framework.models.heads import ClassifierHead, LinearClsHead, VisionTransformerClsHead
from framework.registry import HEADS, NECKS


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_average_over_all_positions(dim: int) -> None:
    neck = NECKS.build({"type": "GlobalAveragePooling", "dim": dim})
    feature = torch.randn(2, 5, *(4, 3, 2)[:dim])
    expected = feature.flatten(2).mean(2)
    torch.testing.assert_close(neck(feature), expected)
    several = neck((feature, feature + 1))
    assert isinstance(several, tuple)
    torch.testing.assert_close(several[1], expected + 1)


def test_pooling_tells_what_to_do_about_wrong_dimensions() -> None:
    neck = NECKS.build({"type": "GlobalAveragePooling"})
    with pytest.raises(ValueError, match=r"\(2, 5\): it is pooled already: leave the neck out"):
        neck(torch.randn(2, 5))
    with pytest.raises(ValueError, match="set dim to fit"):
        neck(torch.randn(2, 5, 7))
    with pytest.raises(ConfigError, match="1, 2, 3"):
        NECKS.build({"type": "GlobalAveragePooling", "dim": 4})


def test_identity_passes_on() -> None:
    features = (torch.ones(1), torch.zeros(1))
    assert NECKS.build({"type": "Identity"})(features) is features


@pytest.mark.parametrize(
    "cfg",
    [
        {"type": "ClassifierHead", "dim": 6, "num_classes": 4},
        {"type": "LinearClsHead", "in_channels": 6, "num_classes": 4},
        {"type": "VisionTransformerClsHead", "in_channels": 6, "num_classes": 4},
    ],
)
def test_linear_heads_take_the_last_feature(cfg: dict) -> None:
    head = HEADS.build(cfg)
    assert {k: tuple(v.shape) for k, v in head.state_dict().items()} == {"fc.weight": (4, 6), "fc.bias": (4,)}
    nn.init.normal_(head.fc.weight)
    nn.init.normal_(head.fc.bias)
    feature = torch.randn(3, 6)
    expected = feature @ head.fc.weight.T + head.fc.bias
    torch.testing.assert_close(head(feature), expected)
    torch.testing.assert_close(head((torch.randn(3, 9), feature)), expected)
    assert head.num_classes == 4 and head.in_channels == 6


def test_hidden_layer_of_the_vision_transformers_head() -> None:
    head = VisionTransformerClsHead(4, 6, hidden_dim=5)
    assert set(head.state_dict()) == {"fc.weight", "fc.bias", "hidden.fc.weight", "hidden.fc.bias"}
    nn.init.normal_(head.fc.weight)
    feature = torch.randn(3, 6)
    hidden = torch.tanh(head.hidden.fc(feature))
    torch.testing.assert_close(head.pre_logits(feature), hidden)
    torch.testing.assert_close(head(feature), head.fc(hidden))


def test_dropout_of_features() -> None:
    head = ClassifierHead(dim=1000, num_classes=2, dropout_rate=0.5)
    head.fc.weight.data.fill_(1e-3)
    feature = torch.ones(64, 1000)
    assert head.train()(feature).std() > 0.01 and head.eval()(feature).std() < 1e-6


def test_initial_values() -> None:
    torch.manual_seed(0)
    head = LinearClsHead(100, 500)
    assert head.fc.weight.std().item() == pytest.approx(0.01, rel=0.05) and head.fc.bias.abs().max() == 0
    assert VisionTransformerClsHead(4, 6).fc.weight.abs().max() == 0


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 5), "in_channels.* to 5"),
        ((2, 6, 3, 3), "GlobalAveragePooling"),
        ((2, 7, 6), "cls_token or avg_featmap"),
    ],
)
def test_features_of_another_shape_are_told_with_the_next_step(shape: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ClassifierHead(6, 4)(torch.randn(shape))


def test_a_head_needs_classes() -> None:
    with pytest.raises(ConfigError, match="num_classes=0"):
        HEADS.build({"type": "ClassifierHead", "dim": 6, "num_classes": 0})


def test_a_head_without_layers_gives_the_last_feature() -> None:
    features = (torch.ones(2, 3), torch.zeros(2, 3))
    assert HEADS.build({"type": "ClsHead"})(features) is features[1]
