"""Teachers, views, collapse, projectors and batch normalisation of self-supervised methods."""

from __future__ import annotations

import copy
from math import cos, log, pi
from typing import Any

import pytest
import torch
from mmengine.logging import MessageHub
from torch import nn
from torch.utils.data import default_collate
from torchvision import tv_tensors

from framework.errors import ConfigError
from framework.models.layers.sync_batch_norm import CPUSyncBatchNorm, sync_on_cpus
from framework.models.selfsup import CosineEMA, embedding_std, prototype_entropy
from framework.registry import DATASETS, MODELS, NECKS, TRANSFORMS


def step(student: nn.Linear) -> torch.Tensor:
    with torch.no_grad():
        student.weight.add_(torch.randn_like(student.weight))
    return student.weight.detach().clone()


def test_a_teacher_follows_its_student_along_half_a_cosine() -> None:
    student = nn.Linear(2, 2, bias=False)
    teacher = MODELS.build({"type": "CosineEMA", "model": student, "momentum": 0.4, "max_iters": 10})
    step(student)
    teacher.update(student)
    expected = student.weight.detach().clone()
    assert torch.equal(teacher.module.weight, expected)  # the first update copies
    for k in range(1, 12):
        share = 0.4 * (cos(pi * min(k, 10) / 10) + 1) / 2
        expected = (1 - share) * expected + share * step(student)
        teacher.update(student)
        torch.testing.assert_close(teacher.module.weight, expected)
    assert teacher.steps == 12
    assert not teacher.module.weight.requires_grad


def test_a_teacher_takes_the_length_of_its_schedule_from_the_run() -> None:
    teacher = CosineEMA(nn.Linear(2, 2), momentum=0.4, end_momentum=0.2)
    assert teacher.share() == 0.4  # there is no run
    hub = MessageHub.get_current_instance()
    hub.update_info("max_iters", 100)
    hub.update_info("iter", 50)
    assert teacher.share() == pytest.approx(0.3)
    constant = CosineEMA(nn.Linear(2, 2), momentum=0.4, end_momentum=0.4)
    assert constant.share() == 0.4


@pytest.mark.parametrize("fused", [False, True])
def test_one_step_of_the_student_is_one_of_the_teacher(fused: bool) -> None:
    student = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    teacher = CosineEMA(student, momentum=0.1, end_momentum=0.1)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, fused=fused)
    teacher.update(student)
    for _ in range(3):  # gradients that make one step together
        teacher.update(student)
        student(torch.randn(4, 2)).square().sum().backward()
    assert teacher.steps == 1
    before = copy.deepcopy(teacher.module[0].weight)
    optimizer.step()
    teacher.update(student)
    assert teacher.steps == 2
    torch.testing.assert_close(teacher.module[0].weight, before.lerp(student[0].weight.detach(), 0.1))
    assert not torch.equal(teacher.module[1].running_mean, student[1].running_mean)  # it has its own


def test_buffers_are_averaged_if_asked_for() -> None:
    student = nn.BatchNorm1d(2)
    teacher = CosineEMA(student, momentum=0.25, end_momentum=0.25, update_buffers=True)
    teacher.update(student)
    student(torch.randn(4, 2))
    with torch.no_grad():
        student.weight.add_(1)
    teacher.update(student)
    torch.testing.assert_close(teacher.module.running_mean, 0.25 * student.running_mean)
    assert teacher.module.num_batches_tracked == 1


def test_a_momentum_as_in_papers_is_explained() -> None:
    with pytest.raises(
        ConfigError, match=r"momentum=0.996: .* from 0 to 0.5: the papers' 0.996 is 0.004 here"
    ):
        CosineEMA(nn.Linear(2, 2), momentum=0.996)


@pytest.mark.parametrize("name", ["MoCo", "BYOL"])
def test_a_teacher_that_was_loaded_is_not_overwritten(
    name: str, shared: dict[str, Any], tmp_path: Any
) -> None:
    teacher = {"MoCo": "encoder_k", "BYOL": "target_net"}[name]
    model = shared["build"](name).float()
    for key, value in model.state_dict().items():
        if key.startswith(teacher) and value.is_floating_point():
            value.add_(1)
    weights = {key: value.clone() for key, value in model.state_dict().items() if "steps" not in key}
    torch.save(weights, tmp_path / "whole.pth")
    torch.save({k: v for k, v in weights.items() if not k.startswith(teacher)}, tmp_path / "half.pth")
    config = {**shared["METHODS"][name], "pretrain": str(tmp_path / "whole.pth")}
    loaded = MODELS.build(config).train()
    loaded.init_weights()
    loaded.update_teacher(teacher, nn.Sequential(loaded.backbone, loaded.neck))
    first = f"{teacher}.module.0.conv1.weight"
    assert torch.equal(loaded.state_dict()[first], weights[first])
    half = MODELS.build({**config, "pretrain": str(tmp_path / "half.pth")}).train()
    half.update_teacher(teacher, nn.Sequential(half.backbone, half.neck))
    assert torch.equal(half.state_dict()[first], weights["backbone.conv1.weight"])


def test_a_teacher_rests_in_evaluation(shared: dict[str, Any]) -> None:
    model = shared["build"]("BYOL").eval()
    views = shared["batches"]("BYOL")[0]
    assert model(views, mode="loss")["loss"].isfinite()
    assert model.target_net.steps == 0


def test_collapse_is_seen() -> None:
    generator = torch.Generator().manual_seed(0)
    assert embedding_std(torch.randn(4096, 16, generator=generator)).item() == pytest.approx(1, abs=0.02)
    assert embedding_std(torch.ones(8, 16)) == 0
    rows = torch.tensor([[3.0, 0.0], [0.0, 4.0]])  # (1, 0), (0, 1): each channel deviates by 1/2
    assert embedding_std(rows).item() == pytest.approx(0.5 * 2**0.5)
    assert prototype_entropy(torch.full((3, 4), 0.25)).item() == pytest.approx(1)
    assert prototype_entropy(torch.eye(4)[[1, 1, 1]]) == 0
    uneven = -(0.75 * log(0.75) + 0.25 * log(0.25)) / log(2)
    assert prototype_entropy(torch.eye(2)[[0, 0, 0, 1]]).item() == pytest.approx(uneven)


def test_views_of_digits_reach_the_model() -> None:
    large, small = [{"type": "Identity"}], [{"type": "CenterCrop", "size": 4}, lambda image: image + 0]
    pipeline = [{"type": "MultiView", "transforms": [large, small], "num_views": [2, 1]}]
    dataset = DATASETS.build({"type": "Digits", "pipeline": pipeline})
    batch = default_collate([dataset[i] for i in range(3)])
    preprocessor = MODELS.build({"type": "SelfSupDataPreprocessor", "mean": [100.0], "std": [50.0]})
    prepared = preprocessor(batch, training=True)
    images = (dataset.images[:3].float() - 100) / 50
    for view, expected in zip(prepared["inputs"], [images, images, images[..., 2:6, 2:6]], strict=True):
        torch.testing.assert_close(view, expected)
    assert prepared["data_samples"]["labels"].tolist() == dataset.labels[:3]
    alone = preprocessor({"inputs": dataset.images[:3], "data_samples": None})
    torch.testing.assert_close(alone["inputs"], images)
    assert alone["data_samples"] is None


@pytest.mark.parametrize("argument", ["to_rgb", "bgr_to_rgb", "rgb_to_bgr"])
def test_channels_are_reversed_under_all_of_mmpretrains_names(argument: str) -> None:
    preprocessor = MODELS.build({"type": "SelfSupDataPreprocessor", argument: True})
    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(preprocessor({"inputs": [images, images]})["inputs"][1], images.flip(1))
    if argument != "rgb_to_bgr":
        with pytest.raises(ConfigError, match="exclude each other"):
            MODELS.build({"type": "SelfSupDataPreprocessor", argument: True, "rgb_to_bgr": True})


def test_the_augmentations_of_byol_are_there() -> None:
    """Bootstrap Your Own Latent, https://arxiv.org/abs/2006.07733, table 6."""
    jitter = {"type": "ColorJitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}
    blur = {"type": "GaussianBlur", "kernel_size": 23, "sigma": (0.1, 2.0)}

    def view(blurred: float, solarised: float) -> list[dict[str, Any]]:
        return [
            {"type": "RandomResizedCrop", "size": 32, "interpolation": "bicubic"},
            {"type": "RandomHorizontalFlip"},
            {"type": "RandomApply", "transforms": [jitter], "p": 0.8},
            {"type": "RandomGrayscale", "p": 0.2},
            {"type": "RandomApply", "transforms": [blur], "p": blurred},
            {"type": "RandomSolarize", "threshold": 128, "p": solarised},
        ]

    transforms = [view(1.0, 0.0), view(0.1, 0.2)]
    views = TRANSFORMS.build({"type": "MultiView", "transforms": transforms, "num_views": [1, 1]})
    image = tv_tensors.Image(torch.randint(256, (3, 48, 64), dtype=torch.uint8))
    first, second = views(image)
    assert first.shape == second.shape == (3, 32, 32)
    assert first.dtype == torch.uint8
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("transforms", "num_views"), [([[], []], 2), ([{"type": "Identity"}], 1), ([[]], [1, 1])]
)
def test_views_need_a_number_for_each_pipeline(transforms: list, num_views: Any) -> None:
    with pytest.raises(ConfigError, match="num_views has one number for each"):
        TRANSFORMS.build({"type": "MultiView", "transforms": transforms, "num_views": num_views})


def test_projectors_have_the_layers_that_are_asked_for() -> None:
    three = NECKS.build(
        {
            "type": "NonLinearNeck",
            "in_channels": 4,
            "hid_channels": 6,
            "out_channels": 3,
            "num_layers": 3,
            "with_bias": True,
            "with_last_bn_affine": False,
            "norm_cfg": {"type": "BN"},
        }
    ).double()
    shapes = {key: tuple(value.shape) for key, value in three.named_parameters()}
    biases = {"fc0.bias": (6,), "fc1.bias": (6,)}
    norms = {f"bn{i}.{kind}": (6,) for i in (0, 1) for kind in ("weight", "bias")}
    weights = {"fc0.weight": (6, 4), "fc1.weight": (6, 6), "fc2.weight": (3, 6)}
    assert shapes == {**weights, **biases, **norms}
    maps = torch.randn(8, 4, 2, 2, dtype=torch.double)
    (out,) = three((maps,))
    x = maps.mean(dim=(2, 3))
    for i in range(3):
        x = nn.functional.linear(x, *three.get_submodule(f"fc{i}").parameters())
        x = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
        x = x.relu() if i < 2 else x
    torch.testing.assert_close(out, x)
    torch.testing.assert_close(three.eval()((maps.mean(dim=(2, 3)),)), three(maps))
    with pytest.raises(ConfigError, match="num_layers=1, expected 2 or more"):
        NECKS.build(
            {"type": "NonLinearNeck", "in_channels": 4, "hid_channels": 6, "out_channels": 3, "num_layers": 1}
        )


@pytest.mark.parametrize("name", ["NonLinearNeck", "MoCoV2Neck", "SwAVNeck", "DINONeck"])
def test_a_projector_of_another_width_than_the_features_says_so(name: str) -> None:
    hidden = {"hidden_channels" if name == "DINONeck" else "hid_channels": 6}
    neck = NECKS.build({"type": name, "in_channels": 4, "out_channels": 3, **hidden})
    neck.eval()((torch.randn(2, 4, 3, 3),))
    with pytest.raises(ConfigError, match=f"{name}: in_channels=4, but each image gives 20 numbers"):
        neck((torch.randn(2, 5, 4),))


def test_a_class_token_beside_patch_tokens_is_taken() -> None:
    options = {"in_channels": 4, "hid_channels": 6, "out_channels": 3, "vit_backbone": True}
    neck = NECKS.build({"type": "NonLinearNeck", **options}).eval()
    tokens = torch.randn(2, 4)
    torch.testing.assert_close(neck(((torch.randn(2, 4, 3, 3), tokens),)), neck((tokens,)))


def test_batch_normalisation_for_several_processes_is_the_plain_one_alone() -> None:
    layer = nn.SyncBatchNorm(3, momentum=None)
    model = sync_on_cpus(nn.Sequential(layer, nn.Sequential(nn.SyncBatchNorm(3, affine=False))))
    plain = nn.Sequential(nn.BatchNorm2d(3, momentum=None), nn.Sequential(nn.BatchNorm2d(3, affine=False)))
    assert isinstance(model[0], CPUSyncBatchNorm) and model[0].weight is layer.weight
    x = torch.randn(4, 3, 2, 2)
    torch.testing.assert_close(model(x), plain(x))
    torch.testing.assert_close(dict(model.state_dict()), dict(plain.state_dict()))
    torch.testing.assert_close(model.eval()(x), plain.eval()(x))
