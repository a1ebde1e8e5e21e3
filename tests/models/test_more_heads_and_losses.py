"""Stacked and multi-label heads, pooling necks, and losses for many or unequal classes."""

import math

import pytest
import torch
import torchvision
from torch import nn

from framework.errors import ConfigError
from framework.models.heads import MultiLabelLinearClsHead, StackedLinearClsHead
from framework.registry import HEADS, LOSSES, MODELS, NECKS

RESNET = {"type": "ResNet", "depth": 18, "stem_channels": 8, "base_channels": 8}


def test_stacked_layers() -> None:
    cfg = {"type": "StackedLinearClsHead", "num_classes": 3, "in_channels": 6, "mid_channels": (5, 4)}
    head = HEADS.build({**cfg, "norm_cfg": {"type": "BN1d"}, "act_cfg": {"type": "Tanh"}}).eval()
    shapes = {name: tuple(value.shape) for name, value in head.state_dict().items() if "weight" in name}
    assert shapes == {
        "layers.0.fc.weight": (5, 6),
        "layers.0.norm.weight": (5,),
        "layers.1.fc.weight": (4, 5),
        "layers.1.norm.weight": (4,),
        "layers.2.fc.weight": (3, 4),
    }
    feature = torch.randn(2, 6)
    x = feature
    for i in (0, 1):
        layer = head.layers[i]
        nn.init.uniform_(layer.norm.running_mean)
        x = torch.tanh(layer.norm(layer.fc(x)))
    torch.testing.assert_close(head((feature + 1, feature)), head.layers[2].fc(x))
    torch.testing.assert_close(head.pre_logits(feature), x)


def test_stacked_layers_have_relu_and_dropout() -> None:
    head = StackedLinearClsHead(2, 4, [1000], dropout_rate=0.5)
    hidden = head.train().pre_logits(torch.ones(1, 4))
    plain = head.eval().pre_logits(torch.ones(1, 4))
    assert plain.min() == 0 and 0.3 < ((hidden == 0) & (plain > 0)).sum() / (plain > 0).sum() < 0.7
    assert StackedLinearClsHead(2, 4, [1000], act_cfg=None).pre_logits(torch.ones(1, 4)).min() < 0
    with pytest.raises(ConfigError, match="LinearClsHead"):
        HEADS.build({"type": "StackedLinearClsHead", "num_classes": 2, "in_channels": 4, "mid_channels": []})


def test_multi_label_decisions() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.1], [-3.0, -2.0, -1.0]])
    decided = MultiLabelLinearClsHead(3, 4).decide(logits)
    torch.testing.assert_close(decided["scores"], logits.sigmoid())
    assert decided["pred_labels"].tolist() == [[1, 0, 1], [0, 0, 0]]
    assert MultiLabelLinearClsHead(3, 4, thr=0.8).decide(logits)["pred_labels"].tolist() == [
        [1, 0, 0],
        [0, 0, 0],
    ]
    assert MultiLabelLinearClsHead(3, 4, topk=1).decide(logits)["pred_labels"].tolist() == [
        [1, 0, 0],
        [0, 0, 1],
    ]
    assert MultiLabelLinearClsHead(3, 4, thr=0.8, topk=1).thr == 0.8


@pytest.mark.parametrize("loss", [{}, {"loss": {"type": "AsymmetricLoss"}}])
def test_multi_label_classifier(loss: dict) -> None:
    head = {"type": "MultiLabelLinearClsHead", "num_classes": 3, **loss}
    model = MODELS.build(
        {"type": "Classifier", "backbone": RESNET, "neck": {"type": "GlobalAveragePooling"}, "head": head}
    ).eval()
    images, labels = torch.randn(2, 3, 32, 32), torch.tensor([[1, 0, 1], [0, 0, 0]])
    logits = model(images)
    losses = model(images, labels, mode="loss")
    assert set(losses) == {"loss"}
    if not loss:
        expected = nn.functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum") / 2
        torch.testing.assert_close(losses["loss"], expected)
    torch.testing.assert_close(model(images, mode="predict")["scores"], logits.sigmoid())


@pytest.mark.parametrize(
    ("head", "word"),
    [
        ({"type": "LinearClsHead"}, "in_channels"),
        ({"type": "ClassifierHead"}, "in_channels"),
        ({"type": "VisionTransformerClsHead"}, "in_channels"),
        ({"type": "StackedLinearClsHead", "mid_channels": [5]}, "in_channels"),
        ({"type": "MultiLabelLinearClsHead"}, "in_channels"),
    ],
)
@pytest.mark.parametrize("neck", [{"type": "GlobalAveragePooling"}, [{"type": "GeneralizedMeanPooling"}]])
def test_a_head_takes_its_channels_from_the_backbone(head: dict, word: str, neck: dict | list) -> None:
    cfg = {"type": "Classifier", "backbone": RESNET, "neck": neck, "head": {**head, "num_classes": 3}}
    model = MODELS.build(cfg)
    assert getattr(model.head, word) == 64 and model(torch.randn(2, 3, 32, 32)).shape == (2, 3)


def test_a_head_takes_its_channels_from_the_last_neck_that_says_them() -> None:
    class Reduce(nn.Module):
        out_channels = 7

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(64, 7)

        def forward(self, features: tuple) -> torch.Tensor:
            return self.fc(features[-1])

    neck = [{"type": "GlobalAveragePooling"}, {"type": Reduce}, {"type": "Identity"}]
    cfg = {"type": "Classifier", "backbone": RESNET, "neck": neck}
    model = MODELS.build({**cfg, "head": {"type": "ClassifierHead", "num_classes": 3}})
    assert model.head.in_channels == 7 and model(torch.randn(2, 3, 32, 32)).shape == (2, 3)
    with pytest.raises(ConfigError, match="needs in_channels"):
        MODELS.build(
            {
                **cfg,
                "backbone": nn.Identity(),
                "neck": None,
                "head": {"type": "LinearClsHead", "num_classes": 3},
            }
        )


def test_what_a_head_says_itself_counts() -> None:
    head = {"type": "ClassifierHead", "dim": 9, "num_classes": 3}
    assert MODELS.build({"type": "Classifier", "backbone": RESNET, "head": head}).head.in_channels == 9


def test_generalized_mean_pooling() -> None:
    feature = torch.rand(2, 5, 3, 4)
    mean = NECKS.build({"type": "GeneralizedMeanPooling", "p": 1})
    torch.testing.assert_close(mean(feature), feature.mean((2, 3)))
    neck = NECKS.build({"type": "GeneralizedMeanPooling"})
    torch.testing.assert_close(neck(feature), (feature**3).mean((2, 3)) ** (1 / 3))
    several = neck((feature, feature - 1))
    assert isinstance(several, tuple)
    torch.testing.assert_close(several[1], torch.full((2, 5), 1e-6))
    assert neck.p.requires_grad and not mean.__class__(p_trainable=False).p.requires_grad
    torch.testing.assert_close(mean.__class__(p=2, clamp=False)(-feature), (feature**2).mean((2, 3)).sqrt())
    with pytest.raises(ConfigError, match="1 or more"):
        NECKS.build({"type": "GeneralizedMeanPooling", "p": 0.5})
    with pytest.raises(ValueError, match=r"got \(2, 5\)"):
        neck(torch.rand(2, 5))


def test_batch_normalisation_of_features() -> None:
    neck = NECKS.build({"type": "ClsBatchNormNeck", "num_features": 5})
    assert set(neck.state_dict()) == {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}
    feature = torch.randn(8, 5) * 3 + 1
    (normalised,) = neck((feature,))
    torch.testing.assert_close(normalised, (feature - feature.mean(0)) / feature.std(0, correction=0))
    assert NECKS.build({"type": "ClsBatchNormNeck", "num_features": 5, "affine": True}).bn.weight is not None


@pytest.mark.parametrize("indices", [False, True])
def test_focal_loss_equals_torchvisions(indices: bool) -> None:
    logits, labels = torch.randn(4, 5), torch.tensor([0, 3, 4, 1])
    target = nn.functional.one_hot(labels, 5).float()
    given = labels if indices else target
    loss = LOSSES.build({"type": "FocalLoss", "gamma": 1.5, "alpha": 0.4, "loss_weight": 2.0})
    expected = torchvision.ops.sigmoid_focal_loss(logits, target, 0.4, 1.5, "none")
    torch.testing.assert_close(loss(logits, given), 2 * expected.mean())
    torch.testing.assert_close(loss(logits, given, avg_factor=4), 2 * expected.sum() / 4)


def test_asymmetric_loss_equals_timms() -> None:
    timm_loss = pytest.importorskip("timm.loss")
    logits, target = torch.randn(4, 5) * 2, torch.randint(0, 2, (4, 5))
    for gammas in ((0.0, 4.0), (1.0, 2.0)):
        oracle = timm_loss.AsymmetricLossMultiLabel(gamma_pos=gammas[0], gamma_neg=gammas[1], clip=0.05)
        cfg = {"type": "AsymmetricLoss", "gamma_pos": gammas[0], "gamma_neg": gammas[1]}
        torch.testing.assert_close(LOSSES.build(cfg)(logits, target, 4), oracle(logits, target.float()))
    single = timm_loss.AsymmetricLossSingleLabel(gamma_pos=1, gamma_neg=4, eps=0.0, reduction="mean")
    labels = torch.tensor([0, 3, 4, 1])
    cfg = {"type": "AsymmetricLoss", "gamma_pos": 1, "clip": None, "use_sigmoid": False}
    ours = LOSSES.build({**cfg, "reduction": "none"})(logits, labels)
    right = ours.gather(1, labels[:, None]).sum(
        1
    )  # the other loss sums the logarithm of the right class only
    torch.testing.assert_close(right.mean(), single(logits, labels))


def test_seesaw_loss_is_what_the_paper_says() -> None:
    torch.manual_seed(0)
    loss = LOSSES.build({"type": "SeesawLoss", "num_classes": 4, "p": 0.8, "q": 2.0, "reduction": "none"})
    loss(torch.randn(6, 4), torch.tensor([0, 0, 0, 1, 1, 3]))
    logits, labels = torch.randn(3, 4, requires_grad=True), torch.tensor([1, 3, 0])
    losses = loss(logits, labels)
    counts = [4, 3, 1, 2]
    assert loss.cum_samples.tolist() == [4, 3, 0, 2]
    for n, i in enumerate(labels.tolist()):
        values = logits[n].tolist()
        scores = logits[n].detach().softmax(0)
        total = 0.0
        for j in range(4):
            mitigation = 1.0 if counts[i] <= counts[j] else (counts[j] / counts[i]) ** 0.8
            ratio = (scores[j] / scores[i].clamp(min=0.01)).item()
            compensation = ratio**2 if ratio > 1 else 1.0
            total += (1.0 if i == j else mitigation * compensation) * math.exp(values[j])
        assert losses[n].item() == pytest.approx(math.log(total) - values[i], rel=1e-4)
    losses.sum().backward()
    assert logits.grad.abs().min() > 0


@pytest.mark.parametrize(
    ("logits", "labels"),
    [((3, 4), (3, 4)), ((3, 5), (3,)), ((3, 4), (2,))],
    ids=["mixed", "classes", "batch"],
)
def test_seesaw_loss_wants_indices_of_its_classes(logits: tuple, labels: tuple) -> None:
    loss = LOSSES.build({"type": "SeesawLoss", "num_classes": 4})
    with pytest.raises(ValueError, match=r"logits \(batch, 4\)"):
        loss(torch.randn(logits), torch.zeros(labels, dtype=torch.long))
    assert loss.cum_samples.sum() == 0
    with pytest.raises(ConfigError, match="use_sigmoid=False"):
        LOSSES.build({"type": "SeesawLoss", "use_sigmoid": True})
