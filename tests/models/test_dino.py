"""DINO against the paper's algorithm in loops, and lightly's loss of that name."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper

from framework import DATASETS, MODELS
from framework.engine import DINOFreezeLastLayerHook, DINOTeacherTempWarmupHook
from framework.errors import ConfigError
from framework.models.heads import DINOHead
from framework.models.necks import DINONeck

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)


def config(**backbone: object) -> dict:
    return dict(
        type="DINO",
        backbone=dict(type="VisionTransformer", arch=ARCH, img_size=8, patch_size=2, **backbone),
        neck=dict(
            type="DINONeck", in_channels=16, hidden_channels=24, bottleneck_channels=8, out_channels=12
        ),
        head=dict(type="DINOHead", out_channels=12, num_crops=4),
        base_momentum=0.1,
    )


def views(batch: int = 4, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [torch.rand(batch, 3, size, size, dtype=dtype) for size in (8, 8, 4, 4)]


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    powers = [math.exp(v - top) for v in values]
    return [p / sum(powers) for p in powers]


def test_the_loss_is_the_papers_in_loops() -> None:
    torch.manual_seed(0)
    student = torch.randn(3 * 2, 5, dtype=torch.float64)
    teacher = torch.randn(2 * 2, 5, dtype=torch.float64)
    head = DINOHead(5, num_crops=3, teacher_temp=0.07).double().train()
    head.center.normal_()
    center = head.center[0].tolist()
    total, terms = 0.0, 0
    for i in range(2):
        for j in range(3):
            if i == j:
                continue
            terms += 1
            for b in range(2):
                target = [(t - c) / 0.07 for t, c in zip(teacher[2 * i + b].tolist(), center, strict=True)]
                predicted = softmax([s / 0.1 for s in student[2 * j + b].tolist()])
                parts = zip(softmax(target), predicted, strict=True)
                total += -sum(p * math.log(q) for p, q in parts) / 2
    assert head.loss(student, teacher).item() == pytest.approx(total / terms, rel=1e-12)
    moved = [0.9 * c + 0.1 * sum(teacher[:, k].tolist()) / 4 for k, c in enumerate(center)]
    assert head.center[0].tolist() == pytest.approx(moved, rel=1e-12)


def test_the_centre_rests_in_evaluation() -> None:
    head = DINOHead(5, num_crops=2).eval()
    head.loss(torch.randn(4, 5), torch.randn(4, 5))
    assert not head.center.any()
    with pytest.raises(ConfigError, match="num_crops=1, expected 2 or more"):
        DINOHead(5, num_crops=1)


def test_loss_centre_and_gradients_are_lightlys() -> None:
    lightly = pytest.importorskip("lightly.loss")
    torch.manual_seed(0)
    theirs = lightly.DINOLoss(output_dim=7, teacher_temp=0.06, warmup_teacher_temp_epochs=0)
    head = DINOHead(7, num_crops=4, teacher_temp=0.06)
    for _ in range(3):
        student = torch.randn(4 * 3, 7, requires_grad=True)
        teacher = torch.randn(2 * 3, 7)
        expected = theirs(list(teacher.chunk(2)), list(student.chunk(4)), epoch=0)
        (wanted,) = torch.autograd.grad(expected, student)
        loss = head.loss(student, teacher)
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        assert torch.allclose(gradient, wanted, atol=1e-6)
    assert torch.allclose(head.center, theirs.center.view(1, 7), atol=1e-6)


def test_the_projector_is_its_definition() -> None:
    torch.manual_seed(0)
    neck = DINONeck(6, 10, 7, bottleneck_channels=5)
    torch.nn.init.uniform_(neck.last_layer.weight_g, 1, 2)
    x = torch.randn(3, 6)
    gelu = torch.nn.functional.gelu
    hidden = neck.mlp[4](gelu(neck.mlp[2](gelu(neck.mlp[0](x)))))
    (similar,) = neck((x,))
    for b in range(3):
        for k in range(7):
            v, g = neck.last_layer.weight_v[k], neck.last_layer.weight_g[k, 0]
            expected = g * (v @ hidden[b]) / (v.norm() * hidden[b].norm())
            assert similar[b, k].item() == pytest.approx(expected.item(), abs=1e-5)
    learning = [name for name, p in neck.last_layer.named_parameters() if p.requires_grad]
    assert learning == ["weight_v"]
    assert DINONeck(6, 10, 7, norm_last_layer=False).last_layer.weight_g.requires_grad
    with pytest.raises(ConfigError, match="num_layers=0"):
        DINONeck(6, 10, 7, num_layers=0)


def test_views_go_through_student_and_teacher_as_the_paper_says() -> None:
    torch.manual_seed(0)
    model = MODELS.build(config()).double().train()
    batch = views(dtype=torch.float64)
    whole = torch.nn.Sequential(model.backbone, model.neck)
    with torch.no_grad():
        student = torch.cat([whole(view)[0] for view in batch])
    expected = DINOHead(12, num_crops=4).double().loss(student, student[:8])
    losses = model.loss(batch)
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-10)
    assert 0 < losses["prototype_entropy"] <= 1
    assert losses["embedding_std"] > 0
    losses["loss"].backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is not None for n, p in model.named_parameters() if p.requires_grad)


def test_nothing_is_dropped_at_random_in_the_teacher() -> None:
    torch.manual_seed(0)
    model = MODELS.build(config(drop_path_rate=0.5, drop_rate=0.5)).train()
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(model.teacher(images)[0], model.teacher(images)[0])
    assert not torch.equal(model.backbone(images)[0], model.backbone(images)[0])


def test_the_teachers_batch_normalisation_is_that_of_training() -> None:
    backbone = dict(type="ResNet", depth=18, stem_channels=4, base_channels=4, num_stages=1, strides=(1,))
    backbone.update(dilations=(1,), out_indices=(0,))
    model = MODELS.build(config() | dict(backbone=backbone))
    for mode in (True, False):
        layers = [m for m in model.train(mode).teacher.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert layers and all(layer.training == mode for layer in layers)


def test_prototypes_that_rest_have_gradients_of_zero() -> None:
    torch.manual_seed(0)
    model = MODELS.build(config())
    hook, runner = DINOFreezeLastLayerHook(1), SimpleNamespace(bare_model=model, train_dataloader=[0])
    for epoch in range(2):
        runner.iter = epoch
        hook.before_train_iter(runner, 0)
        model.zero_grad()
        model.loss(views())["loss"].backward()
        assert bool(model.neck.last_layer.weight_v.grad.any()) == (epoch == 1)
        assert model.neck.mlp[0].weight.grad.any()


def test_the_teachers_temperature_rises_in_equal_steps() -> None:
    model = MODELS.build(config())
    hook = DINOTeacherTempWarmupHook(0.04, 0.07, teacher_temp_warmup_epochs=4, max_epochs=10)
    seen = []
    for epoch in range(6):
        hook.before_train_iter(SimpleNamespace(bare_model=model, iter=epoch, train_dataloader=[0]), 0)
        seen.append(model.head.teacher_temp)
    assert seen == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.07, 0.07])
    assert DINOTeacherTempWarmupHook(0.02, 0.07, 0).temperature(0) == 0.07
    assert DINOTeacherTempWarmupHook(0.02, 0.07, 1).temperature(0) == 0.02


def test_too_few_views_are_an_error_that_tells_what_to_do() -> None:
    with pytest.raises(ValueError, match="DINO learns from 4 views of each image, got 2: end the pipeline"):
        MODELS.build(config()).loss(views()[:2])


def test_an_official_checkpoint_goes_on_training_here(tmp_path) -> None:
    torch.manual_seed(0)
    source = MODELS.build(config())
    student = {k: torch.randn_like(v) for k, v in source.state_dict().items() if not k.startswith("teacher.")}
    names = {k.replace("neck.", "head."): v for k, v in student.items() if not k.startswith("head.")}
    roles = dict(
        student={f"module.{k}": v for k, v in names.items()}, teacher={k: v + 1 for k, v in names.items()}
    )
    torch.save(roles | dict(epoch=3), tmp_path / "full.pth")
    role = dict(pretrain=dict(path=str(tmp_path / "full.pth"), key="student"))
    parts = config()
    model = MODELS.build(parts | dict(backbone=parts["backbone"] | role, neck=parts["neck"] | role))
    assert model.backbone.pretrain_report.coverage == model.neck.pretrain_report.coverage == 1
    for name, part in (("backbone.", model.backbone), ("neck.", model.neck)):
        for key, value in part.state_dict().items():
            assert torch.equal(value, student[name + key]), key
    for ours, theirs in zip(model.teacher.module, (model.backbone, model.neck), strict=True):
        assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))


def test_it_learns_on_digits_and_does_not_collapse() -> None:
    """The loss is the entropy of the targets, which rises first, and the distance from them, which falls."""
    torch.manual_seed(0)
    arch = dict(embed_dims=32, num_layers=1, num_heads=4, feedforward_channels=64)
    image = dict(img_size=8, patch_size=2, in_channels=1, out_type="avg_featmap")
    model = MODELS.build(
        dict(
            type="DINO",
            data_preprocessor=dict(mean=[77.93], std=[95.87]),
            backbone=dict(type="VisionTransformer", arch=arch, **image),
            neck=dict(
                type="DINONeck",
                in_channels=32,
                hidden_channels=64,
                bottleneck_channels=32,
                out_channels=32,
            ),
            head=dict(type="DINOHead", out_channels=32, num_crops=2),
            base_momentum=0.01,
        )
    )
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = OptimWrapper(torch.optim.AdamW(learning, lr=1e-3), clip_grad=dict(max_norm=1.0))
    images = DATASETS.build(dict(type="Digits", split="train")).images.float()
    logs, distances = [], []
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 50)
        model.neck.last_layer.frozen = step < 20
        batch = images[torch.randint(len(images), (64,))]
        moved = [batch.roll(tuple(torch.randint(-1, 2, (2,)).tolist()), (2, 3)) for _ in range(2)]
        noisy = [view + 20 * torch.randn_like(view) for view in moved]
        logs.append(model.train_step(dict(inputs=noisy), optimizer))
        entropy = torch.special.entr(model.head.assignments).sum(dim=1).mean()
        distances.append(logs[-1]["loss"].item() - entropy.item())
    assert sum(distances[-10:]) < 0.7 * sum(distances[:10])
    assert logs[-1]["embedding_std"] > 0.2
    assert logs[-1]["prototype_entropy"] > 0.5
    assert int(model.teacher.steps) == 60
