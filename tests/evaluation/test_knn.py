from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from framework.engine.knn import evaluate_knn
from framework.errors import ConfigError
from framework.evaluation import knn, knn_accuracy

ROOT = Path(__file__).parents[2]


def plain_loop(train, test, k, temperature, topk):
    """Vote as the papers describe it, one image at a time."""
    hits = dict.fromkeys(topk, 0)
    bank = [(feature / feature.norm(), int(label)) for feature, label in zip(*train, strict=True)]
    for feature, label in zip(*test, strict=True):
        query = feature / feature.norm()
        similar = sorted(((float(query @ f), c) for f, c in bank), key=lambda pair: -pair[0])[:k]
        votes = {}
        for similarity, c in similar:
            votes[c] = votes.get(c, 0.0) + math.exp(similarity / temperature)
        ranked = sorted(votes, key=lambda c: -votes[c])
        for n in topk:
            hits[n] += int(label) in ranked[:n]
    return {f"top{n}": hits[n] / len(test[1]) for n in topk}


def features(count, classes, generator):
    labels = torch.arange(count) % classes
    centres = torch.eye(classes, 6)
    return centres[labels] + 0.6 * torch.randn(count, 6, generator=generator), labels


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.07), (20, 10.0), (200, 0.5)])
def test_it_votes_as_a_plain_loop(k, temperature, monkeypatch):
    monkeypatch.setattr(knn, "CHUNK", 7)
    generator = torch.Generator().manual_seed(0)
    train, test = (features(count, 6, generator) for count in (90, 40))
    ours = knn_accuracy(train, test, k, temperature, topk=(1, 2))
    assert ours == pytest.approx(
        plain_loop([t.double() for t in train], [t.double() for t in test], k, temperature, (1, 2))
    )
    assert 0.3 < ours["top1"] < 1


def test_the_nearest_decide_at_low_temperature():
    train = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.8, 0.61]]), torch.tensor([0, 1, 1])
    test = torch.tensor([[5.0, 0.0]]), torch.tensor([0])
    assert knn_accuracy(train, test, 3, 0.07)["top1"] == 1
    assert knn_accuracy(train, test, 3, 100.0)["top1"] == 0
    assert knn_accuracy(train, test, 3, 1e-4)["top1"] == 1  # exp(1 / 1e-4) is infinite


def test_classes_that_no_training_image_has_are_never_right():
    train = torch.eye(3), torch.arange(3)
    test = torch.eye(3)[:1], torch.tensor([7])
    assert knn_accuracy(train, test, 2, topk=(1, 2)) == {"top1": 0, "top2": 0}


def test_errors():
    good = torch.eye(3), torch.arange(3)
    with pytest.raises(ConfigError, match="expected k >= 1 and temperature > 0, got k=0"):
        knn_accuracy(good, good, 0)
    with pytest.raises(ConfigError, match=r"test has features of shape \(3, 3\) and labels of shape \(2,\)"):
        knn_accuracy(good, (torch.eye(3), torch.arange(2)))
    with pytest.raises(ConfigError, match="for training have 3 channels, for testing 4"):
        knn_accuracy(good, (torch.eye(4)[:3], torch.arange(3)))


def test_features_of_a_config(tmp_path):
    config = ROOT / "configs" / "quickstart.py"
    means = {"model.backbone.out_type": "avg_featmap", "model.backbone.final_norm": False}
    pretrained = evaluate_knn(config, changes=means)
    random = evaluate_knn(config, changes={**means, "model.backbone.pretrain": None})
    assert pretrained["knn/top1"] > 0.85 and pretrained["knn/top5"] > 0.98
    assert random["knn/top1"] < 0.7
    with pytest.raises(ConfigError, match=r"features of Classifier are .*, 17, 64.*out_type"):
        evaluate_knn(config, changes={"model.backbone.out_type": "raw"})
    command = [sys.executable, str(ROOT / "tools" / "knn.py"), str(config), "-k", "20", "--cfg-options"]
    options = [f"{name}={value}" for name, value in means.items()]
    run = subprocess.run([*command, *options], capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert run.stdout.splitlines()[-1].startswith(f"knn/top1: {pretrained['knn/top1']:.4f}, knn/top5: "), (
        run.stderr
    )
