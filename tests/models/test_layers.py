"""The shared layers, against formulas."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from framework.models.layers import (
    Attention,
    LayerScale,
    Mlp,
    SwiGLUMlp,
    build_activation,
    build_drop_path,
    build_norm_layer,
    linear_rates,
    resize_pos_embed,
)


def test_attention_equals_the_formula() -> None:
    torch.manual_seed(0)
    layer, x = Attention(dim=8, num_heads=2), torch.randn(2, 5, 8)
    query, key, value = layer.qkv(x).chunk(3, dim=-1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        weights = (query[..., part] @ key[..., part].transpose(1, 2) / 2).softmax(dim=-1)
        heads.append(weights @ value[..., part])
    torch.testing.assert_close(layer(x), layer.proj(torch.cat(heads, dim=-1)))


def test_attention_drops_weights_in_training_only() -> None:
    layer, x = Attention(dim=8, num_heads=2, attn_drop_rate=0.5), torch.randn(2, 5, 8)
    assert not torch.equal(layer.train()(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


def test_drop_path_drops_whole_samples_and_scales_the_rest() -> None:
    torch.manual_seed(0)
    layer = build_drop_path(0.25)
    out = layer(torch.ones(4000, 2, 3)).flatten(1)
    assert out.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert torch.equal(out.amin(1), out.amax(1))
    assert (out[:, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(layer.eval()(torch.ones(2, 2)), torch.ones(2, 2))


@pytest.mark.parametrize("kind", [Mlp, SwiGLUMlp])
def test_feed_forward_drops_hidden_and_output_channels(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    layer, x = kind(64, 96, drop_rate=0.5).train(), torch.randn(50, 64)
    shares = []
    layer.fc2.register_forward_pre_hook(
        lambda _, inputs: shares.append((inputs[0] == 0).float().mean().item())
    )
    shares.append((layer(x) == 0).float().mean().item())
    assert shares == [pytest.approx(0.5, abs=0.05)] * 2 and not (layer.eval()(x) == 0).any()


def test_linear_rates() -> None:
    assert linear_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert linear_rates(0.3, 1) == [0]


def test_layer_scale() -> None:
    layer = LayerScale(3, 0.5)
    layer.gamma.data[1] = 2
    assert layer(torch.ones(1, 2, 3))[0].tolist() == [[0.5, 2, 0.5]] * 2


def test_resized_positions_keep_prefix_and_dtype() -> None:
    positions = torch.randn(1, 1 + 16, 6)
    resized = resize_pos_embed(positions, (4, 4), (2, 6), prefix=1)
    assert torch.equal(resized[:, :1], positions[:, :1])
    image = positions[:, 1:].reshape(1, 4, 4, 6).permute(0, 3, 1, 2)
    expected = functional.interpolate(image, size=(2, 6), mode="bicubic", antialias=True)
    assert torch.equal(resized[:, 1:].transpose(1, 2).reshape(1, 6, 2, 6), expected)
    assert resize_pos_embed(positions.half(), (4, 4), (2, 6), prefix=1).dtype == torch.float16
    nearest = resize_pos_embed(positions, (4, 4), (8, 8), prefix=1, mode="nearest")
    assert torch.equal(nearest[0, 1], positions[0, 1]) and torch.equal(nearest[0, 2], positions[0, 1])


def test_same_token_count_in_another_grid_is_interpolated() -> None:
    positions = torch.randn(1, 16, 6)
    assert not torch.equal(resize_pos_embed(positions, (4, 4), (2, 8), prefix=0), positions)


def test_norm_and_activation_tables() -> None:
    assert isinstance(build_norm_layer({"type": "SyncBN"}, 4), nn.SyncBatchNorm)
    norm = build_norm_layer({"type": "LN", "eps": 0.5}, 4)
    assert isinstance(norm, nn.LayerNorm) and norm.eps == 0.5
    cfg = {"type": "BN", "requires_grad": False}
    assert not build_norm_layer(cfg, 4).weight.requires_grad and cfg == {"type": "BN", "requires_grad": False}
    quick = build_activation({"type": "QuickGELU"})
    assert quick(torch.tensor(1.0)).item() == pytest.approx(1 / (1 + 2.718281828**-1.702), rel=1e-5)
    assert build_activation({"type": "ReLU", "inplace": True}).inplace
