from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from framework.evaluation.accuracy import label_ranks
from framework.registry import METRICS


def evaluate(batches, size, **arguments):
    metric = METRICS.build(dict(type="Accuracy", **arguments))
    for scores, labels in batches:
        metric.process(None, [dict(scores=scores, pred_labels=scores.argmax(1), labels=labels)])
    return metric.evaluate(size)


def test_it_agrees_with_scikit_learn_when_the_last_batch_is_partial():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(103, 10, generator=generator).softmax(1)
    labels = torch.randint(0, 10, (103,), generator=generator)
    batches = zip(scores.split(16), labels.split(16), strict=True)
    result = evaluate(batches, 103, topk=(1, 3, 5))
    expected = {k: top_k_accuracy_score(labels, scores, k=k, labels=np.arange(10)) for k in (1, 3, 5)}
    assert result == {f"accuracy/top{k}": pytest.approx(value) for k, value in expected.items()}
    assert result["accuracy/top1"] == pytest.approx(accuracy_score(labels, scores.argmax(1)))


def test_the_first_of_equal_scores_is_the_prediction():
    scores = torch.tensor([[1.0, 1.0, 0.0]] * 3)
    assert label_ranks(scores, torch.tensor([0, 1, 2])).tolist() == [0, 1, 2]
    assert scores.argmax(1).tolist() == [0, 0, 0]


def test_scores_that_are_not_numbers_are_never_right():
    nan = float("nan")
    scores = torch.tensor([[nan, nan, nan], [nan, 0.0, 1.0], [0.0, nan, 1.0]])
    assert evaluate([(scores, torch.tensor([0, 0, 2]))], 3)["accuracy/top1"] == 0.0


def test_half_precision_scores():
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2]], dtype=torch.bfloat16)
    assert evaluate([(scores, torch.tensor([1, 1]))], 2)["accuracy/top1"] == 0.5


def test_the_prefix_can_be_replaced_and_one_k_given_alone():
    assert evaluate([(torch.eye(4), torch.arange(4))], 4, topk=2, prefix="mine") == {"mine/top2": 1.0}


def test_a_batch_without_labels_is_an_error():
    with pytest.raises(ValueError, match="needs labels"):
        evaluate([(torch.eye(4), None)], 4)


@pytest.mark.parametrize("topk", [0, (), (1, -1)])
def test_a_topk_that_makes_no_sense(topk):
    with pytest.raises(ValueError, match="topk must be"):
        METRICS.build(dict(type="Accuracy", topk=topk))
