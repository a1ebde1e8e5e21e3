"""The way of a `pretrain` field into a module. The only place that writes into one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from framework.pretrain import adapt
from framework.pretrain.adapt import IDENTITY
from framework.pretrain.checkpoint import Checkpoint, LazyTensor, open_checkpoint
from framework.pretrain.deferred import (
    deferred_init,
    is_sole_view,
    noted_init,
    were_loaded,
    will_be_changed,
    will_be_loaded,
)
from framework.pretrain.guard import guard_init, remember
from framework.pretrain.inventory import Inventory, take_inventory
from framework.pretrain.operation import Entry
from framework.pretrain.plan import Assignment, Plan, make_plan
from framework.pretrain.refusal import check
from framework.pretrain.report import LoadReport, announce, make_report
from framework.pretrain.source import fetch
from framework.pretrain.spec import PretrainSpec, parse_spec
from framework.pretrain.target import Wanted, wanted_by

#: Tensors are read in pieces of this many bytes, so that all threads have work to the end.
PIECE_BYTES = 8 << 20


def load_pretrained(module: nn.Module, pretrain: Any, *, where: str = "pretrain") -> LoadReport:
    """Load weights into a module.

    The report is logged, returned, and kept as `module.pretrain_report`. Loaded values survive
    `init_weights`.

    Args:
        module: Any module. It keeps its dtypes and devices.
        pretrain: A path, a URI, or a dict with the fields of `PretrainSpec`.
        where: The place in the config, for messages.

    Returns:
        What was done, key by key.

    Raises:
        PretrainError: The field is wrong, the file cannot be had or read, or it does not fit. The module
            is then as it was.
    """
    wanted, spec, checkpoint, file, plan = _prepare(module, pretrain, where)
    report = _worded(module, where, spec, checkpoint, file, plan)
    check(report, plan, spec, file)
    _write(wanted, plan, file, spec.mmap)
    remember(module, report)
    guard_init(module)
    announce(report)
    return report


def plan_pretrained(module: nn.Module, pretrain: Any, *, where: str = "pretrain") -> LoadReport:
    """Return the report that `load_pretrained` would give, from names and shapes; nothing is read or written.

    Raises:
        PretrainError: The field is wrong, or the file cannot be had or read. A plan that loads too little
            is no error here: see `LoadReport.coverage`.
    """
    _, spec, checkpoint, file, plan = _prepare(module, pretrain, where)
    return _worded(module, where, spec, checkpoint, file, plan)


def build_pretrained(construct: Callable[[], Any], pretrain: Any, where: str) -> Any:
    """Construct a module and load its weights, without drawing initial values for what is loaded.

    Args:
        construct: Makes the module; parts of it may load weights of their own.
        pretrain: The module's own field, or None.
        where: The place of the field in the config.

    Raises:
        PretrainError: As in `load_pretrained`; also where `construct` makes no module.
    """
    spec = None if pretrain is None else parse_spec(pretrain, where)
    with deferred_init():
        with noted_init():
            module = construct()
        if spec is not None:
            load_pretrained(module, spec, where=where)
    if spec is None and isinstance(module, nn.Module):
        guard_init(module)
    return module


def _prepare(
    module: nn.Module, pretrain: Any, where: str
) -> tuple[Wanted, PretrainSpec, Checkpoint, Inventory, Plan]:
    spec = parse_spec(pretrain, where)
    path = fetch(spec.path, sha256=spec.sha256, url_mapping=spec.url_mapping)
    checkpoint = open_checkpoint(path, trust_pickle=spec.trust_pickle)
    file = take_inventory(checkpoint, spec)
    wanted = wanted_by(module)
    return wanted, spec, checkpoint, file, make_plan(wanted, file, spec)


def _worded(
    module: nn.Module, where: str, spec: PretrainSpec, checkpoint: Checkpoint, file: Inventory, plan: Plan
) -> LoadReport:
    return make_report(type(module).__name__, where, spec, checkpoint, file, plan)


def _write(wanted: Wanted, plan: Plan, file: Inventory, mmap: bool) -> None:
    """Read every assigned tensor aside, then put all in place: an error while reading changes nothing."""
    targets = {one.name: wanted.tensors[one.name] for one in plan.assignments}
    sources = {one.name: _sources(one, file) for one in plan.assignments}
    fresh: dict[str, Tensor] = {}
    jobs: list[Callable[[], None]] = []
    for one in plan.assignments:
        target = targets[one.name]
        if mmap and _fits_as_map(one, sources[one.name], target):
            fresh[one.name] = sources[one.name][0].map()
        else:
            fresh[one.name] = _empty_like(target)
            jobs += _readings(one, sources[one.name], fresh[one.name])
    _run(jobs)
    _put(targets, fresh)


def _put(targets: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> None:
    """Give each target its values: as its new memory where no one else sees the old one, else by a copy."""
    alone = {name for name, target in targets.items() if is_sole_view(target)}
    will_be_loaded(targets[name] for name in alone)
    will_be_changed(target for name, target in targets.items() if name not in alone)
    with torch.no_grad():
        for name, values in fresh.items():
            if name in alone:
                targets[name].data = values
            else:
                targets[name].copy_(values)
    were_loaded(targets.values())


def _empty_like(target: Tensor) -> Tensor:
    """Allocate memory as the target's; asking torch for it would touch the target, and so initialise it."""
    if target.is_contiguous():
        return torch.empty(target.shape, dtype=target.dtype, device=target.device)
    return torch.empty_strided(target.shape, target.stride(), dtype=target.dtype, device=target.device)


def _sources(assignment: Assignment, file: Inventory) -> list[LazyTensor]:
    entry = assignment.entry
    names = (entry,) if isinstance(entry, str) else entry.names
    return [file.tensors[name].tensor for name in names]


def _fits_as_map(assignment: Assignment, sources: list[LazyTensor], target: Tensor) -> bool:
    return (
        isinstance(assignment.entry, str)
        and assignment.adaptation is IDENTITY
        and sources[0].dtype == target.dtype
        and target.device.type == "cpu"
    )


def _readings(assignment: Assignment, sources: list[LazyTensor], out: Tensor) -> list[Callable[[], None]]:
    """Return the steps that fill `out`; they may run at the same time."""
    entry, adaptation = assignment.entry, assignment.adaptation
    windows = _windows(entry, sources, out) if adaptation is IDENTITY else None
    if windows is not None and out.device.type == "cpu":
        return [
            piece
            for source, window in zip(sources, windows, strict=True)
            for piece in source.pieces(window, PIECE_BYTES)
        ]

    def convert() -> None:
        values = [source.map() for source in sources]
        whole = values[0] if isinstance(entry, str) else entry.forward(values)
        out.copy_(adapt.apply(adaptation, whole))

    return [convert]


def _windows(entry: Entry, sources: list[LazyTensor], out: Tensor) -> list[Tensor] | None:
    return [out] if isinstance(entry, str) else entry.windows(out, [s.shape for s in sources])


def _run(jobs: list[Callable[[], None]]) -> None:
    """Run all jobs; the first error ends the rest and is raised."""
    if not jobs:
        return
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
