"""What a load did, in words, as a table and as a dict."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from framework.pretrain.adapt import IDENTITY
from framework.pretrain.checkpoint import Checkpoint
from framework.pretrain.errors import PretrainError
from framework.pretrain.fold import fold, layer_of
from framework.pretrain.inventory import Inventory
from framework.pretrain.kinship import differences
from framework.pretrain.operation import Entry, names_of
from framework.pretrain.plan import Mismatch, Plan
from framework.pretrain.sources.address import shown
from framework.pretrain.spec import PretrainSpec

#: Phrases of a list that are written before the rest is only counted.
SHOWN = 12


@dataclass(frozen=True)
class TensorRecord:
    """Where one tensor of the module has its values from.

    Attributes:
        status: 'loaded', 'adapted', 'fresh', 'mismatched', 'ignored' or 'computed'.
        sources: Keys of the file; empty where it has none.
        operation: What was done to the values, e.g. 'merge of 3' or '14x14 + 1 -> 16x16 + 1 tokens'.
        shape: Its shape in the module.
        source_shape: The shape that the file has, of the first source.
    """

    status: str
    sources: tuple[str, ...]
    operation: str
    shape: tuple[int, ...]
    source_shape: tuple[int, ...] | None


@dataclass(frozen=True)
class LoadReport:
    """What a load did, or in a dry run would do.

    Attributes:
        module: Class of the module.
        where: Place of the field in the config.
        path: The address as given.
        file: The local file.
        format: Its format.
        entry: Entry of the container that was taken, '' for the top level.
        prefix: What stood before the names in the file, within the entry.
        model_prefix: What stands before the same names in the module.
        dialect: The file's naming scheme; None where names are the same.
        alternatives: Other parts of the file that would fit as well.
        loaded: Keys of the module that got the file's values, the adapted ones included.
        adapted: Those of them whose shape was adapted -> how.
        fresh: Keys that keep their initial values, as the file does not have them.
        mismatched: Keys that keep their initial values, as shapes differ -> (shape here, shape in the file).
        ignored: Keys left out by `ignore_keys`.
        computed: Buffers that the module computes by itself.
        unexpected: Keys of the file that the module has no place for.
        bookkeeping: Keys of the file that are no weights.
        elsewhere: Other entries of the file -> number of keys.
        idle_ignores: `ignore_keys` that matched nothing.
        idle_rules: `revise_keys` that matched nothing.
        undecided: Networks of the file that fit equally well, as fields of `pretrain` that choose one; a load
            is refused then.
        unlike: In what the file's network is another one than the module's; a load is refused then.
        coverage: Share of the module's elements that come from the file, in [0, 1].
        tensors: Key of the module -> record.
    """

    module: str
    where: str
    path: str
    file: Path
    format: str
    entry: str
    prefix: str
    model_prefix: str
    dialect: str | None
    alternatives: tuple[str, ...]
    loaded: tuple[str, ...]
    adapted: Mapping[str, str]
    fresh: tuple[str, ...]
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...] | None]]
    ignored: tuple[str, ...]
    computed: tuple[str, ...]
    unexpected: tuple[str, ...]
    bookkeeping: tuple[str, ...]
    elsewhere: Mapping[str, int]
    idle_ignores: tuple[str, ...]
    idle_rules: tuple[str, ...]
    undecided: tuple[str, ...]
    unlike: tuple[str, ...]
    coverage: float
    tensors: Mapping[str, TensorRecord]
    stamp: tuple[int, int]

    @property
    def clean(self) -> bool:
        """Whether nothing deserves attention: all that the module wants came from the file."""
        told = (
            self.unlike,
            self.fresh,
            self.mismatched,
            self.left_inside(),
            self.idle_ignores,
            self.idle_rules,
        )
        return not any(told)

    def left_inside(self) -> tuple[str, ...]:
        """Return unexpected keys of layers that were loaded otherwise: a layer scale, a bias table, a plugin.

        Without them such a layer does not compute what it did in the source.
        """
        loaded = {layer_of(key) for key in self._taken()} - {""}
        return tuple(key for key in self.unexpected if layer_of(key) in loaded)

    def sha256(self) -> str:
        """Return the hash of the file, read now.

        Raises:
            PretrainError: The file is gone, a folder, or not the one that was loaded.
        """
        if not self.file.is_file() or _stamp(self.file) != self.stamp:
            raise PretrainError(f"{self.file}: no longer the file that was loaded, so its hash is not known")
        digest = sha256()
        with self.file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
        return digest.hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "stamp"}
        plain["file"] = str(self.file)
        plain["tensors"] = {name: vars(record) for name, record in self.tensors.items()}
        return _plain(plain)

    def __str__(self) -> str:
        return "\n".join([self.headline(), *self.table()])

    def headline(self) -> str:
        """Return what was loaded from where, in one line."""
        origin = [self.format]
        if self.entry:
            origin.append(f"entry {self.entry}")
        if self.dialect:
            origin.append(f"{self.dialect} names")
        if self.prefix or self.model_prefix:
            origin.append(
                f"{self.prefix or 'its top'} -> {self.model_prefix or 'the model'}".replace(".", "")
            )
        if self.alternatives:
            origin.append(f"also there: {', '.join(a.rstrip('.') for a in self.alternatives)}")
        return (
            f"{self.module}: {percent(self.coverage)} of the parameters "
            f"({len(self.loaded)} of {len(self.tensors) - len(self.computed)} tensors) "
            f"from {self.path} ({'; '.join(origin)})"
        )

    def described(self, producer: str = "") -> str:
        """Return what was tried, and what the file looks like, for errors."""
        keys = [source for record in self.tensors.values() for source in record.sources] + [*self.unexpected]
        others = [f"{name or 'top level'} ({count})" for name, count in self.elsewhere.items()]
        parts = [
            self.format,
            f"{len(keys) + len(self.bookkeeping)} tensors"
            + (f" in entry {self.entry}" if self.entry else ""),
            producer,
            f"the first keys {', '.join(keys[:3])}" if keys else "",
            f"other entries: {', '.join(others)}" if others else "",
        ]
        return f"{self.where}: {self.module} from {self.path} ({'; '.join(filter(None, parts))})"

    def table(self) -> list[str]:
        """Return what deserves attention, one line per fate; nothing when all is well."""
        rest = [*self.loaded, *self.mismatched, *self.ignored]
        inside = self.left_inside()
        beside = [key for key in self.unexpected if key not in set(inside)]
        lines = [
            ("undecided", list(self.undecided), "networks that fit equally well"),
            ("unlike", list(self.unlike), "the file is of another network"),
            (
                "fresh",
                fold(self.fresh, rest),
                "not in the file: initial values. Fine for new parts and heads",
            ),
            ("mismatched", self._mismatches(), "initial values. Fine for a head with other classes"),
            ("adapted", [f"{name} ({how})" for name, how in self.adapted.items()], "fine for fine-tuning"),
            ("left out", fold(inside, self._taken()), "of layers that were loaded: features change without"),
            ("unused", fold(beside, self._taken()), "in the file, no place here. Fine if not wanted"),
            ("ignored", fold(self.ignored), "named by ignore_keys"),
            ("no effect", self._idle(), "matches no key"),
        ]
        return [f"  {fate}: {_shorten(what)} - {why}" for fate, what, why in lines if what]

    def _mismatches(self) -> list[str]:
        return [
            f"{name} ({self.tensors[name].operation})"
            if self.tensors[name].operation
            else f"{name} {_shape(here)} here, {_shape(there)} in the file"
            for name, (here, there) in self.mismatched.items()
        ]

    def _taken(self) -> list[str]:
        taken = [source for record in self.tensors.values() for source in record.sources]
        return [key[len(self.entry) + 1 :] if self.entry else key for key in taken]

    def _idle(self) -> list[str]:
        ignores = [f"ignore_keys {pattern}" for pattern in self.idle_ignores]
        return ignores + [f"revise_keys {pattern}" for pattern in self.idle_rules]


def make_report(
    module: str, where: str, spec: PretrainSpec, checkpoint: Checkpoint, file: Inventory, plan: Plan
) -> LoadReport:
    """Word a plan."""
    entry = _entry(plan, file)
    alignment = plan.alignment
    prefix = alignment.file_prefix if alignment else ""
    if entry and prefix.startswith(f"{entry}."):
        prefix = prefix[len(entry) + 1 :]
    return LoadReport(
        module=module,
        where=where,
        path=shown(spec.path),
        file=checkpoint.path,
        format=checkpoint.format,
        entry=entry,
        prefix=prefix,
        model_prefix=alignment.model_prefix if alignment else "",
        dialect=alignment.dialect if alignment else None,
        alternatives=alignment.alternatives if alignment else (),
        loaded=tuple(a.name for a in plan.assignments),
        adapted={a.name: a.adaptation.note for a in plan.assignments if a.adaptation is not IDENTITY},
        fresh=plan.fresh,
        mismatched={m.name: (m.shape, m.source_shape) for m in plan.mismatched},
        ignored=tuple(plan.ignored),
        computed=plan.computed,
        unexpected=tuple(key[len(entry) + 1 :] if entry else key for key in plan.unexpected),
        bookkeeping=plan.bookkeeping,
        elsewhere=plan.elsewhere,
        idle_ignores=plan.idle_ignores,
        idle_rules=plan.idle_rules,
        undecided=_undecided(plan, file),
        unlike=tuple(differences(plan, file)),
        coverage=plan.coverage,
        tensors=_records(plan, file),
        stamp=_stamp(checkpoint.path),
    )


def announce(report: LoadReport) -> None:
    """Log a report: INFO when all is well, WARNING when something keeps its initial values."""
    level = logging.INFO if report.clean else logging.WARNING
    logger = logging.getLogger("framework")
    if logger.hasHandlers():
        logger.log(level, str(report))
    else:  # no one has set up logging: show it all the same, as mmengine does
        print_log(str(report), logger="current", level=level)


def _records(plan: Plan, file: Inventory) -> dict[str, TensorRecord]:
    records: dict[str, TensorRecord] = {}
    for one in plan.assignments:
        how = [one.entry.described] if not isinstance(one.entry, str) else []
        how += [one.adaptation.note] if one.adaptation is not IDENTITY else []
        status = "loaded" if one.adaptation is IDENTITY else "adapted"
        records[one.name] = _record(status, one.entry, "; ".join(how), plan.shapes[one.name], file)
    for miss in plan.mismatched:
        records[miss.name] = _record("mismatched", miss.source, miss.reason, miss.shape, file)
    for name, entry in plan.ignored.items():
        if entry is not None:
            records[name] = _record("ignored", entry, "", plan.shapes[name], file)
    left_out = [n for n in plan.ignored if n not in records]
    for status, names in (("fresh", plan.fresh), ("ignored", left_out), ("computed", plan.computed)):
        for name in names:
            records[name] = TensorRecord(status, (), "", plan.shapes[name], None)
    return {name: records[name] for name in plan.shapes}


def _record(
    status: str, entry: Entry, operation: str, shape: tuple[int, ...], file: Inventory
) -> TensorRecord:
    found = [file.tensors[name] for name in names_of(entry)]
    return TensorRecord(status, tuple(f.key for f in found), operation, shape, found[0].tensor.shape)


def _entry(plan: Plan, file: Inventory) -> str:
    """Return the entry that most of the used tensors stand in."""
    sources: Sequence[Entry] = [a.entry for a in plan.assignments] or [m.source for m in plan.mismatched]
    counts: dict[str, int] = {}
    for source in sources:
        entry = file.tensors[names_of(source)[0]].entry
        counts[entry] = counts.get(entry, 0) + 1
    return max(counts, key=counts.__getitem__) if counts else ""


def _undecided(plan: Plan, file: Inventory) -> tuple[str, ...]:
    """Write the fields that choose one of the networks that fit equally well; nothing where one is chosen."""
    if plan.alignment is None or not plan.alignment.undecided:
        return ()
    return choosing((plan.alignment.file_prefix, *plan.alignment.undecided), file)


def choosing(prefixes: Sequence[str], file: Inventory) -> tuple[str, ...]:
    """Write the fields of `pretrain` that choose the networks behind these prefixes of a file."""
    fields = []
    for prefix in prefixes:
        place = prefix.rstrip(".")
        entries = [entry for entry in file.entries if entry and f"{place}.".startswith(f"{entry}.")]
        entry = max(entries, key=len, default="")
        part = place[len(entry) :].lstrip(".")
        fields.append(f"sub_level={part!r}" if part else f"key={entry!r}")
    return tuple(fields)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def percent(share: float) -> str:
    """Write a share so that 99.97% is not called 100%."""
    return "100%" if share == 1 else f"{min(share, 0.999):.1%}"


def _shape(shape: tuple[int, ...] | None) -> str:
    return str(tuple(shape)) if shape is not None else "parts that do not go together"


def _shorten(phrases: list[str]) -> str:
    more = f", and {len(phrases) - SHOWN} more" if len(phrases) > SHOWN else ""
    return ", ".join(phrases[:SHOWN]) + more


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


__all__ = ["LoadReport", "Mismatch", "TensorRecord", "announce", "make_report", "percent"]
