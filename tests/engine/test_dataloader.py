from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from framework.engine.data_order import begin_epoch, epoch_seed
from framework.engine.dataloader import build_dataloader


class Noise(Dataset):
    """Items that show the state of the three random generators."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {
            "inputs": torch.tensor([torch.rand(1).item(), np.random.rand(), random.random()]),
            "labels": index,
        }


def draw(loader):
    return torch.cat([batch["inputs"] for batch in loader])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_draw_other_numbers_in_every_epoch_and_the_same_when_repeated(workers):
    options = {"dataset": Noise(), "batch_size": 2, "num_workers": workers, "persistent_workers": False}
    loader = build_dataloader(options, seed=0)
    first, second, again = [], [], []
    for epoch, store in ((0, first), (1, second), (0, again)):
        begin_epoch(loader, epoch, seed=0, rank=0)
        store.append(draw(loader))
    assert torch.equal(first[0], again[0])
    assert not (first[0] == second[0]).any()
    assert len(first[0].unique()) == 12


def test_seeds_differ_by_seed_epoch_and_rank():
    seeds = {epoch_seed(seed, epoch, rank) for seed in range(5) for epoch in range(5) for rank in range(5)}
    assert len(seeds) == 125
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_loader_does_not_touch_the_global_generator():
    loader = build_dataloader({"dataset": {"type": "Digits"}, "batch_size": 300}, seed=0)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    for _ in loader:
        pass
    assert torch.equal(torch.rand(1), expected)


def test_the_order_is_that_of_the_data_without_a_sampler_and_a_batch_is_a_dict_of_tensors():
    loader = build_dataloader({"dataset": {"type": "Digits", "split": "test"}, "batch_size": 7}, seed=0)
    batch = next(iter(loader))
    assert sorted(batch) == ["inputs", "labels"]
    assert batch["inputs"].shape == (7, 1, 8, 8)
    assert batch["labels"].tolist() == loader.dataset.labels[:7]


def test_a_sampler_shuffles_by_seed_and_epoch():
    options = {"dataset": Noise(), "sampler": {"type": "DefaultSampler", "shuffle": True}, "batch_size": 4}
    orders = {seed: list(build_dataloader(options, seed=seed).sampler) for seed in range(4)}
    assert len({tuple(order) for order in orders.values()}) > 1
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders.values())
    assert list(build_dataloader(options, seed=2).sampler) == orders[2]


def test_every_epoch_has_its_own_order():
    options = {"dataset": Noise(), "sampler": {"type": "DefaultSampler", "shuffle": True}, "batch_size": 4}
    loader = build_dataloader(options, seed=0)
    orders = []
    for epoch in (0, 1, 2, 3, 0):
        begin_epoch(loader, epoch, seed=0, rank=0)
        orders.append(next(iter(loader))["labels"].tolist())
    assert orders[0] == orders[4]
    assert len({tuple(order) for order in orders}) > 1
