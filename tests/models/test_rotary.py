"""Rotary positions: their angles, that only offsets count, and what training does to them."""

from __future__ import annotations

import math

import pytest
import torch

from framework import BACKBONES
from framework.errors import ConfigError
from framework.models.layers import RotaryEmbedding
from framework.models.layers.rotary import rotate

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)


def test_angles_by_hand() -> None:
    cos, sin = RotaryEmbedding(8, theta=16.0)((2, 1))
    upper, lower = -0.5, 0.5  # centres of two rows; the only column is in the middle, where nothing turns
    expected = torch.tensor([[place, place / 4, 0.0, 0.0] * 2 for place in (upper, lower)]) * 2 * math.pi
    torch.testing.assert_close(cos, expected.cos())
    torch.testing.assert_close(sin, expected.sin())


def test_only_offsets_count() -> None:
    """A query and a key meet with the same product wherever they are, as long as their offset is the same."""
    torch.manual_seed(0)
    query, key = torch.randn(2, 8)
    rotation = RotaryEmbedding(8)((4, 4))
    queries = rotate(query.expand(1, 1, 16, 8), rotation)[0, 0]
    keys = rotate(key.expand(1, 1, 16, 8), rotation)[0, 0]
    products = (queries @ keys.T).view(4, 4, 4, 4)
    torch.testing.assert_close(products[0, 0, 1, 2], products[2, 1, 3, 3])
    assert abs(products[0, 0, 1, 2] - products[0, 0, 2, 1]) > 1e-3


def test_tokens_before_the_patches_stay_and_half_precision_too() -> None:
    x = torch.randn(1, 2, 5, 8).half()
    turned = rotate(x, RotaryEmbedding(8)((2, 2)))
    assert turned.dtype == torch.float16
    assert torch.equal(turned[:, :, :1], x[:, :, :1])
    assert not torch.equal(turned[:, :, 1:], x[:, :, 1:])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    ("how", "same_for_both"), [(dict(rescale=2.0), True), (dict(jitter=2.0), False), (dict(shift=0.3), None)]
)
def test_training_moves_the_places_and_evaluation_does_not(how, same_for_both) -> None:
    torch.manual_seed(0)
    layer = RotaryEmbedding(8, **how)
    fixed = torch.cartesian_prod(*2 * [torch.tensor([-0.75, -0.25, 0.25, 0.75])])
    factors = []
    for _ in range(20):
        moved = layer._moved(fixed)
        if same_for_both is None:
            offset = moved - fixed
            assert offset.abs().max() <= 0.3 and offset.std(dim=0).max() < 1e-6
            continue
        factor = moved / fixed
        assert factor.min() >= 0.5 and factor.max() <= 2 and factor.std(dim=0).max() < 1e-6
        assert torch.isclose(factor[0, 0], factor[0, 1]).item() == same_for_both
        factors.append(factor[0, 0].item())
    assert same_for_both is None or (min(factors) < 0.8 and max(factors) > 1.25)
    train, again = layer((4, 4))[0], layer((4, 4))[0]
    assert not torch.equal(train, again)
    assert torch.equal(layer.eval()((4, 4))[0], RotaryEmbedding(8)((4, 4))[0])


def test_keys_without_bias_stay_so_in_training() -> None:
    torch.manual_seed(0)
    config = dict(type="VisionTransformer", arch=ARCH, img_size=16, patch_size=8, rope=dict(rescale=2.0))
    model = BACKBONES.build(dict(config, qkv_bias="qv_bias", num_registers=2)).train()
    assert model.pos_embed is None and model.pos_embed_prefix == 0
    model(torch.randn(2, 3, 32, 16))[0].square().sum().backward()
    gradient = model.blocks[0].attn.qkv.bias.grad.view(3, -1)
    assert gradient[1].abs().max() == 0 and gradient[0].abs().max() > 0 and gradient[2].abs().max() > 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (dict(rope=dict(base=100)), "rope: unknown base; accepted are theta, shift, jitter, rescale"),
        (dict(rope={}, arch=dict(ARCH, num_heads=16)), "multiple of 4 channels, got 2"),
        (dict(rope=dict(rescale=0.5)), "rescale is a factor of at least 1, got 0.5"),
        (dict(qkv_bias="q"), "accepted are True, False, 'qv_bias'"),
    ],
)
def test_errors(more, message) -> None:
    with pytest.raises(ConfigError, match=message):
        BACKBONES.build(dict(dict(type="VisionTransformer", arch=ARCH, img_size=16, patch_size=8), **more))
