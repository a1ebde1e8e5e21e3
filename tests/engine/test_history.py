from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub

from framework.engine.history import DeferredHistory, record


def test_the_same_statistics_as_mmengines_buffer():
    rng = np.random.default_rng(0)
    ours, theirs = DeferredHistory(max_length=40), HistoryBuffer(max_length=40)
    for step, value in enumerate(rng.normal(size=100).tolist()):
        ours.update(torch.tensor(value, dtype=torch.float64) if step % 3 else value)
        theirs.update(value)
        if step % 17 == 0:
            assert ours.current() == theirs.current()
    for mine, other in zip(ours.data, theirs.data, strict=True):
        assert np.array_equal(mine, other)
    assert len(ours.data[0]) == 40
    assert (ours.mean(7), ours.max(), ours.min(3)) == (theirs.mean(7), theirs.max(), theirs.min(3))


def test_a_tensor_is_not_read_before_someone_asks():
    history = DeferredHistory()
    value = torch.tensor(1.0)
    history.update(value)
    value.fill_(5.0)  # as a device that computes it later
    assert history.current() == 5.0


def test_the_hub_keeps_its_names_and_what_it_resumes():
    hub = MessageHub("a")
    loss = torch.ones(1, requires_grad=True)
    for step in range(4):
        record(hub, "train/loss", (loss * step).sum())
    state = copy.deepcopy(hub.state_dict())
    assert state["resumed_keys"] == {"train/loss": True}
    assert state["log_scalars"]["train/loss"].data[0].tolist() == [0, 1, 2, 3]
    resumed = MessageHub("b")
    resumed.load_state_dict(state)
    record(resumed, "train/loss", 4.0)
    assert resumed.get_scalar("train/loss").mean(3) == pytest.approx(3.0)
