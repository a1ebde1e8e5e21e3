"""Which loads are refused, and the words that say why and what to try next."""

from __future__ import annotations

import math

from framework.pretrain.align import describe, propose
from framework.pretrain.dialects import TABLES
from framework.pretrain.dialects.common import TRAINING
from framework.pretrain.errors import CoverageError, MismatchError
from framework.pretrain.inventory import Inventory, unwrapped
from framework.pretrain.plan import Plan
from framework.pretrain.reading import read_names
from framework.pretrain.report import LoadReport, choosing
from framework.pretrain.spec import PretrainSpec


def check(report: LoadReport, plan: Plan, spec: PretrainSpec, file: Inventory) -> None:
    """Refuse a plan that loads too little, or what may be the wrong network, or that `strict` forbids.

    Args:
        report: The plan in words.
        plan: The plan.
        spec: The bounds.
        file: What the file holds.

    Raises:
        CoverageError: Nothing matched, or less than `min_coverage`.
        MismatchError: The file's network has another size, or other parts; several networks fit equally
            well; what fits is no weights; or `strict`, and something is fresh, mismatched or unexpected.
    """
    if plan.total_size == 0:
        what = report.described(_producer(file))
        raise CoverageError(f"{what}\nThe module has no parameters outside `ignore_keys` to load into")
    if plan.loaded_size == 0 or plan.coverage < spec.min_coverage:
        raise CoverageError(_too_little(report, plan, spec, file))
    if _is_training(report, spec):
        raise MismatchError(_no_weights(report, file))
    if report.undecided:
        raise MismatchError(_undecided(report, file))
    if report.unlike and spec.min_coverage >= PretrainSpec.min_coverage:
        raise MismatchError(_unlike(report, plan, spec, file))
    if spec.strict and (plan.fresh or plan.mismatched or plan.unexpected):
        raise MismatchError(
            _worded(report, file, "strict=True: file and module differ, so the module was left as it was.")
        )


def _too_little(report: LoadReport, plan: Plan, spec: PretrainSpec, file: Inventory) -> str:
    share = "nothing" if plan.loaded_size == 0 else f"only {plan.coverage:.1%} of the parameters"
    return _worded(
        report,
        file,
        f"Loading it would fill {share} of the module (min_coverage={spec.min_coverage:g}), so it was left "
        "as it was.",
        "Try: another file for this architecture; `sub_level` or `key` to name the part to take; "
        "`revise_keys` to rename; a smaller `min_coverage` if so little is meant.\n"
        + _proposal(plan, spec, file),
    )


def _is_training(report: LoadReport, spec: PretrainSpec) -> bool:
    """Tell whether what fits is an optimiser's state or a gradient, unless that is what the user names."""
    place = f"{report.entry}.{report.prefix}".split(".")
    return spec.key is None and spec.sub_level is None and not TRAINING.isdisjoint(place)


def _no_weights(report: LoadReport, file: Inventory) -> str:
    return _worded(
        report,
        file,
        f"What fits the module is no weights, but what a training keeps of them, in {report.entry}, so the "
        "module was left as it was.",
        f"Try: another file of this training; key={report.entry!r} if this is meant.",
    )


def _undecided(report: LoadReport, file: Inventory) -> str:
    return _worded(
        report,
        file,
        "Several networks of the file fit equally well, so the module was left as it was.",
        f"Try: one of {', '.join(report.undecided)}.",
    )


def _unlike(report: LoadReport, plan: Plan, spec: PretrainSpec, file: Inventory) -> str:
    others = "".join(f"{field}; " for field in choosing(report.alternatives, file))
    return _worded(
        report,
        file,
        "The file's network is another one than the module, which was left as it was.",
        f"Try: {others}the file of a network of this size and kind; `ignore_keys` with what is meant to be "
        f"new; a `min_coverage` below {PretrainSpec.min_coverage:g} if a part is meant.\n"
        + _proposal(plan, spec, file),
    )


def _worded(report: LoadReport, file: Inventory, why: str, advice: str = "") -> str:
    return "\n".join([report.described(_producer(file)), why, *report.table(), advice]).rstrip()


def _producer(file: Inventory) -> str:
    """Say what the names of a file look like, whatever the module wants."""
    adapters = sum("lora_" in name for name in file.tensors)
    if adapters:
        what = "only a LoRA adapter, and no network" if adapters * 2 > len(file.tensors) else "a LoRA adapter"
        return f"holds {what}: merge it into its base with PEFT's merge_and_unload, and save that"
    sizes = {name: math.prod(one.tensor.shape) for name, one in file.tensors.items()}
    reading = read_names(sizes, TABLES)
    if reading is None:
        return ""
    producers = reading.table.columns[reading.column].producers
    return f"looks like a {reading.table.name} in {reading.column} names, as written by {producers}"


def _proposal(plan: Plan, spec: PretrainSpec, file: Inventory) -> str:
    """Say how `revise_keys` would load more, if order and shapes tell."""
    if spec.dialect is not None or not file.tensors:
        return ""
    wanted = {unwrapped(name): shape for name, shape in plan.shapes.items() if name not in plan.ignored}
    proposal = propose(wanted, file)
    return describe(proposal) if proposal.coverage > plan.coverage else ""
