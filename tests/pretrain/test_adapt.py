import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from framework.pretrain.adapt import IDENTITY, KINDS, TokenLayout, apply, decide
from framework.pretrain.errors import SpecError

few = settings(max_examples=25, deadline=None)
sides = st.integers(1, 9)
grids = st.tuples(sides, sides)


def adapted(kind, tensor, target, **options):
    decision = decide(kind, tuple(tensor.shape), target, **options)
    assert decision is not None and decision is not IDENTITY
    return apply(decision, tensor)


def table(grid, prefix=0, dim=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, prefix + math.prod(grid), dim, generator=generator)


def test_what_fits_is_left_as_it_is():
    for kind, shape in {
        "pos_embed": (1, 17, 3),
        "rel_pos_bias": (25, 2),
        "patch_embed": (4, 3, 2, 2),
        "input_conv": (4, 3, 7, 7),
        "class_head": (5, 8),
    }.items():
        tensor = torch.randn(shape)
        assert decide(kind, shape, shape) is IDENTITY
        assert apply(IDENTITY, tensor) is tensor
    assert len(KINDS) == 5


def test_a_tensor_of_another_shape_is_refused():
    decision = decide("class_head", (1001, 4), (1000, 4))
    with pytest.raises(AssertionError):
        apply(decision, torch.zeros(1000, 4))


@pytest.mark.parametrize("kind", ["pos_embed", "patch_embed", "rel_pos_bias"])
def test_an_unknown_mode_names_the_known(kind):
    with pytest.raises(SpecError, match="bicubic, bilinear"):
        decide(kind, (1, 4, 3), (1, 9, 3), mode="cubic")
    with pytest.raises(SpecError, match="geometric"):
        decide("pos_embed", (1, 4, 3), (1, 9, 3), mode="geometric")


# positional embeddings


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("old, new", [((4, 4), (7, 7)), ((7, 7), (4, 4)), ((2, 8), (5, 3)), ((2, 8), (4, 4))])
def test_pos_embed_is_timms(old, new, prefix, mode):
    layers = pytest.importorskip("timm.layers")
    source = table(old, prefix)
    layouts = {"source_layout": TokenLayout(old, prefix), "target_layout": TokenLayout(new, prefix)}
    result = adapted("pos_embed", source, (1, prefix + math.prod(new), 3), mode=mode, **layouts)
    expected = layers.resample_abs_pos_embed(
        source, list(new), old_size=list(old), num_prefix_tokens=prefix, interpolation=mode
    )
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "area"])
def test_other_modes_are_torchs(mode):
    source = table((4, 6))
    layouts = {"source_layout": TokenLayout((4, 6), 0), "target_layout": TokenLayout((3, 8), 0)}
    result = adapted("pos_embed", source, (1, 24, 3), mode=mode, **layouts)
    image = source.reshape(1, 4, 6, 3).permute(0, 3, 1, 2)
    expected = F.interpolate(image, size=(3, 8), mode=mode).permute(0, 2, 3, 1).reshape(1, 24, 3)
    torch.testing.assert_close(result, expected)


def test_dinov2_interpolates_nearly_alike():
    source = table((14, 14), 1).cumsum(1)  # neighbours are alike, as in trained tables
    result = adapted("pos_embed", source, (1, 257, 3))
    image = source[:, 1:].reshape(1, 14, 14, 3).permute(0, 3, 1, 2)
    expected = (
        F.interpolate(image, scale_factor=16.1 / 14, mode="bicubic").permute(0, 2, 3, 1).reshape(1, 256, 3)
    )
    assert torch.equal(result[:, 0], source[:, 0])
    assert (result[:, 1:] - expected).abs().mean() < 0.06 * expected.abs().mean()


@few
@given(grids, grids, st.integers(0, 5), st.integers(0, 5), st.sampled_from(["bicubic", "bilinear", "area"]))
def test_constant_positions_stay_constant(old, new, old_prefix, new_prefix, mode):
    source = torch.cat((torch.full((old_prefix, 2), 7.0), torch.full((math.prod(old), 2), 2.5)))
    layouts = {"source_layout": TokenLayout(old, old_prefix), "target_layout": TokenLayout(new, new_prefix)}
    target = (new_prefix + math.prod(new), 2)
    result = apply(decide("pos_embed", tuple(source.shape), target, mode=mode, **layouts), source)
    torch.testing.assert_close(result[new_prefix:], torch.full((math.prod(new), 2), 2.5))
    kept = min(old_prefix, new_prefix)
    assert result[:kept].eq(7).all() and result[kept:new_prefix].eq(0).all()


def test_a_grid_turned_round_turns_the_positions_round():
    source = table((3, 5))
    layouts = {"source_layout": TokenLayout((3, 5), 0), "target_layout": TokenLayout((6, 4), 0)}
    result = adapted("pos_embed", source, (1, 24, 3), **layouts).reshape(6, 4, 3)
    turned = source.reshape(3, 5, 3).transpose(0, 1).reshape(1, 15, 3)
    layouts = {"source_layout": TokenLayout((5, 3), 0), "target_layout": TokenLayout((4, 6), 0)}
    torch.testing.assert_close(
        adapted("pos_embed", turned, (1, 24, 3), **layouts).reshape(4, 6, 3).transpose(0, 1), result
    )


@pytest.mark.parametrize("known", [True, False])
def test_equal_count_is_another_grid_only_where_both_are_known(known):
    source_layout = TokenLayout((4, 4) if known else None, 0)
    decision = decide(
        "pos_embed", (1, 16, 3), (1, 16, 3), source_layout=source_layout, target_layout=TokenLayout((2, 8), 0)
    )
    if not known:
        assert decision is IDENTITY
        return
    assert decision.note == "4x4 + 0 -> 2x8 + 0 tokens, bicubic"
    source = table((4, 4))
    assert not torch.equal(apply(decision, source), source)


def test_a_grid_that_is_not_known_is_the_models_where_the_count_allows():
    decision = decide("pos_embed", (1, 17, 3), (1, 16, 3), target_layout=TokenLayout((2, 8), 0))
    assert decision.note == "2x8 + 1 -> 2x8 + 0 tokens, 1 prefix row dropped"


def test_equal_count_with_another_prefix():
    source = table((4, 4), 1)
    layouts = {"source_layout": TokenLayout((4, 4), 1), "target_layout": TokenLayout(None, 2)}
    assert decide("pos_embed", (1, 17, 3), (1, 17, 3), **layouts) is None
    layouts["target_layout"] = TokenLayout((3, 5), 2)
    result = adapted("pos_embed", source, (1, 17, 3), **layouts)
    assert torch.equal(result[:, 0], source[:, 0]) and result[:, 1].eq(0).all()


def test_class_slot_dropped_and_added():
    source = table((4, 4), 1)
    without = decide("pos_embed", (1, 17, 3), (1, 16, 3))
    assert without.note == "4x4 + 1 -> 4x4 + 0 tokens, 1 prefix row dropped"
    assert torch.equal(apply(without, source), source[:, 1:])
    back = decide("pos_embed", (1, 16, 3), (1, 17, 3))
    assert back.note == "4x4 + 0 -> 4x4 + 1 tokens, 1 prefix row set to zero"
    result = apply(back, source[:, 1:].contiguous())
    assert torch.equal(result[:, 1:], source[:, 1:]) and result[:, 0].eq(0).all()


def test_distillation_slot_goes_and_the_class_slot_stays():
    source = table((14, 14), 2)
    result = adapted("pos_embed", source, (1, 197, 3), target_layout=TokenLayout((14, 14), 1))
    assert torch.equal(result, torch.cat((source[:, :1], source[:, 2:]), 1))


def test_rows_that_no_token_uses_are_left_out():
    source = table((4, 4), 3)
    layouts = {"source_layout": TokenLayout((4, 4), 1, num_unused=2), "target_layout": TokenLayout((4, 4), 1)}
    assert torch.equal(adapted("pos_embed", source, (1, 17, 3), **layouts), source[:, 2:])


@pytest.mark.parametrize(
    "rows, layout, note",
    [
        (196, TokenLayout(), "14x14 + 0 -> 16x16 + 1 tokens, bicubic, 1 prefix row set to zero"),
        (197, TokenLayout(), "14x14 + 1 -> 16x16 + 1 tokens, bicubic"),
        (198, TokenLayout(), "14x14 + 2 -> 16x16 + 1 tokens, bicubic, 1 prefix row dropped"),
        (201, TokenLayout(), "14x14 + 5 -> 16x16 + 1 tokens, bicubic, 4 prefix rows dropped"),
        (199, TokenLayout(None, 3), "14x14 + 3 -> 16x16 + 1 tokens, bicubic, 2 prefix rows dropped"),
        (25, TokenLayout((3, 8)), "3x8 + 1 -> 16x16 + 1 tokens, bicubic"),
    ],
)
def test_gaps_of_a_layout_are_filled_from_the_count(rows, layout, note):
    decision = decide(
        "pos_embed", (1, rows, 8), (1, 257, 8), source_layout=layout, target_layout=TokenLayout((16, 16), 1)
    )
    assert decision.note == note


@pytest.mark.parametrize(
    "source, target, layout",
    [
        ((1, 197, 8), (1, 257, 16), None),  # another width
        ((2, 197, 8), (1, 257, 8), None),
        ((1, 199, 8), (1, 257, 8), None),  # no square
        ((1, 197, 8), (1, 257, 8), TokenLayout((7, 7), 1)),  # a layout that cannot be
        ((1, 197, 8), (1, 257, 8), TokenLayout((20, 20))),
        ((1, 129, 8), (1, 257, 8), TokenLayout((2, 8, 8), 1)),
        ((197,), (257,), None),
        ((1, 0, 8), (1, 257, 8), None),
    ],
)
def test_pos_embed_without_a_defined_way(source, target, layout):
    assert decide("pos_embed", source, target, source_layout=layout) is None


def test_video_grids_and_flat_tables():
    source = table((2, 4, 4), 1)[0]
    layouts = {"source_layout": TokenLayout((2, 4, 4), 1), "target_layout": TokenLayout((4, 4, 4), 1)}
    result = adapted("pos_embed", source, (1, 65, 3), **layouts)
    volume = source[1:].reshape(1, 2, 4, 4, 3).permute(0, 4, 1, 2, 3)
    frames = F.interpolate(
        volume.flatten(3), size=(4, 16), mode="bicubic", antialias=True
    )  # only the first axis changes
    torch.testing.assert_close(result[0, 1:], frames.flatten(2)[0].T)


def test_rank_alone_may_differ():
    source = table((4, 4), 1)
    assert torch.equal(adapted("pos_embed", source[0], (1, 17, 3)), source)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1)])
def test_pos_maps(order):
    source = torch.randn(1, 3, 4, 5)
    expected = F.interpolate(source, size=(6, 3), mode="bicubic", antialias=True).permute(order)
    result = adapted("pos_embed", source.permute(order), tuple(expected.shape))
    torch.testing.assert_close(result, expected.contiguous())
    assert decide("pos_embed", (1, 3, 4, 5), (1, 3, 6, 5)) is None  # 3 or 5 may be the channels
    assert decide("pos_embed", (1, 3, 4, 5), (1, 4, 6, 6)) is None
    assert decide("pos_embed", (2, 3, 4, 5), (2, 3, 6, 6)) is None
    assert decide("pos_embed", (1, 3, 4, 5), (1, 3, 4, 5)) is IDENTITY


# relative position bias


@pytest.mark.parametrize("old, new", [((7, 7), (12, 12)), ((8, 8), (4, 4)), ((4, 4), (3, 6))])
@pytest.mark.parametrize("extra", [0, 3])
def test_rel_pos_bias_is_timms(old, new, extra):
    layers = pytest.importorskip("timm.layers")
    source = torch.randn((2 * old[0] - 1) * (2 * old[1] - 1) + extra, 4)
    target = ((2 * new[0] - 1) * (2 * new[1] - 1) + extra, 4)
    result = adapted("rel_pos_bias", source, target, target_layout=TokenLayout(new))
    expected = layers.resize_rel_pos_bias_table_simple(source, new, target)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_class_rows_dropped_and_added():
    source = torch.randn(9 + 3, 2)
    decision = decide("rel_pos_bias", (12, 2), (9, 2))
    assert decision.note == "3x3 + 3 -> 3x3 offsets, 3 class rows dropped"
    assert torch.equal(apply(decision, source), source[:9])
    result = adapted("rel_pos_bias", source[:9], (12, 2), target_layout=TokenLayout((2, 2), 1))
    assert torch.equal(result[:9], source[:9]) and result[9:].eq(0).all()


def test_windows_of_equal_size_and_other_shape():
    layouts = {"source_layout": TokenLayout((2, 8)), "target_layout": TokenLayout((3, 5))}
    source = torch.randn(45, 2)
    result = adapted("rel_pos_bias", source, (45, 2), **layouts)
    image = source.T.reshape(1, 2, 3, 15)
    expected = F.interpolate(image, size=(5, 9), mode="bicubic").reshape(2, 45).T
    torch.testing.assert_close(result, expected)
    assert decide("rel_pos_bias", (45, 2), (45, 2), target_layout=TokenLayout((3, 5))) is IDENTITY


@pytest.mark.parametrize(
    "source, target", [((16, 2), (25, 2)), ((9, 2), (25, 3)), ((9, 2), (1, 25, 2)), ((10, 2), (25, 2))]
)
def test_rel_pos_bias_without_a_defined_way(source, target):
    assert decide("rel_pos_bias", source, target) is None


@pytest.mark.parametrize("window, new", [(7, 12), (14, 24), (2, 5)])
def test_geometric_is_a_spline_through_growing_offsets(window, new):
    interpolate = pytest.importorskip("scipy.interpolate")
    source = torch.randn((2 * window - 1) ** 2 + 3, 2)
    result = adapted("rel_pos_bias", source, ((2 * new - 1) ** 2 + 3, 2), mode="geometric")
    growth, count = 1.0, window - 1
    for _ in range(5000):  # fixed point of (q^n - 1) / (q - 1) = new - 1
        growth = (1 + (new - 1) * (growth - 1)) ** (1 / count) if growth > 1 else 1.5
    positive = [sum(growth**power for power in range(i)) for i in range(1, window)]
    positions = [-x for x in reversed(positive)] + [0.0] + positive
    wanted = list(range(1 - new, new))
    degree = min(3, len(positions) - 1)
    for head in range(2):
        values = source[:-3, head].reshape(2 * window - 1, -1).double().numpy()
        spline = interpolate.RectBivariateSpline(positions, positions, values, kx=degree, ky=degree)
        expected = torch.from_numpy(spline(wanted, wanted)).float().reshape(-1)
        torch.testing.assert_close(result[:-3, head], expected, atol=1e-3, rtol=1e-3)
    assert torch.equal(result[-3:], source[-3:])


def test_geometric_to_a_smaller_window_keeps_the_middle():
    source = torch.randn(49, 2)
    result = adapted("rel_pos_bias", source, (25, 2), mode="geometric")
    torch.testing.assert_close(
        result.reshape(5, 5, 2), source.reshape(7, 7, 2)[1:-1, 1:-1], atol=1e-5, rtol=1e-5
    )


@few
@given(sides, sides, st.sampled_from(["bicubic", "geometric", "nearest"]))
def test_constant_bias_stays_constant(old, new, mode):
    source = torch.full(((2 * old - 1) ** 2, 2), -1.5)
    decision = decide("rel_pos_bias", tuple(source.shape), ((2 * new - 1) ** 2, 2), mode=mode)
    torch.testing.assert_close(apply(decision, source), torch.full(((2 * new - 1) ** 2, 2), -1.5))


# patch embeddings and input channels


@pytest.mark.parametrize("old, new", [((16, 16), (8, 8)), ((8, 8), (14, 14)), ((4, 6), (7, 5))])
def test_patch_embed_is_timms(old, new):
    layers = pytest.importorskip("timm.layers")
    source = torch.randn(5, 3, *old)
    result = adapted("patch_embed", source, (5, 3, *new))
    torch.testing.assert_close(result, layers.resample_patch_embed(source, list(new)), atol=1e-4, rtol=1e-4)


@few
@given(
    st.tuples(sides, st.integers(2, 9)),
    st.tuples(st.integers(0, 6), st.integers(0, 6)),
    st.sampled_from(["bicubic", "bilinear"]),
)
def test_a_larger_patch_of_a_larger_image_gives_the_same_token(old, growth, mode):
    new = (old[0] + growth[0], old[1] + growth[1])
    weight, image = torch.randn(4, 2, *old), torch.randn(3, 2, *old)
    decision = decide("patch_embed", tuple(weight.shape), (4, 2, *new), mode=mode)
    larger = F.interpolate(image, size=new, mode=mode, antialias=True)
    got = torch.einsum("bchw,dchw->bd", larger, apply(decision, weight))
    torch.testing.assert_close(got, torch.einsum("bchw,dchw->bd", image, weight), atol=2e-3, rtol=1e-3)


@few
@given(grids, grids)
def test_a_constant_image_gives_the_same_token(old, new):
    weight = torch.randn(4, 2, *old)
    decision = decide("patch_embed", tuple(weight.shape), (4, 2, *new))
    if all(o <= n for o, n in zip(old, new, strict=True)):
        torch.testing.assert_close(
            apply(decision, weight).sum((2, 3)), weight.sum((2, 3)), atol=2e-3, rtol=1e-3
        )


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 13])
def test_input_channels_are_timms(channels):
    manipulate = pytest.importorskip("timm.models._manipulate")
    source = torch.randn(4, 3, 7, 7)
    result = adapted("input_conv", source, (4, channels, 7, 7))
    torch.testing.assert_close(result, manipulate.adapt_input_conv(channels, source))


@few
@given(st.integers(1, 12), st.integers(1, 4))
def test_a_grey_image_gives_the_same_response(channels, times):
    source = torch.randn(3, channels, 2, 2)
    for target in (channels * times, 1):
        decision = decide("input_conv", tuple(source.shape), (3, target, 2, 2))
        torch.testing.assert_close(apply(decision, source).sum(1), source.sum(1), atol=1e-5, rtol=1e-5)


def test_any_count_to_any():
    source = torch.randn(2, 5, 3, 3)
    result = adapted("input_conv", source, (2, 7, 3, 3))
    torch.testing.assert_close(result, torch.cat((source, source[:, :2]), 1) * 5 / 7)
    torch.testing.assert_close(adapted("input_conv", source, (2, 2, 3, 3)), source[:, :2] * 5 / 2)


def test_patch_size_and_channels_at_once():
    source = torch.randn(4, 3, 16, 16)
    decision = decide("patch_embed", (4, 3, 16, 16), (4, 1, 8, 8))
    assert decision.note == "patch 16x16 -> 8x8, pseudo-inverse bicubic; 3 -> 1 input channels, summed"
    resized = adapted("patch_embed", source, (4, 3, 8, 8))
    torch.testing.assert_close(apply(decision, source), resized.sum(1, keepdim=True))


def test_stems_without_a_defined_way():
    assert decide("input_conv", (64, 3, 7, 7), (64, 3, 3, 3)) is None  # overlapping windows
    assert decide("patch_embed", (8, 3, 4, 4), (16, 3, 4, 4)) is None
    assert decide("patch_embed", (8, 48), (8, 3, 4, 4)) is None


# heads


@pytest.mark.parametrize("rest", [(8,), (), (8, 1, 1)])
def test_background_is_dropped(rest):
    source = torch.randn(1001, *rest)
    result = adapted("class_head", source, (1000, *rest))
    assert torch.equal(result, source[1:])


@pytest.mark.parametrize(
    "source, target",
    [
        ((1000, 8), (1001, 8)),
        ((1001, 8), (1000, 9)),
        ((101, 8), (100, 8)),
        ((1000, 8), (10, 8)),
        ((), (1000,)),
    ],
)
def test_other_heads_are_not_adapted(source, target):
    assert decide("class_head", source, target) is None


# numbers and memory

CASES = [
    ("pos_embed", (1, 17, 4), (1, 26, 4)),
    ("pos_embed", (1, 17, 4), (1, 16, 4)),
    ("pos_embed", (1, 3, 4, 5), (1, 3, 6, 7)),
    ("rel_pos_bias", (25, 4), (49, 4)),
    ("patch_embed", (4, 3, 4, 4), (4, 3, 6, 6)),
    ("input_conv", (4, 3, 4, 4), (4, 4, 4, 4)),
    ("class_head", (1001, 2), (1000, 2)),
]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind, source, target", CASES)
def test_half_precision_is_computed_in_float32(kind, source, target, dtype):
    tensor = torch.randn(source).to(dtype)
    result = adapted(kind, tensor, target)
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    assert result.dtype == dtype
    assert torch.equal(result, adapted(kind, tensor.to(wide), target).to(dtype))


def test_double_stays_double():
    tensor = torch.full((1, 16, 2), 1 / 3, dtype=torch.float64)
    assert (adapted("pos_embed", tensor, (1, 25, 2)) - 1 / 3).abs().max() < 1e-12


@pytest.mark.parametrize("kind, source, target", CASES)
def test_the_result_stands_alone_and_the_source_is_untouched(kind, source, target):
    tensor = torch.nn.Parameter(torch.randn(source))
    before = tensor.detach().clone()
    result = adapted(kind, tensor, target)
    assert result.shape == target and result.is_contiguous() and not result.requires_grad
    assert result.untyped_storage().nbytes() == result.nbytes
    result.zero_()
    assert torch.equal(tensor, before)
