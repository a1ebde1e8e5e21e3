"""From a config to a data loader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size
from torch.utils.data import DataLoader, default_collate

from framework.datasets.base import DatasetError
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
            stacked to tensors. `total_batch_size` is that of all processes together, in the place of
            `batch_size`, that of each. With a GPU, memory is pinned. Workers persist between epochs unless
            `persistent_workers` says otherwise; what they draw depends on the epoch and on an item's place in
            it alone.
        seed: Seed of the sampler and of the workers.
        diff_rank_seed: Whether every process draws its own seed of the sampler.

    Raises:
        ConfigError: There is no `dataset`, an argument that the loader does not know, a total batch that
            the processes cannot share evenly, or no batch at all.
    """
    options = dict(config)
    if "dataset" not in options:
        raise ConfigError(f"A data loader needs a dataset; this one has {', '.join(options) or 'nothing'}")
    dataset = _built(DATASETS, options.pop("dataset"))
    _divide_total(options)
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
    collate = _collate(options.get("collate_fn"))
    options["collate_fn"] = collate if getattr(dataset, "corrupt", None) is None else LeaveOut(collate)
    options.setdefault("pin_memory", torch.cuda.is_available())
    options.setdefault("persistent_workers", options.get("num_workers", 0) > 0)
    options.setdefault("worker_init_fn", seed_worker)
    generator = torch.Generator()
    generator.manual_seed(own)
    try:
        loader = DataLoader(
            SeededDataset(dataset) if for_workers else dataset, generator=generator, **options
        )
    except TypeError as error:
        raise ConfigError(f"The data loader does not accept its config: {error}") from error
    _check_batches(loader)
    return loader


def _divide_total(options: dict[str, Any]) -> None:
    """Replace `total_batch_size` by the batch size of each process."""
    total = options.pop("total_batch_size", None)
    if total is None:
        return
    if "batch_size" in options:
        raise ConfigError(
            f"A data loader has batch_size (of each process) or total_batch_size; this one has both: "
            f"{options['batch_size']} and {total}"
        )
    processes = get_world_size()
    if not isinstance(total, int) or total < processes or total % processes:
        raise ConfigError(
            f"total_batch_size must be a multiple of the number of processes, {processes}; got {total!r}"
        )
    options["batch_size"] = total // processes


def _check_batches(loader: DataLoader[Any]) -> None:
    """Refuse a loader that gives no batch: a training with it would end at once, having learnt nothing."""
    dataset = loader.dataset
    if not (hasattr(dataset, "__len__") and hasattr(loader.sampler, "__len__")) or len(loader):
        return
    items = len(loader.sampler)  # type: ignore[arg-type]
    hint = ": set drop_last=False, or a smaller batch size" if loader.drop_last and items else ""
    size = loader.batch_size if loader.batch_size is not None else "its batch sampler's size"
    raise ConfigError(f"The data loader gives no batch: {items} items, batches of {size}{hint}")


class LeaveOut:
    """A collate function that leaves out the items that a dataset could not read.

    Args:
        collate: What makes a batch of the others.
    """

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, items: list[Any]) -> Any:
        """Return the batch of what was read."""
        there = [item for item in items if item is not None]
        if not there:
            raise DatasetError(
                f"None of the {len(items)} images of a batch can be read; skip_corrupt=False tells the first"
            )
        return self.collate(there)


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
