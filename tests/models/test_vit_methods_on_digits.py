"""Masked image modelling, MoCo v3 and DINO on the embedded digits: they learn, resume, and hand over."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.hooks import Hook

from framework import MODELS
from framework.engine import Runner

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
IMAGE = dict(img_size=8, patch_size=2, in_channels=1)
PIXELS = dict(mean=[77.93], std=[95.87])


def neck(**changes: object) -> dict:
    widths = dict(in_channels=16, hid_channels=32, out_channels=16, norm_cfg=dict(type="BN1d"))
    return dict(type="NonLinearNeck", **{**widths, "with_last_bn_affine": False, **changes})


METHODS: dict[str, dict[str, Any]] = {
    "MAE": dict(
        backbone=dict(type="MAEViT", arch=ARCH, **IMAGE),
        neck=dict(
            type="MAEPretrainDecoder",
            num_patches=16,
            patch_size=2,
            in_chans=1,
            embed_dim=16,
            decoder_embed_dim=16,
            decoder_depth=1,
            decoder_num_heads=2,
        ),
        head=dict(
            type="MAEPretrainHead",
            patch_size=2,
            in_channels=1,
            loss=dict(type="PixelReconstructionLoss", criterion="L2"),
        ),
    ),
    "SimMIM": dict(
        backbone=dict(type="SimMIMViT", arch=ARCH, out_type="featmap", **IMAGE),
        neck=dict(type="SimMIMLinearDecoder", in_channels=16, encoder_stride=2, target_channels=1),
        head=dict(type="SimMIMHead", patch_size=2, loss=dict(type="PixelReconstructionLoss", criterion="L1")),
        mask_patch_size=2,
    ),
    "MoCoV3": dict(
        backbone=dict(type="MoCoV3ViT", arch=ARCH, stop_grad_conv1=True, **IMAGE),
        neck=neck(),
        head=dict(type="MoCoV3Head", predictor=neck(), loss=dict(type="CrossEntropyLoss"), temperature=0.2),
    ),
    "DINO": dict(
        backbone=dict(type="VisionTransformer", arch=ARCH, drop_path_rate=0.1, **IMAGE),
        neck=dict(
            type="DINONeck", in_channels=16, hidden_channels=32, bottleneck_channels=16, out_channels=32
        ),
        head=dict(type="DINOHead", out_channels=32, num_crops=4, center_momentum=0.5),
        base_momentum=0.05,
    ),
}
LARGE = [dict(type="RandomCrop", size=8, padding=1)]
SMALL = [dict(type="RandomCrop", size=6)]
PIPELINES = {
    "MoCoV3": [dict(type="MultiView", transforms=[LARGE], num_views=2)],
    "DINO": [dict(type="MultiView", transforms=[LARGE, SMALL], num_views=[2, 2])],
}


#: Two epochs of 640 digits.
STEPS = 2 * (640 // 32)


class Losses(Hook):
    def __init__(self) -> None:
        self.values: list[float] = []
        self.logged: set[str] = set()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.values.append(outputs["loss"].item())
        self.logged |= set(outputs)


def run(name: str, work_dir, resume: bool = False, epochs: int = 2) -> tuple[Runner, Losses]:
    data = dict(type="Digits", split="train", test_size=1157, pipeline=PIPELINES.get(name, []))
    runner = Runner(
        model=MODELS.build(dict(type=name, data_preprocessor=PIXELS, **METHODS[name])),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=32, dataset=data, sampler=dict(type="DefaultSampler", shuffle=True), drop_last=True
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=3e-3)),
        default_hooks=dict(logger=dict(type="LoggerHook", interval=10)),
        randomness=dict(seed=1),
        resume=resume,
    )
    losses = Losses()
    runner.register_hook(losses)
    try:
        runner.train()
    finally:
        runner.close()
    return runner, losses


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Any]:
    """Runs of all methods: their folder and their losses."""
    runs = {}
    for name in METHODS:
        folder = tmp_path_factory.mktemp(name)
        runs[name] = (folder, *run(name, folder))
    return runs


@pytest.mark.parametrize("name", ["MAE", "SimMIM", "MoCoV3"])
def test_its_loss_falls(name: str, trained: dict[str, Any]) -> None:
    values = trained[name][2].values
    assert len(values) == STEPS
    assert sum(values[-5:]) < 0.95 * sum(values[:5])


def batch(name: str) -> Any:
    generator = torch.Generator().manual_seed(0)
    sizes = {"MoCoV3": (8, 8), "DINO": (8, 8, 6, 6)}.get(name, (8,))
    views = [torch.rand(16, 1, size, size, generator=generator) for size in sizes]
    return views if len(views) > 1 else views[0]


@pytest.mark.parametrize("name", METHODS)
def test_everything_that_learns_has_a_gradient_and_half_precision_gives_nearly_the_same(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS.build(dict(type=name, data_preprocessor=PIXELS, **METHODS[name])).eval()
    losses = []
    for enabled in (False, True):
        torch.manual_seed(1)  # the same mask
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append(model(batch(name), mode="loss")["loss"])
    assert losses[0].dtype == losses[1].dtype == torch.float32
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.05)
    losses[0].backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("name", METHODS)
def test_a_run_goes_on_where_it_stopped(name: str, trained: dict[str, Any], tmp_path) -> None:
    folder, runner, losses = trained[name]
    (tmp_path / "epoch_1.pth").write_bytes((folder / "epoch_1.pth").read_bytes())
    (tmp_path / "last_checkpoint").write_text("epoch_1.pth")
    again, rest = run(name, tmp_path, resume=True)
    assert rest.values == losses.values[STEPS // 2 :]
    for key, value in runner.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], value), key


@pytest.mark.parametrize("name", METHODS)
def test_its_backbone_goes_to_a_classifier_by_the_path_alone(name: str, trained: dict[str, Any]) -> None:
    folder, runner, _ = trained[name]
    model = MODELS.build(
        dict(
            type="Classifier",
            backbone=dict(type="VisionTransformer", arch=ARCH, pretrain=str(folder / "epoch_2.pth"), **IMAGE),
            head=dict(type="LinearClsHead", num_classes=10, in_channels=16),
        )
    )
    assert model.backbone.pretrain_report.coverage == 1
    source = runner.model.teacher.module[0] if name == "DINO" else runner.model.backbone
    weights = source.state_dict()
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, weights[key]), key


def test_collapse_is_watched(trained: dict[str, Any]) -> None:
    assert trained["MoCoV3"][2].logged == {"loss", "embedding_std"}
    assert trained["DINO"][2].logged == {"loss", "embedding_std", "prototype_entropy"}
