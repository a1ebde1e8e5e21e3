"""From a config to a data loader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import get_rank
from torch.utils.data import DataLoader, default_collate

from framework.engine.data_order import DataOrder, SeededDataset, epoch_seed, seed_generators
from framework.errors import ConfigError
from framework.registry import DATA_SAMPLERS, DATASETS, FUNCTIONS


def build_dataloader(
    config: Mapping[str, Any], seed: int | None, *, diff_rank_seed: bool = False
) -> DataLoader[Any]:
    """Build dataset, sampler and loader.

    Args:
        config: Arguments of `torch.utils.data.DataLoader`, where `dataset`, `sampler` and `batch_sampler` are
            dicts with `type`. Without `sampler` the data comes in order; without `collate_fn` the items are
            stacked to tensors. Workers persist between epochs unless `persistent_workers` says otherwise;
            what they draw depends on the epoch and on an item's place in it alone.
        seed: Seed of the sampler and of the workers.
        diff_rank_seed: Whether every process draws its own seed of the sampler.

    Raises:
        ConfigError: There is no `dataset`, or an argument that the loader does not know.
    """
    options = dict(config)
    if "dataset" not in options:
        raise ConfigError(f"A data loader needs a dataset; this one has {', '.join(options) or 'nothing'}")
    dataset = _built(DATASETS, options.pop("dataset"))
    sampler = options.pop("sampler", None) or {"type": "DefaultSampler", "shuffle": False}
    sampler = _built(
        DATA_SAMPLERS, sampler, dataset=dataset, seed=None if diff_rank_seed or seed is None else seed
    )
    own = epoch_seed(seed or 0, 0, get_rank())
    for_workers = options.get("num_workers", 0) > 0
    if options.get("batch_sampler") is not None:
        batches = _built(
            DATA_SAMPLERS, options["batch_sampler"], sampler=sampler, batch_size=options.pop("batch_size")
        )
        options["batch_sampler"] = DataOrder(batches, own, for_workers=for_workers)
    else:
        options["sampler"] = DataOrder(sampler, own, for_workers=for_workers)
    options["collate_fn"] = _collate(options.get("collate_fn"))
    options.setdefault("persistent_workers", options.get("num_workers", 0) > 0)
    options.setdefault("worker_init_fn", seed_worker)
    generator = torch.Generator()
    generator.manual_seed(own)
    try:
        return DataLoader(SeededDataset(dataset) if for_workers else dataset, generator=generator, **options)
    except TypeError as error:
        raise ConfigError(f"The data loader does not accept its config: {error}") from error


def _built(registry: Any, config: Any, **defaults: Any) -> Any:
    return registry.build(config, default_args=defaults) if isinstance(config, Mapping) else config


def _collate(config: Any) -> Any:
    if config is None:
        return default_collate
    if isinstance(config, Mapping):
        name = config["type"]
        return default_collate if name == "default_collate" else FUNCTIONS.get(name)
    return config


def seed_worker(worker: int) -> None:
    """Seed a worker's generators of Python and numpy from torch's, which differs by worker."""
    seed_generators(torch.initial_seed())
