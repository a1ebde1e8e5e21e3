"""Shapes that differ between file and model, on the way of the loader."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from framework import BACKBONES, MODELS
from framework.pretrain import adapt, load_pretrained, plan_pretrained
from framework.pretrain.adapt import TokenLayout
from framework.pretrain.errors import PretrainError

TINY = dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=64)
VIT = dict(type="VisionTransformer", arch=TINY, img_size=32, patch_size=8)


def saved(module: nn.Module, tmp_path: Path, **extra: Tensor) -> str:
    generator = torch.Generator().manual_seed(0)
    state = {k: torch.rand(v.shape, generator=generator) for k, v in module.state_dict().items()} | extra
    torch.save(state, tmp_path / "file.pth")
    return str(tmp_path / "file.pth")


def values(path: str) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)


def test_another_image_size_resizes_the_grid_and_keeps_the_class_slot(tmp_path) -> None:
    path = saved(BACKBONES.build(VIT), tmp_path)
    model = BACKBONES.build(dict(VIT, img_size=48, pretrain=path))
    report = model.pretrain_report
    assert dict(report.adapted) == {"pos_embed": "4x4 + 1 -> 6x6 + 1 tokens, bicubic"}
    decided = adapt.decide("pos_embed", (1, 17, 32), (1, 37, 32))
    assert decided is not None
    assert torch.equal(model.pos_embed, adapt.apply(decided, values(path)["pos_embed"]))
    assert torch.equal(model.pos_embed[:, 0], values(path)["pos_embed"][:, 0])
    assert report.tensors["pos_embed"].operation == report.adapted["pos_embed"]
    assert report.clean and "pos_embed (4x4 + 1 -> 6x6 + 1 tokens" in str(report)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 64)])
def test_a_models_own_file_is_taken_as_it_is_whatever_its_grid(height, width, tmp_path) -> None:
    cfg = dict(VIT, img_size=(height, width))
    path = saved(BACKBONES.build(cfg), tmp_path)
    model = BACKBONES.build(dict(cfg, pretrain=path))
    assert torch.equal(model.pos_embed, values(path)["pos_embed"]) and not model.pretrain_report.adapted


def test_a_file_without_class_slot_gives_the_grid_alone(tmp_path) -> None:
    state = saved(BACKBONES.build(VIT), tmp_path)
    file = {k: v for k, v in values(state).items() if k != "cls_token"}
    file["pos_embed"] = file["pos_embed"][:, 1:]
    torch.save(file, state)
    model = BACKBONES.build(dict(VIT, pretrain=state))
    assert torch.equal(model.pos_embed[:, 1:], file["pos_embed"])
    assert model.pos_embed[:, 0].eq(0).all() and model.pretrain_report.fresh == ("cls_token",)


def test_registers_in_the_file_need_no_slot(tmp_path) -> None:
    path = saved(BACKBONES.build(VIT), tmp_path, register_tokens=torch.zeros(1, 4, 32))
    model = BACKBONES.build(dict(VIT, img_size=48, pretrain=path))
    assert model.pretrain_report.adapted["pos_embed"].startswith("4x4 + 1 -> 6x6 + 1")


def test_patches_and_channels_change_together(tmp_path) -> None:
    path = saved(BACKBONES.build(VIT), tmp_path)
    model = BACKBONES.build(dict(VIT, img_size=64, patch_size=16, in_channels=1, pretrain=path))
    source = values(path)["patch_embed.proj.weight"]
    decided = adapt.decide("patch_embed", (32, 3, 8, 8), (32, 1, 16, 16))
    assert decided is not None
    assert torch.equal(model.patch_embed.proj.weight, adapt.apply(decided, source))
    assert set(model.pretrain_report.adapted) == {"patch_embed.proj.weight"}


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_any_number_of_input_channels_for_a_first_convolution(channels, tmp_path) -> None:
    path = saved(BACKBONES.build(dict(type="ResNet", depth=18)), tmp_path)
    model = BACKBONES.build(dict(type="ResNet", depth=18, in_channels=channels, pretrain=path))
    source = values(path)["conv1.weight"]
    if channels == 1:
        expected = source.sum(1, keepdim=True)
    else:
        expected = source.repeat(1, 5, 1, 1)[:, :channels] * (3 / channels)
    assert torch.allclose(model.conv1.weight, expected, atol=1e-6)
    assert set(model.pretrain_report.adapted) == {"conv1.weight"}


def test_other_convolutions_are_never_adapted(tmp_path) -> None:
    def net(channels: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, channels, 1), nn.Conv2d(channels, 8, 1))

    path = saved(net(4), tmp_path)
    report = plan_pretrained(net(6), dict(path=path, min_coverage=0))
    assert set(report.mismatched) == {"1.weight", "1.bias", "2.weight"} and not report.adapted


def test_a_background_class_is_dropped(tmp_path) -> None:
    def classifier(classes: int) -> dict:
        head = dict(type="ClassifierHead", dim=32, num_classes=classes)
        return dict(type="Classifier", backbone=VIT, head=head)

    path = saved(MODELS.build(classifier(1001)), tmp_path)
    model = MODELS.build(classifier(1000) | dict(pretrain=path))
    assert torch.equal(model.head.fc.weight, values(path)["head.fc.weight"][1:])
    assert torch.equal(model.head.fc.bias, values(path)["head.fc.bias"][1:])
    other = MODELS.build(classifier(999) | dict(pretrain=dict(path=path, min_coverage=0.1)))
    assert set(other.pretrain_report.mismatched) == {"head.fc.weight", "head.fc.bias"}


def test_adapt_false_leaves_them_as_mismatches(tmp_path) -> None:
    path = saved(BACKBONES.build(VIT), tmp_path)
    model = BACKBONES.build(dict(VIT, img_size=48, pretrain=dict(path=path, adapt=False)))
    assert dict(model.pretrain_report.mismatched) == {"pos_embed": ((1, 37, 32), (1, 17, 32))}
    assert not torch.equal(model.pos_embed[:, 0], values(path)["pos_embed"][:, 0])


def test_a_relative_bias_takes_the_window_from_its_owner(tmp_path) -> None:
    class Attention(nn.Module):
        def __init__(self, window: tuple[int, int]) -> None:
            super().__init__()
            self.window_size = window
            rows = (2 * window[0] - 1) * (2 * window[1] - 1)
            self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, 3))
            self.register_buffer("relative_position_index", torch.arange(window[0] ** 2))

    path = saved(Attention((7, 7)), tmp_path)
    model = Attention((8, 8))
    report = load_pretrained(model, path)
    table = values(path)["relative_position_bias_table"]
    decided = adapt.decide("rel_pos_bias", (169, 3), (225, 3), target_layout=TokenLayout(grid=(8, 8)))
    assert decided is not None
    assert torch.equal(model.relative_position_bias_table, adapt.apply(decided, table))
    assert report.computed == ("relative_position_index",) and report.clean
    assert torch.equal(model.relative_position_index, torch.arange(64))


def test_half_precision_is_adapted_in_full(tmp_path) -> None:
    path = saved(BACKBONES.build(VIT), tmp_path)
    half = {k: v.bfloat16() for k, v in values(path).items()}
    torch.save(half, path)
    model = BACKBONES.build(dict(VIT, img_size=48, pretrain=path))
    assert model.pos_embed.dtype == torch.float32
    decided = adapt.decide("pos_embed", (1, 17, 32), (1, 37, 32))
    assert decided is not None
    assert torch.allclose(model.pos_embed, adapt.apply(decided, half["pos_embed"].float()), atol=1e-2)


def test_the_way_to_interpolate_may_be_named(tmp_path) -> None:
    path = saved(BACKBONES.build(VIT), tmp_path)
    for mode in ("bilinear", "geometric"):
        model = BACKBONES.build(dict(VIT, img_size=48, pretrain=dict(path=path, adapt=mode)))
        assert model.pretrain_report.adapted["pos_embed"].endswith(
            "bilinear" if mode == "bilinear" else "bicubic"
        )


def test_a_module_on_the_meta_device_is_refused(tmp_path) -> None:
    path = saved(BACKBONES.build(VIT), tmp_path)
    with torch.device("meta"):
        module = BACKBONES.build(VIT)
    with pytest.raises(PretrainError, match="meta device"):
        load_pretrained(module, path)


def test_a_layer_scale_without_a_place_is_told(tmp_path, caplog) -> None:
    path = saved(BACKBONES.build(dict(VIT, layer_scale_init_value=0.1)), tmp_path)
    model = BACKBONES.build(dict(VIT, pretrain=dict(path=path, min_coverage=0.1)))
    assert model.pretrain_report.left_inside() == ("blocks.0.ls1.gamma", "blocks.0.ls2.gamma")
    assert "left out: blocks.0.ls1.gamma, blocks.0.ls2.gamma" in caplog.text and "unused" not in caplog.text
