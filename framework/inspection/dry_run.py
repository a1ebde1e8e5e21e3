"""What a load would do, told from names and shapes: no value is read, no initial value is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from framework.config import without_pretrain
from framework.inspection.given import explained
from framework.pretrain.align import propose
from framework.pretrain.checkpoint import open_checkpoint
from framework.pretrain.deferred import deferred_init, noted_init
from framework.pretrain.inventory import Inventory, take_inventory
from framework.pretrain.load import plan_pretrained
from framework.pretrain.report import LoadReport
from framework.pretrain.spec import PretrainSpec, parse_spec
from framework.registry import MODELS


@dataclass(frozen=True)
class DryRun:
    """What a load would do.

    Attributes:
        report: As the load would report it.
        rules: `revise_keys` that would load more.
        gain: The share of the model that comes from the file with these rules, too.
    """

    report: LoadReport
    rules: tuple[tuple[str, str], ...]
    gain: float

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        rules = [list(rule) for rule in self.rules]
        return {**self.report.to_dict(), "proposed_revise_keys": rules, "proposed_coverage": self.gain}


class _EnoughError(Exception):
    """Ends the construction before initial values are drawn."""


def dry_run(model: Mapping[str, Any], pretrain: Any) -> DryRun:
    """Tell what a load of a file into a model would do.

    Args:
        model: Config of the model; the weights that it names itself are left aside.
        pretrain: As the field of that name.

    Raises:
        PretrainError: The file cannot be had or read.
        ConfigError: The model cannot be built.
    """
    spec = parse_spec(pretrain)
    runs: list[DryRun] = []
    try:
        with torch.random.fork_rng(devices=[]), deferred_init():
            with noted_init(), explained("the model cannot be built"):
                module = MODELS.build(without_pretrain(dict(model)))
            report = plan_pretrained(module, spec)
            rules = _proposed(report, spec)
            coverage = report.coverage
            if rules:
                revised = replace(spec, revise_keys=(*spec.revise_keys, *rules), dialect=None)
                coverage = plan_pretrained(module, revised).coverage
            helps = coverage > report.coverage
            runs.append(DryRun(report, rules if helps else (), max(coverage, report.coverage)))
            raise _EnoughError
    except _EnoughError:
        return runs[0]


def _proposed(report: LoadReport, spec: PretrainSpec) -> tuple[tuple[str, str], ...]:
    """Return rules for what the model lacks and looks like something that the file has in excess."""
    shapes = {_as_stored(name, report): report.tensors[name].shape for name in report.fresh}
    file = take_inventory(open_checkpoint(report.file, trust_pickle=spec.trust_pickle), spec)
    unused = {f"{report.entry}.{key}" if report.entry else key for key in report.unexpected}
    rest = {name: one for name, one in file.tensors.items() if one.key in unused}
    if not shapes or not rest:
        return ()
    return propose(shapes, Inventory(rest, file.entries, ())).rules


def _as_stored(name: str, report: LoadReport) -> str:
    """Return a name of the model behind the prefix that the rest of the file has."""
    if not name.startswith(report.model_prefix):
        return name
    return report.prefix + name[len(report.model_prefix) :]
