"""Each loss against the formula of its paper in plain loops, and against lightly's."""

from __future__ import annotations

from math import exp, log, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from framework.models.losses.swav import sinkhorn
from framework.models.selfsup import SimCLR
from framework.registry import HEADS, LOSSES, MODELS

CROSS_ENTROPY = {"type": "CrossEntropyLoss"}


def lightly_loss(name: str, **options: Any) -> Any:
    return getattr(pytest.importorskip("lightly.loss"), name)(**options)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / sqrt(sum(x * x for x in a)) / sqrt(sum(y * y for y in b))


def method(name: str, **parts: Any) -> Any:
    """Return a method that has vectors for images and learns from them as they are."""
    return MODELS.build({"type": name, "backbone": nn.Flatten(), "neck": nn.Identity(), **parts}).train()


def simclr_in_loops(first: Tensor, second: Tensor, temperature: float) -> float:
    z = [row for pair in zip(first.tolist(), second.tolist(), strict=True) for row in pair]
    total = 0.0
    for i, anchor in enumerate(z):
        partner = i + 1 if i % 2 == 0 else i - 1
        scores = [exp(cosine(anchor, other) / temperature) for k, other in enumerate(z) if k != i]
        total -= log(exp(cosine(anchor, z[partner]) / temperature) / sum(scores))
    return total / len(z)


def test_simclr() -> None:
    first, second = draw(5, 6), draw(5, 6, seed=1)
    head = {"type": "ContrastiveHead", "loss": CROSS_ENTROPY, "temperature": 0.3}
    model = method("SimCLR", head=head)
    assert isinstance(model, SimCLR)
    loss = model([first, second], mode="loss")["loss"].item()
    assert loss == pytest.approx(simclr_in_loops(first, second, 0.3), rel=1e-9)
    theirs = lightly_loss("NTXentLoss", temperature=0.3)(first, second).item()
    assert loss == pytest.approx(theirs, rel=1e-9)


def test_moco_and_its_queue() -> None:
    queries, keys = draw(4, 3), draw(4, 3, seed=1)
    head = {"type": "ContrastiveHead", "loss": CROSS_ENTROPY, "temperature": 0.2}
    backbone = nn.Linear(3, 3, bias=False)
    nn.init.eye_(backbone.weight)
    parts = {"backbone": nn.Sequential(nn.Flatten(), backbone), "feat_dim": 3, "queue_len": 6}
    model = method("MoCo", head=head, **parts).double()
    model.queue.copy_(nn.functional.normalize(model.queue, dim=0))  # in double precision
    old = model.queue.T.tolist()
    loss = model([queries, keys], mode="loss")["loss"].item()
    expected = 0.0
    for query, key in zip(queries.tolist(), keys.tolist(), strict=True):
        scores = [exp(cosine(query, other) / 0.2) for other in [key, *old]]
        expected -= log(scores[0] / sum(scores)) / 4
    assert loss == pytest.approx(expected, rel=1e-9)
    normalised = keys / keys.norm(dim=1, keepdim=True)
    torch.testing.assert_close(model.queue.T, torch.cat([normalised, torch.tensor(old[4:]).double()]))
    assert model.queue_ptr.tolist() == [4]
    model([keys, queries], mode="loss")  # the oldest keys go first, across the end
    newest = queries / queries.norm(dim=1, keepdim=True)
    torch.testing.assert_close(model.queue.T, torch.cat([newest[2:], normalised[2:], newest[:2]]))
    assert model.queue_ptr.tolist() == [2]
    model.eval()([keys, queries], mode="loss")
    assert model.queue_ptr.tolist() == [2]
    with pytest.raises(ValueError, match="queue_len=6 is less than a batch of 8"):
        model.train()([draw(8, 3), draw(8, 3)], mode="loss")


@pytest.mark.parametrize(("name", "factor"), [("BYOL", 2.0), ("SimSiam", 0.5)])
def test_byol_and_simsiam(name: str, factor: float) -> None:
    first, second, weight = draw(5, 3), draw(5, 3, seed=1), draw(3, 3, seed=2)
    predictor = nn.Linear(3, 3, bias=False)
    predictor.weight.data = weight
    head = HEADS.build(
        {
            "type": "LatentPredictHead",
            "loss": {"type": "CosineSimilarityLoss"},
            "predictor": nn.Sequential(_First(), predictor),
        }
    )
    loss = method(name, head=head)([first, second], mode="loss")["loss"].item()
    predictions = [(view @ weight.T).tolist() for view in (first, second)]
    targets = [second.tolist(), first.tolist()]
    expected = sum(
        -cosine(p, t) / 5
        for ps, ts in zip(predictions, targets, strict=True)
        for p, t in zip(ps, ts, strict=True)
    )
    assert loss == pytest.approx(factor * expected, rel=1e-9)
    negative = lightly_loss("NegativeCosineSimilarity")
    theirs = negative(first @ weight.T, second) + negative(second @ weight.T, first)
    assert loss == pytest.approx(factor * theirs.item(), rel=1e-9)


class _First(nn.Module):
    def forward(self, features: list[Tensor]) -> Tensor:
        return features[0]


def test_the_masked_cosine_counts_what_the_mask_has() -> None:
    prediction, target, mask = draw(2, 3, 4), draw(2, 3, 4, seed=1), torch.tensor([[1, 0, 1], [0, 0, 1]])
    loss = LOSSES.build({"type": "CosineSimilarityLoss", "shift_factor": 1.0, "scale_factor": 3.0})
    places = [(0, 0), (0, 2), (1, 2)]
    expected = sum(1 - 3 * cosine(prediction[p].tolist(), target[p].tolist()) for p in places) / 3
    assert loss(prediction, target, mask).item() == pytest.approx(expected, rel=1e-9)


def barlow_in_loops(first: Tensor, second: Tensor, weight: float, eps: float) -> float:
    views = []
    for view in (first.tolist(), second.tolist()):
        n, channels = len(view), len(view[0])
        means = [sum(row[c] for row in view) / n for c in range(channels)]
        scales = [sqrt(sum((row[c] - means[c]) ** 2 for row in view) / n + eps) for c in range(channels)]
        views.append([[(row[c] - means[c]) / scales[c] for c in range(channels)] for row in view])
    total, n = 0.0, len(first)
    for i in range(first.shape[1]):
        for j in range(first.shape[1]):
            correlation = sum(a[i] * b[j] for a, b in zip(*views, strict=True)) / n
            total += (1 - correlation) ** 2 if i == j else weight * correlation**2
    return total


def test_barlow_twins() -> None:
    first, second = draw(6, 4), draw(6, 4, seed=1)
    loss = {"type": "CrossCorrelationLoss", "lambd": 0.01}
    model = method("BarlowTwins", head={"type": "LatentCrossCorrelationHead", "in_channels": 4, "loss": loss})
    ours = model.double()([first, second], mode="loss")["loss"].item()
    assert ours == pytest.approx(barlow_in_loops(first, second, 0.01, 1e-5), rel=1e-9)
    theirs = lightly_loss("BarlowTwinsLoss", lambda_param=0.01)(first, second).item()
    assert ours == pytest.approx(theirs, rel=1e-3)  # which has no eps


def sinkhorn_in_loops(scores: list[list[float]], iterations: int, epsilon: float) -> list[list[float]]:
    samples, prototypes = range(len(scores)), range(len(scores[0]))
    masses = [[exp(score / epsilon) for score in row] for row in scores]
    for _ in range(iterations):
        used = [sum(masses[i][k] for i in samples) for k in prototypes]
        masses = [[masses[i][k] / used[k] for k in prototypes] for i in samples]
        masses = [[mass / sum(row) for mass in row] for row in masses]
    return masses


def test_sinkhorn() -> None:
    scores = draw(7, 4).clamp(-1, 1)
    ours = sinkhorn(scores, 3, 0.1)
    torch.testing.assert_close(ours, torch.tensor(sinkhorn_in_loops(scores.tolist(), 3, 0.1)).double())
    theirs = pytest.importorskip("lightly.loss.swav_loss").sinkhorn(scores, 3, 0.1)
    torch.testing.assert_close(ours, theirs)
    many = sinkhorn(scores, 200, 0.1)
    torch.testing.assert_close(many.sum(dim=0), torch.full((4,), 7 / 4).double())  # all evenly used
    hard = sinkhorn(scores.float(), 3, 0.002)  # exp(1 / 0.002) is out of range
    torch.testing.assert_close(hard, sinkhorn(scores, 3, 0.002).float(), rtol=1e-3, atol=1e-4)
    assert hard.sum(dim=1).tolist() == pytest.approx([1.0] * 7)


def swav(**changes: Any) -> Any:
    loss = {"type": "SwAVLoss", "feat_dim": 4, "num_prototypes": 5, "num_crops": [2, 1], "epsilon": 0.1}
    head = {"type": "SwAVHead", "loss": {**loss, **changes}}
    return method("SwAV", backbone=nn.Identity(), neck=_Join(), head=head).double()


class _Join(nn.Module):
    def forward(self, features: list[Tensor]) -> Tensor:
        return nn.functional.normalize(torch.cat(features).flatten(1), dim=1)


def swav_in_loops(views: list[Tensor], prototypes: Tensor, queues: list[Tensor | None]) -> float:
    lengths = prototypes.norm(dim=1, keepdim=True)
    scores = [view / view.norm(dim=1, keepdim=True) @ (prototypes / lengths).T for view in views]
    total = 0.0
    for crop in (0, 1):
        rows = scores[crop].tolist()
        if queues[crop] is not None:
            rows = [*(queues[crop] @ (prototypes / lengths).T).tolist(), *rows]
        targets = sinkhorn_in_loops(rows, 3, 0.1)[-len(scores[crop]) :]
        for view in range(len(views)):
            for target, row in zip(targets, scores[view].tolist(), strict=True):
                total_mass = sum(exp(score / 0.1) for score in row)
                own = [q * log(exp(s / 0.1) / total_mass) for q, s in zip(target, row, strict=True)]
                total -= 0.0 if view == crop else sum(own)
    return total / 2 / (len(views) - 1) / len(views[0])


def test_swav() -> None:
    model = swav()
    views = [draw(3, 4, 1, 1), draw(3, 4, 1, 1, seed=1), draw(3, 4, 1, 1, seed=2)]
    prototypes = model.head.loss_module.prototypes.weight.detach().clone()
    ours = model(views, mode="loss")["loss"].item()
    flat = [view.flatten(1) for view in views]
    assert ours == pytest.approx(swav_in_loops(flat, prototypes, [None, None]), rel=1e-9)
    scores = [
        nn.functional.linear(_Join()([view]), model.head.loss_module.prototypes.weight) for view in flat
    ]
    theirs = lightly_loss("SwaVLoss", temperature=0.1, sinkhorn_epsilon=0.1)(scores[:2], scores[2:])
    assert ours == pytest.approx(theirs.item(), rel=1e-9)
    lengths = model.head.loss_module.prototypes.weight.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(5).double())


def test_swavs_queue_takes_part_once_it_is_full() -> None:
    model = swav()
    loss = model.head.loss_module
    loss.start_queue(6)
    prototypes = loss.prototypes.weight.detach().clone()
    batches = [[draw(3, 4, 1, 1, seed=10 * b + v) for v in range(3)] for b in range(4)]
    flat = [[view.flatten(1) for view in views] for views in batches]
    units = [[_Join()([view]) for view in views] for views in flat]
    loss.queue_in_use = False
    model(batches[0], mode="loss")
    assert not loss.queue.any()
    loss.queue_in_use = True
    for b in (1, 2):
        value = model(batches[b], mode="loss")["loss"].item()
        assert value == pytest.approx(swav_in_loops(flat[b], prototypes, [None, None]), rel=1e-9)
    queues = [torch.cat([units[2][crop], units[1][crop]]) for crop in (0, 1)]
    torch.testing.assert_close(loss.queue, torch.stack(queues))
    value = model(batches[3], mode="loss")["loss"].item()
    assert value == pytest.approx(swav_in_loops(flat[3], prototypes, queues), rel=1e-9)
    assert value != pytest.approx(swav_in_loops(flat[3], prototypes, [None, None]), rel=1e-3)
    torch.testing.assert_close(loss.queue[0], torch.cat([units[3][0], units[2][0]]))


@pytest.mark.parametrize(("name", "count"), [("SimCLR", 2), ("BarlowTwins", 2), ("SwAV", 3)])
def test_a_wrong_number_of_views_is_explained(name: str, count: int, shared: dict[str, Any]) -> None:
    model = shared["build"](name)
    with pytest.raises(ValueError, match=rf"{name} learns from {count} views .* got a tensor"):
        model(torch.rand(2, 1, 8, 8), mode="loss")
    with pytest.raises(ValueError, match=rf"got 1: end the pipeline .*num_views={count}"):
        model([torch.rand(2, 1, 8, 8)], mode="loss")
    with pytest.raises(ValueError, match="there is no mode 'predict'"):
        model([torch.rand(2, 1, 8, 8)], mode="predict")


@pytest.mark.parametrize("name", ["SimCLR", "BarlowTwins", "SwAV"])
def test_losses_are_not_computed_in_half_precision(name: str) -> None:
    views = [draw(6, 4, 1, 1, seed=v).float() for v in range(3 if name == "SwAV" else 2)]
    contrast = {"type": "ContrastiveHead", "loss": CROSS_ENTROPY}
    loss = {"type": "CrossCorrelationLoss"}
    correlate = {"type": "LatentCrossCorrelationHead", "in_channels": 4, "loss": loss}
    models = {
        "SimCLR": lambda: method("SimCLR", head=contrast),
        "BarlowTwins": lambda: method("BarlowTwins", head=correlate),
        "SwAV": lambda: swav().float(),
    }
    model = models[name]()
    exact = model(views, mode="loss")["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        assert model(views, mode="loss")["loss"].item() == pytest.approx(exact.item(), rel=1e-6)


@pytest.mark.parametrize("name", ["SimCLR", "MoCo", "BYOL", "SimSiam", "BarlowTwins", "SwAV"])
def test_mixed_precision(name: str, shared: dict[str, Any]) -> None:
    model = shared["build"](name).float()
    views = [view.float() for view in shared["batches"](name)[0]]
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            losses = model(views, mode="loss")
        losses["loss"].backward()
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
