"""Checkpoints of official self-supervised code go on training: every part gives what it gives there.

The models are timm's ResNet with what the official code has around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.registry import MODELS

timm = pytest.importorskip("timm")

WIDTH = 64
BACKBONE = {"type": "ResNet", "depth": 18, "base_channels": 8}
CONTRAST = {"type": "ContrastiveHead", "loss": {"type": "CrossEntropyLoss"}}


def encoder(*projector: nn.Module) -> nn.Module:
    """A ResNet with a projector, or nothing, in the place of its classifier."""
    block = timm.models.resnet.BasicBlock
    network = timm.models.ResNet(block, (2, 2, 2, 2), channels=(8, 16, 32, WIDTH), num_classes=0)
    network.fc = nn.Sequential(*projector) if projector else nn.Identity()
    return network


def two_layers() -> tuple[nn.Module, ...]:
    return nn.Linear(WIDTH, 32), nn.ReLU(), nn.Linear(32, 16)


def filled(network: nn.Module) -> nn.Module:
    """Give every tensor values that tell it apart, buffers and biases included."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.1)
        else:
            tensor.fill_(len(name))
    return network.eval()


def saved(network: nn.Module, path: Path, key: str, prefix: str = "module.") -> str:
    """Write a file as the official trainings do, behind DistributedDataParallel."""
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    torch.save({"epoch": 3, "arch": "resnet18", key: state, "optimizer": {"param_groups": []}}, path)
    return str(path)


def build(name: str, path: str, **parts: Any) -> Any:
    return MODELS.build({"type": name, "backbone": BACKBONE, "pretrain": path, **parts}).eval()


def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def close(*pairs: tuple[Tensor, Tensor]) -> None:
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


class OfficialMoCo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder_q, self.encoder_k = encoder(*two_layers()), encoder(*two_layers())
        self.register_buffer("queue", torch.rand(16, 24))
        self.register_buffer("queue_ptr", torch.tensor([8]))


def test_moco(tmp_path: Path) -> None:
    theirs = filled(OfficialMoCo())
    theirs.encoder_k.load_state_dict({k: v * 1.1 for k, v in theirs.encoder_q.state_dict().items()})
    neck = {"type": "MoCoV2Neck", "in_channels": WIDTH, "hid_channels": 32, "out_channels": 16}
    path = saved(theirs, tmp_path / "checkpoint_0199.pth.tar", "state_dict")
    ours = build("MoCo", path, neck=neck, head=CONTRAST, queue_len=24, feat_dim=16)
    report = ours.pretrain_report
    assert (report.dialect, report.coverage, report.unexpected, report.fresh) == ("moco", 1, (), ())
    x = images()
    close((ours.embed(x), theirs.encoder_q(x)), (ours.encoder_k(x)[0], theirs.encoder_k(x)))
    close((ours.queue, theirs.queue))
    assert torch.equal(ours.queue_ptr, theirs.queue_ptr)
    before = ours.encoder_k.module[1].mlp[0].weight.clone()
    ours.train().update_teacher("encoder_k", nn.Sequential(ours.backbone, ours.neck))
    assert torch.equal(ours.encoder_k.module[1].mlp[0].weight, before)  # the file's teacher, not a copy


class OfficialSimSiam(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        hidden = [nn.Linear(WIDTH, WIDTH, bias=False), nn.BatchNorm1d(WIDTH), nn.ReLU()]
        again = [nn.Linear(WIDTH, WIDTH, bias=False), nn.BatchNorm1d(WIDTH), nn.ReLU()]
        self.encoder = encoder(*hidden, *again, nn.Linear(WIDTH, 24), nn.BatchNorm1d(24, affine=False))
        self.predictor = nn.Sequential(
            nn.Linear(24, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 24)
        )


def test_simsiam(tmp_path: Path) -> None:
    theirs = filled(OfficialSimSiam())
    neck = {"type": "NonLinearNeck", "in_channels": WIDTH, "hid_channels": WIDTH, "out_channels": 24}
    neck.update(num_layers=3, with_last_bn_affine=False, with_last_bias=True)
    predictor = {"type": "NonLinearNeck", "in_channels": 24, "hid_channels": 8, "out_channels": 24}
    predictor.update(with_avg_pool=False, with_last_bn=False, with_last_bias=True)
    loss = {"type": "CosineSimilarityLoss"}
    head = {"type": "LatentPredictHead", "loss": loss, "predictor": predictor}
    path = saved(theirs, tmp_path / "checkpoint_0099.pth.tar", "state_dict")
    ours = build("SimSiam", path, neck=neck, head=head)
    report = ours.pretrain_report
    assert (report.dialect, report.coverage, report.unexpected, report.fresh) == ("simsiam", 1, (), ())
    z = theirs.encoder(x := images())
    close((ours.embed(x), z), (ours.head.predictor((z,))[0], theirs.predictor(z)))
    without = build("SimSiam", path, neck={**neck, "with_last_bias": False}, head=head)
    assert without.pretrain_report.unexpected == ("module.encoder.fc.6.bias",)


class OfficialBarlowTwins(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = encoder()
        sizes, layers = (WIDTH, 24, 24, 24), []
        for i in range(2):
            layers += [nn.Linear(sizes[i], sizes[i + 1], bias=False), nn.BatchNorm1d(24), nn.ReLU()]
        self.projector = nn.Sequential(*layers, nn.Linear(24, 24, bias=False))
        self.bn = nn.BatchNorm1d(24, affine=False)


def test_barlow_twins(tmp_path: Path) -> None:
    theirs = filled(OfficialBarlowTwins())
    neck = {"type": "NonLinearNeck", "in_channels": WIDTH, "hid_channels": 24, "out_channels": 24}
    neck.update(num_layers=3, with_last_bn=False)
    head = {"type": "LatentCrossCorrelationHead", "in_channels": 24, "loss": {"type": "CrossCorrelationLoss"}}
    ours = build("BarlowTwins", saved(theirs, tmp_path / "checkpoint.pth", "model"), neck=neck, head=head)
    report = ours.pretrain_report
    assert (report.dialect, report.coverage, report.unexpected, report.fresh) == ("barlowtwins", 1, (), ())
    z = theirs.projector(theirs.backbone(x := images()))
    close((ours.embed(x), z), (ours.head.bn(z), theirs.bn(z)))


class OfficialSwAV(nn.Module):
    """The projection and the prototypes stand beside the layers of the ResNet."""

    def __init__(self) -> None:
        super().__init__()
        for name, child in encoder().named_children():
            self.add_module(name, child)
        hidden = [nn.Linear(WIDTH, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 8)]
        self.projection_head = nn.Sequential(*hidden)
        self.prototypes = nn.Linear(8, 30, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.act1(self.bn1(self.conv1(x))))
        x = self.global_pool(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
        return functional.normalize(self.projection_head(x), dim=1)


def test_swav(tmp_path: Path) -> None:
    theirs = filled(OfficialSwAV())
    neck = {"type": "SwAVNeck", "in_channels": WIDTH, "hid_channels": 24, "out_channels": 8}
    loss = {"type": "SwAVLoss", "feat_dim": 8, "num_prototypes": 30}
    path = saved(theirs, tmp_path / "swav_800ep_pretrain.pth.tar", "state_dict")
    ours = build("SwAV", path, neck=neck, head={"type": "SwAVHead", "loss": loss})
    report = ours.pretrain_report
    assert (report.dialect, report.coverage, report.unexpected, report.fresh) == ("swav", 1, (), ())
    z = theirs(x := images())
    close((ours.neck(ours.backbone(x)), z), (ours.head.loss_module.prototypes(z), theirs.prototypes(z)))


def test_mmpretrains_names_are_ours(tmp_path: Path) -> None:
    projector = {"type": "NonLinearNeck", "in_channels": WIDTH, "hid_channels": 24, "out_channels": 8}
    predictor = {**projector, "in_channels": 8, "with_avg_pool": False}
    loss = {"type": "CosineSimilarityLoss"}
    head = {"type": "LatentPredictHead", "loss": loss, "predictor": predictor}
    parts = {"type": "BYOL", "backbone": BACKBONE, "neck": projector, "head": head}
    source = filled(MODELS.build(parts))
    source.target_net.steps.fill_(5)
    path = saved(source, tmp_path / "epoch_200.pth", "state_dict", prefix="")
    ours = MODELS.build({**parts, "pretrain": path})
    for name, tensor in source.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name
    assert ours.pretrain_report.coverage == 1
    names = ("target_net.module.0.bn1.weight", "target_net.module.1.fc0.weight", "target_net.steps")
    assert set(names) <= set(source.state_dict())
