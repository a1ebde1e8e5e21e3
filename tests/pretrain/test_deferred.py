"""Initialisation that waits, and writes that loaded weights survive."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from framework.pretrain.deferred import SMALL, deferred_init, noted_init, protected, will_be_loaded

SIDE = 80  # SIDE ** 2 > SMALL, so that a square layer's weight is put off


def test_the_layer_is_large_enough_to_test_with() -> None:
    assert SIDE**2 > SMALL


def test_values_are_the_constructors_own_in_the_same_order() -> None:
    torch.manual_seed(0)
    weights = [nn.Linear(SIDE, SIDE, bias=False).weight for _ in range(2)]
    torch.manual_seed(0)
    with deferred_init(), noted_init():
        deferred = [nn.Linear(SIDE, SIDE, bias=False).weight for _ in range(2)]
    assert all(torch.equal(one, other) for one, other in zip(weights, deferred, strict=True))


def test_what_will_be_loaded_is_never_drawn_and_the_rest_is() -> None:
    state = torch.get_rng_state()
    with deferred_init(), noted_init():
        kept, dropped = torch.empty(SIDE, SIDE), torch.empty(SIDE, SIDE)
        dropped.copy_(torch.full((SIDE, SIDE), 7.0))
        nn.init.normal_(dropped)
        assert torch.equal(torch.get_rng_state(), state)
        will_be_loaded([dropped])
        nn.init.uniform_(kept, 2.0, 3.0)
    assert torch.equal(dropped, torch.full((SIDE, SIDE), 7.0))
    assert kept.min() >= 2 and kept.max() <= 3 and kept.std() > 0.2


@pytest.mark.parametrize(
    "read",
    [
        lambda w: w.sum(),
        lambda w: (w * 2).sum() / 2,
        lambda w: w.t().reshape(-1).sum(),
        lambda w: torch.stack([w, w]).sum() / 2,
    ],
)
def test_whoever_reads_gets_the_values(read) -> None:
    with deferred_init(), noted_init():
        weight = torch.empty(SIDE, SIDE).fill_(1.0)
        weight.mul_(3.0)
        assert read(weight) == 3.0 * SIDE**2


def test_a_view_counts_as_its_whole() -> None:
    with deferred_init(), noted_init():
        weight = torch.empty(2, SIDE, SIDE).fill_(1.0)
        weight[0].fill_(5.0)
        weight[1, 0, 0] = 9.0
    assert weight[0].eq(5).all() and weight[1, 0, 0] == 9 and weight[1].sum() == SIDE**2 + 8


@pytest.mark.parametrize("initialise", [nn.init.trunc_normal_, nn.init.orthogonal_, nn.init.kaiming_normal_])
def test_initialisers_give_what_they_give_alone(initialise) -> None:
    torch.manual_seed(3)
    expected = initialise(torch.empty(SIDE, SIDE))
    torch.manual_seed(3)
    with deferred_init(), noted_init():
        got = initialise(torch.empty(SIDE, SIDE))
    assert torch.equal(got, expected)


def test_truncated_normal_is_put_off_as_a_whole_and_torch_is_left_as_it_was() -> None:
    before = nn.init._no_grad_trunc_normal_
    state = torch.get_rng_state()
    with deferred_init(), noted_init():
        weight = nn.init.trunc_normal_(torch.empty(SIDE, SIDE))
        assert torch.equal(torch.get_rng_state(), state)
    assert nn.init._no_grad_trunc_normal_ is before
    assert weight.abs().max() <= 2 and 0.8 < weight.std() < 0.95


def test_an_error_in_the_block_forgets_the_notes_and_ends_the_mode() -> None:
    with pytest.raises(RuntimeError, match="stop"), deferred_init(), noted_init():
        weight = torch.zeros(SIDE, SIDE)
        weight.fill_(1.0)
        raise RuntimeError("stop")
    assert weight.sum() == 0
    assert weight.fill_(2.0)[0, 0] == 2


def test_inner_blocks_belong_to_the_outer_one() -> None:
    state = torch.get_rng_state()
    with deferred_init(), noted_init():
        with deferred_init(), noted_init():
            weight = nn.init.normal_(torch.empty(SIDE, SIDE))
        assert torch.equal(torch.get_rng_state(), state)
    assert 0.9 < weight.std() < 1.1


def test_a_foreign_model_is_whole_in_the_end() -> None:
    with deferred_init(), noted_init():
        model = torchvision.models.squeezenet1_1(num_classes=3)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert model.features[0].weight.std() > 0.01


def test_protected_tensors_keep_their_values_through_views_too() -> None:
    layer, other = nn.Linear(3, 3), nn.Linear(3, 3)
    before = layer.weight.clone()
    with protected([layer.weight]), torch.no_grad():
        nn.init.zeros_(layer.weight)
        layer.weight[0].fill_(4)
        layer.weight.copy_(other.weight)
        torch._foreach_zero_([layer.weight, other.weight])
        torch._foreach_mul_([layer.weight], 2.0)
    assert torch.equal(layer.weight, before) and other.weight.sum() == 0


def test_new_memory_given_by_data_is_not_written_by_old_notes() -> None:
    with deferred_init(), noted_init():
        layer = nn.Linear(SIDE, SIDE)
        layer.weight.data = torch.eye(SIDE)
    assert torch.equal(layer.weight, torch.eye(SIDE))


@pytest.mark.parametrize(
    "read",
    [
        lambda w: w.numpy().sum(),
        lambda w: sum(map(sum, w.tolist())),
        lambda w: np.asarray(w).sum(),
        lambda w: torch.from_numpy(w.numpy()).sum().item(),
        lambda w: pickle.loads(pickle.dumps(w)).sum().item(),
        lambda w: copy.deepcopy(w).sum().item(),
    ],
)
def test_ways_past_the_dispatch_see_the_values(read) -> None:
    with deferred_init(), noted_init():
        assert read(torch.empty(SIDE, SIDE).fill_(3.0)) == 3.0 * SIDE**2


def test_memory_of_numpy_is_filled_at_once() -> None:
    array = np.full((SIDE, SIDE), 9.0, "f4")
    with deferred_init(), noted_init():
        torch.from_numpy(array).fill_(2.0)
        array[:] = 5.0
    assert (array == 5.0).all()


def test_a_seed_in_the_constructor_gives_its_own_values() -> None:
    def draw() -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            return torch.empty(SIDE, SIDE).normal_()

    with deferred_init(), noted_init():
        deferred = draw()
    assert torch.equal(deferred, draw())
