"""The way of a `pretrain` field into a module. The only place that writes into one."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from framework.pretrain import adapt
from framework.pretrain.adapt import IDENTITY, TokenLayout
from framework.pretrain.checkpoint import Checkpoint, LazyTensor, open_checkpoint
from framework.pretrain.deferred import deferred_init, protected, will_be_loaded
from framework.pretrain.dialects import TABLES
from framework.pretrain.dialects.common import KINDS
from framework.pretrain.errors import SpecError
from framework.pretrain.inventory import Inventory, take_inventory
from framework.pretrain.operation import Entry
from framework.pretrain.plan import Assignment, Plan, Wanted, check_plan, make_plan
from framework.pretrain.reading import read_names
from framework.pretrain.report import LoadReport, announce, make_report
from framework.pretrain.source import fetch
from framework.pretrain.spec import PretrainSpec, parse_spec

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
    spec, checkpoint, file, plan = _prepare(module, pretrain, where)
    report = _worded(module, where, spec, checkpoint, file, plan)
    check_plan(plan, spec, lambda: report.described(_producer(file)), "\n".join(report.table()))
    _write(module, plan, file, spec.mmap)
    module.pretrain_report = report  # type: ignore[assignment]
    guard_init(module)
    announce(report)
    return report


def plan_pretrained(module: nn.Module, pretrain: Any, *, where: str = "pretrain") -> LoadReport:
    """Return the report that `load_pretrained` would give, from names and shapes; nothing is read or written.

    Raises:
        PretrainError: The field is wrong, or the file cannot be had or read. A plan that loads too little
            is no error here: see `LoadReport.coverage`.
    """
    spec, checkpoint, file, plan = _prepare(module, pretrain, where)
    return _worded(module, where, spec, checkpoint, file, plan)


def build_pretrained(construct: Callable[[], Any], pretrain: Any, where: str) -> Any:
    """Construct a module and load its weights, without drawing initial values for what is loaded.

    Args:
        construct: Makes the module; parts of it may load weights of their own.
        pretrain: The module's own field, or None.
        where: The place of the field in the config.

    Raises:
        SpecError: What `construct` makes is no module.
        PretrainError: As in `load_pretrained`.
    """
    spec = None if pretrain is None else parse_spec(pretrain, where)
    with deferred_init():
        module = construct()
        if spec is not None:
            if not isinstance(module, nn.Module):
                raise SpecError(
                    f"{where}: only a torch.nn.Module can load weights, not {type(module).__name__}"
                )
            load_pretrained(module, spec, where=where)
    if isinstance(module, nn.Module):
        guard_init(module)
    return module


def guard_init(module: nn.Module) -> None:
    """Make every `init_weights` in a module leave loaded values alone."""
    for part in module.modules():
        method = getattr(part, "init_weights", None)
        if callable(method) and not isinstance(method, _GuardedInit) and _loaded(part):
            part.init_weights = _GuardedInit(part)  # type: ignore[assignment]


@contextmanager
def protect_loaded(module: nn.Module) -> Iterator[None]:
    """Let nothing in the block change the values that came from files."""
    loaded = _loaded(module)
    before = {name: tensor.data for name, tensor in loaded.items()}
    with protected(loaded.values()):
        yield
    for name, tensor in _loaded(module).items():
        if tensor.data_ptr() != before[name].data_ptr():  # replaced, not written in place
            tensor.data = before[name]


class _GuardedInit:
    """Stands in for a module's `init_weights`."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with protect_loaded(self._module):
            method: Any = getattr(type(self._module), "init_weights")  # noqa: B009  a Module may have none
            return method(self._module, *args, **kwargs)


def _loaded(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors in a module that came from files, by their names in it."""
    found: dict[str, Tensor] = {}
    for prefix, part in module.named_modules():
        report = vars(part).get("pretrain_report")
        if isinstance(report, LoadReport):
            state = part.state_dict(keep_vars=True)
            found.update({f"{prefix}.{name}": state[name] for name in report.loaded if name in state})
    return found


def _prepare(
    module: nn.Module, pretrain: Any, where: str
) -> tuple[PretrainSpec, Checkpoint, Inventory, Plan]:
    spec = parse_spec(pretrain, where)
    path = fetch(spec.path, sha256=spec.sha256, url_mapping=spec.url_mapping)
    checkpoint = open_checkpoint(path, trust_pickle=spec.trust_pickle)
    file = take_inventory(checkpoint, spec)
    return spec, checkpoint, file, make_plan(_wanted(module), file, spec)


def _worded(
    module: nn.Module, where: str, spec: PretrainSpec, checkpoint: Checkpoint, file: Inventory, plan: Plan
) -> LoadReport:
    return make_report(type(module).__name__, where, spec, checkpoint, file, plan)


def _producer(file: Inventory) -> str:
    """Say what the names of a file look like, whatever the module wants."""
    sizes = {name: math.prod(one.tensor.shape) for name, one in file.tensors.items()}
    reading = read_names(sizes, TABLES)
    if reading is None:
        return ""
    producers = reading.table.columns[reading.column].producers
    return f"looks like a {reading.table.name} in {reading.column} names, as written by {producers}"


def _wanted(module: nn.Module) -> Wanted:
    """List what a module has places for, and how its tables of positions are laid out."""
    state = _state(module)
    if any(tensor.is_meta for tensor in state.values()):
        raise SpecError(
            "the module is on the meta device, which holds no values: move it with to_empty() first"
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    names_of: dict[int, list[str]] = {}
    for name, tensor in state.items():
        names_of.setdefault(id(tensor), []).append(name)
    layouts = {}
    for name in shapes:
        owner, _, leaf = name.rpartition(".")
        if leaf in KINDS:
            layout = _layout(module.get_submodule(owner), KINDS[leaf], shapes[name])
            if layout is not None:
                layouts[name] = layout
    return Wanted(shapes, layouts, tied=[names for names in names_of.values() if len(names) > 1])


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and persistent buffers by name; other state is no weight."""
    state = module.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _layout(owner: nn.Module, kind: str, shape: tuple[int, ...]) -> TokenLayout | None:
    """Ask the owner of a table of positions for its grid: a patch embedding's, or the attention window."""
    if kind == "rel_pos_bias":
        grid = getattr(owner, "window_size", None)
        return TokenLayout(grid=tuple(grid)) if isinstance(grid, (tuple, list)) else None
    grids = (getattr(child, "grid_size", None) for child in owner.children())
    grid = next((tuple(g) for g in grids if isinstance(g, (tuple, list))), None)
    if grid is None or len(shape) < 2:
        return None
    return TokenLayout(grid=grid, num_prefix=shape[-2] - torch.Size(grid).numel())


def _write(module: nn.Module, plan: Plan, file: Inventory, mmap: bool) -> None:
    """Read every assigned tensor aside, then put all in place: an error while reading changes nothing."""
    state = _state(module)
    targets = {one.name: state[one.name] for one in plan.assignments}
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
    alone = _sole_owners(state)
    will_be_loaded(targets[name] for name in fresh if name in alone)
    with torch.no_grad():
        for name, values in fresh.items():
            if name in alone:
                targets[name].data = values
            else:  # its memory is shared with another tensor, which must see the values too
                targets[name].copy_(values)


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
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _sole_owners(state: Mapping[str, Tensor]) -> set[str]:
    """Return the names of tensors that have their memory to themselves, in the usual order.

    Names of one and the same tensor (tied parameters) count as one.
    """
    owners: dict[int, set[int]] = {}
    for tensor in state.values():
        owners.setdefault(tensor.untyped_storage()._cdata, set()).add(id(tensor))
    return {
        name
        for name, tensor in state.items()
        if len(owners[tensor.untyped_storage()._cdata]) == 1
        and tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    }
