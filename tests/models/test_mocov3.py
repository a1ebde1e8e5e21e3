"""MoCo v3 against the paper's algorithm in loops."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.optim import OptimWrapper

from framework import MODELS
from framework.models.heads import MoCoV3Head
from framework.models.layers.sincos import sincos_pos_embed
from framework.models.selfsup import MoCoV3ViT

TAU = 0.2
ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)


def neck(**changes: object) -> dict:
    widths = dict(in_channels=16, hid_channels=24, out_channels=8)
    last = dict(with_last_bn_affine=False, with_avg_pool=False, norm_cfg=dict(type="BN1d"))
    return dict(type="NonLinearNeck", **{**widths, **last, **changes})


def config(**changes: object) -> dict:
    return dict(
        type="MoCoV3",
        backbone=dict(type="MoCoV3ViT", arch=ARCH, img_size=8, patch_size=4, stop_grad_conv1=True),
        neck=neck(num_layers=3),
        head=dict(
            type="MoCoV3Head",
            predictor=neck(in_channels=8),
            loss=dict(type="CrossEntropyLoss", loss_weight=2 * TAU),
            temperature=TAU,
        ),
        base_momentum=0.1,
        **changes,
    )


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length for v in vector]


def in_loops(queries: list[list[float]], keys: list[list[float]]) -> float:
    """The paper's `ctr(q, k)`, in algorithm 1."""
    total = 0.0
    for i, query in enumerate(queries):
        similar = [sum(a * b for a, b in zip(unit(query), unit(key), strict=True)) / TAU for key in keys]
        total += -similar[i] + math.log(sum(math.exp(s) for s in similar))
    return 2 * TAU * total / len(queries)


def test_the_loss_is_the_papers_in_loops() -> None:
    torch.manual_seed(0)
    model = MODELS.build(config()).double().train()
    views = [torch.rand(6, 3, 8, 8, dtype=torch.float64) for _ in range(2)]
    student, predict = (torch.nn.Sequential(model.backbone, model.neck), model.head.predictor)
    with torch.no_grad():
        queries = [predict(student(view))[0].tolist() for view in views]
        keys = [student(view)[0].tolist() for view in views]  # the teacher begins as the student
    expected = in_loops(queries[0], keys[1]) + in_loops(queries[1], keys[0])
    losses = model.loss(views)
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-12)
    embeddings = torch.tensor([unit(k) for k in keys[0]], dtype=torch.float64)
    spread = embeddings.std(dim=0, correction=0).mean().item() * math.sqrt(8)
    assert losses["embedding_std"].item() == pytest.approx(spread, rel=1e-6)


def test_the_loss_is_not_computed_in_half_precision() -> None:
    head = MODELS.build({**config()["head"], "predictor": torch.nn.Identity()})
    queries, keys = torch.randn(2, 6, 8).unbind()
    exact = head.loss(queries, keys).item()
    with torch.autocast("cpu", torch.bfloat16):
        assert head.loss(queries, keys).item() == pytest.approx(exact, rel=1e-6)


def test_no_gradient_flows_into_the_keys_and_the_frozen_patch_embedding() -> None:
    torch.manual_seed(0)
    model = MODELS.build(config())
    model.loss([torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)])["loss"].backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    frozen = {"backbone.pos_embed", "backbone.patch_embed.proj.weight", "backbone.patch_embed.proj.bias"}
    assert {name for name in without if not name.startswith("momentum_encoder.")} == frozen
    assert all(p.grad is None for p in model.momentum_encoder.parameters())


def test_the_teacher_follows_its_student() -> None:
    torch.manual_seed(0)
    model = MODELS.build(config())
    optimizer = OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1))
    data = dict(inputs=[torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)], labels=torch.zeros(4))
    name = "blocks.0.mlp.fc1.weight"
    expected = model.backbone.get_parameter(name).detach().clone()
    for _ in range(3):
        model.train_step(data, optimizer)
    followed = model.momentum_encoder.module[0].get_parameter(name).clone()
    assert not torch.equal(followed, expected)
    model.loss(data["inputs"])
    student = model.backbone.get_parameter(name)
    assert torch.allclose(
        model.momentum_encoder.module[0].get_parameter(name), 0.9 * followed + 0.1 * student, atol=1e-7
    )


def test_initial_values_and_sizes_are_those_of_the_authors() -> None:
    torch.manual_seed(0)
    backbone = MoCoV3ViT(dict(ARCH, embed_dims=64), img_size=16, patch_size=4)
    assert torch.equal(backbone.pos_embed, sincos_pos_embed((4, 4), 64, 1, rows_first=True))
    bounds = {
        "patch_embed.proj.weight": math.sqrt(6 / (3 * 16 + 64)),
        "blocks.1.attn.qkv.weight": math.sqrt(6 / (64 + 64)),
        "blocks.1.mlp.fc1.weight": math.sqrt(6 / (64 + 32)),
    }
    for name, bound in bounds.items():
        values = backbone.get_parameter(name).detach()
        assert 0.97 * bound < values.abs().max() <= bound
    assert 0 < backbone.cls_token.abs().max() < 1e-5
    small = MoCoV3ViT("mocov3-small", img_size=32, patch_size=16, layer_cfgs=None)
    assert (small.embed_dims, small.blocks[0].attn.num_heads) == (384, 12)


def test_the_published_config_builds() -> None:
    projector = dict(
        type="NonLinearNeck",
        in_channels=768,
        hid_channels=4096,
        out_channels=256,
        num_layers=3,
        with_bias=False,
        with_last_bn=True,
        with_last_bn_affine=False,
        with_last_bias=False,
        with_avg_pool=False,
    )
    model = dict(
        type="MoCoV3",
        base_momentum=0.01,
        backbone=dict(type="MoCoV3ViT", arch="base", img_size=224, patch_size=16, stop_grad_conv1=True),
        neck=projector,
        head=dict(
            type="MoCoV3Head",
            predictor=dict(projector, in_channels=256, num_layers=2),
            loss=dict(type="CrossEntropyLoss", loss_weight=2 * TAU),
            temperature=TAU,
        ),
    )
    with torch.device("meta"):
        built = MODELS.build(model)
    assert sum(p.numel() for p in built.backbone.parameters()) == 85798656
    assert sum(p.numel() for p in built.neck.parameters()) == 768 * 4096 + 4096**2 + 4096 * 256 + 4 * 4096
    names = [name for name, _ in built.head.named_parameters()]
    assert names == [f"predictor.{n}" for n in ("fc0.weight", "bn0.weight", "bn0.bias", "fc1.weight")]


#: The layers of projectors in facebookresearch/moco-v3@c349e6e moco/builder.py, and what they are here.
LAYERS = {"0": "fc0", "1": "bn0", "3": "fc1", "4": "bn1", "6": "fc2", "7": "bn2"}


def official(name: str) -> str:
    """The name in the official files of one of ours."""
    if name.startswith("backbone."):
        return name.replace("backbone.", "module.base_encoder.", 1)
    name = name.replace("neck.", "module.base_encoder.head.").replace("head.predictor.", "module.predictor.")
    for theirs, ours in LAYERS.items():
        name = name.replace(f".{ours}.", f".{theirs}.")
    return name


def test_an_official_checkpoint_goes_on_training_here(tmp_path) -> None:
    torch.manual_seed(0)
    source = MODELS.build(config())
    student = {
        name: torch.rand_like(value)
        for name, value in source.state_dict().items()
        if not name.startswith("momentum_encoder.") and value.is_floating_point()
    }
    weights = {official(name): value for name, value in student.items()}
    weights |= {k.replace("base_", "momentum_"): v + 1 for k, v in weights.items() if "base_" in k}
    path = str(tmp_path / "vit.pth.tar")
    torch.save(dict(epoch=300, arch="vit_base", state_dict=weights), path)
    layers = dict(path=path, revise_keys=[(rf"\.{k}\.", f".{v}.") for k, v in LAYERS.items()])
    parts = config()
    parts["backbone"]["pretrain"] = path
    parts["neck"]["pretrain"] = layers | dict(sub_level="module.base_encoder.head")
    parts["head"]["predictor"]["pretrain"] = layers | dict(sub_level="module.predictor")
    model = MODELS.build(parts)
    teacher = {"0.": "backbone.", "1.": "neck."}
    loaded = 0
    for name, value in model.state_dict().items():
        inner = name.removeprefix("momentum_encoder.module.")
        ours = name if inner == name else teacher[inner[:2]] + inner[2:]
        if ours in student:
            loaded += 1
            assert torch.equal(value, student[ours]), name
    assert loaded == 2 * len(student) - sum(name.startswith("head.") for name in student)


def test_the_weight_of_the_loss_is_the_configs() -> None:
    head = MoCoV3Head(predictor=torch.nn.Identity(), loss=dict(type="CrossEntropyLoss"), temperature=TAU)
    head.predictor.forward = lambda x: x
    queries, keys = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    expected = in_loops(queries.tolist(), keys.tolist()) / (2 * TAU)
    assert head.loss(queries, keys).item() == pytest.approx(expected, rel=1e-12)
