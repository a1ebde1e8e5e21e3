"""Losses against closed formulas and torch's."""

import pytest
import torch
from torch.nn import functional

from framework.errors import ConfigError
from framework.models.losses import CrossEntropyLoss, LabelSmoothLoss
from framework.registry import LOSSES

torch.manual_seed(0)
SCORES = torch.randn(5, 4)
LABELS = torch.tensor([0, 3, 1, 1, 2])
HARD = functional.one_hot(LABELS, 4).float()
MIXED = 0.7 * HARD + 0.3 * HARD.flip(0)
LOG_P = SCORES.log_softmax(1)


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b)


def test_cross_entropy_of_class_indices() -> None:
    expected = functional.cross_entropy(SCORES, LABELS)
    close(CrossEntropyLoss()(SCORES, LABELS), expected)
    close(CrossEntropyLoss()(SCORES, LABELS.int()), expected)
    close(CrossEntropyLoss(loss_weight=3.0)(SCORES, LABELS), 3 * expected)
    close(CrossEntropyLoss(reduction="sum")(SCORES, LABELS), 5 * expected)
    close(CrossEntropyLoss(reduction="none")(SCORES, LABELS), -LOG_P[range(5), LABELS])
    close(CrossEntropyLoss()(SCORES, LABELS, avg_factor=10), expected / 2)


@pytest.mark.parametrize("use_soft", [False, True])
def test_cross_entropy_of_probabilities(use_soft: bool) -> None:
    loss = CrossEntropyLoss(use_soft=use_soft)
    close(loss(SCORES, HARD), functional.cross_entropy(SCORES, LABELS))
    close(loss(SCORES, LABELS), functional.cross_entropy(SCORES, LABELS))
    close(loss(SCORES, MIXED), -(MIXED * LOG_P).sum(1).mean())
    close(loss(SCORES, MIXED.double()), -(MIXED * LOG_P).sum(1).mean())


def test_class_weights_do_not_change_the_divisor() -> None:
    weights = torch.tensor([1.0, 2.0, 0.5, 4.0])
    loss = CrossEntropyLoss(class_weight=weights.tolist())
    close(loss(SCORES, LABELS), -(weights[LABELS] * LOG_P[range(5), LABELS]).mean())
    close(loss(SCORES, MIXED), -(weights * MIXED * LOG_P).sum(1).mean())


def test_binary_cross_entropy() -> None:
    expected = -(HARD * functional.logsigmoid(SCORES) + (1 - HARD) * functional.logsigmoid(-SCORES))
    close(CrossEntropyLoss(use_sigmoid=True)(SCORES, LABELS), expected.mean())
    close(CrossEntropyLoss(use_sigmoid=True)(SCORES, HARD), expected.mean())
    close(CrossEntropyLoss(use_sigmoid=True)(SCORES, HARD, avg_factor=5), expected.sum(1).mean())
    close(CrossEntropyLoss(use_sigmoid=True, reduction="none")(SCORES, HARD), expected)
    positive, weights = torch.tensor([2.0, 1, 1, 3]), torch.tensor([1.0, 0, 1, 5])
    loss = CrossEntropyLoss(use_sigmoid=True, pos_weight=positive.tolist(), class_weight=weights.tolist())
    close(loss(SCORES, HARD), (weights * torch.where(HARD > 0, positive, 1) * expected).mean())


@pytest.mark.parametrize("target", [LABELS, HARD, MIXED])
def test_label_smoothing_equals_torchs(target: torch.Tensor) -> None:
    expected = functional.cross_entropy(SCORES, target, label_smoothing=0.1)
    close(LabelSmoothLoss(0.1)(SCORES, target), expected)
    close(LabelSmoothLoss(0.1, num_classes=4, loss_weight=2.0)(SCORES, target), 2 * expected)
    # (y + s / C) / (1 + s) is the original form with s / (1 + s) for s.
    expected = functional.cross_entropy(SCORES, target, label_smoothing=0.1 / 1.1)
    close(LabelSmoothLoss(0.1, mode="classy_vision")(SCORES, target), expected)


def test_label_smoothing_of_many_labels() -> None:
    present = torch.tensor([[1.0, 0, 1, 0]]).repeat(5, 1)
    target = torch.tensor([0.9, 0.1, 0.9, 0.1]).expand(5, 4)
    expected = functional.binary_cross_entropy_with_logits(SCORES, target)
    close(LabelSmoothLoss(0.1, mode="multi_label")(SCORES, present), expected)
    smooth = HARD * 0.8 + 0.05
    expected = functional.binary_cross_entropy_with_logits(SCORES, smooth, reduction="none").sum(1).mean()
    close(LabelSmoothLoss(0.2, use_sigmoid=True)(SCORES, LABELS, avg_factor=5), expected)


def test_gradients_reach_the_logits() -> None:
    scores = SCORES.clone().requires_grad_()
    LabelSmoothLoss(0.0)(scores, LABELS).backward()
    close(scores.grad, (SCORES.softmax(1) - HARD) / 5)


@pytest.mark.parametrize("labels", [LABELS[:3], MIXED[:, :2], LABELS.view(5, 1, 1)])
def test_labels_that_do_not_fit_are_refused(labels: torch.Tensor) -> None:
    for loss in (CrossEntropyLoss(), CrossEntropyLoss(use_sigmoid=True), LabelSmoothLoss(0.1)):
        with pytest.raises(ValueError, match=r"labels of shape \(5,\) .* or \(5, 4\)"):
            loss(SCORES, labels)


def test_wrong_values_are_told_with_the_accepted_ones() -> None:
    with pytest.raises(ConfigError, match="none, mean, sum"):
        LOSSES.build({"type": "CrossEntropyLoss", "reduction": "avg"})
    with pytest.raises(ConfigError, match="exclude each other"):
        LOSSES.build({"type": "CrossEntropyLoss", "use_soft": True, "use_sigmoid": True})
    with pytest.raises(ConfigError, match="from 0 to below 1"):
        LOSSES.build({"type": "LabelSmoothLoss", "label_smooth_val": 1.0})
    with pytest.raises(ConfigError, match="original, classy_vision, multi_label"):
        LOSSES.build({"type": "LabelSmoothLoss", "label_smooth_val": 0.1, "mode": "new"})
    with pytest.raises(ValueError, match="for 3 classes, the logits are of 4"):
        LabelSmoothLoss(0.1, num_classes=3)(SCORES, LABELS)
