"""What can be named in a config: every registered class with its arguments, and the naming schemes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from framework import registry as registries
from framework.errors import ConfigError, did_you_mean
from framework.inspection.architecture import spelled
from framework.registry import Registry

#: What `framework list` knows -> the registry, children left out where they are listed by themselves.
KINDS: Mapping[str, Registry] = {
    "backbones": registries.BACKBONES,
    "necks": registries.NECKS,
    "heads": registries.HEADS,
    "losses": registries.LOSSES,
    "models": registries.MODELS,
    "datasets": registries.DATASETS,
    "transforms": registries.TRANSFORMS,
    "metrics": registries.METRICS,
    "hooks": registries.HOOKS,
}

#: What else it knows.
OTHERS = ("dialects", "configs")

_LOSS = {"type": "CrossEntropyLoss"}
_MLP = {"in_channels": 128, "hid_channels": 512, "out_channels": 128}

#: Values of required arguments in examples, by name.
VALUES: Mapping[str, Any] = {
    "num_classes": 10,
    "dim": 512,
    "in_channels": 512,
    "hid_channels": 512,
    "out_channels": 128,
    "mid_channels": [256],
    "num_features": 512,
    "feat_dim": 128,
    "patch_size": 16,
    "encoder_stride": 16,
    "label_smooth_val": 0.1,
    "criterion": "L2",
    "root": "data/flowers",
    "batch_size": 256,
    "lr": 0.05,
    "fix_pred_lr": True,
    "num_views": [2],
    "transforms": [[{"type": "RandomHorizontalFlip"}]],
    "hidden_channels": 512,
    "num_crops": 8,
    "loss": _LOSS,
    "predictor": {"type": "NonLinearNeck", **_MLP},
    "backbone": {"type": "ResNet", "depth": 18},
    "model": {"type": "ResNet", "depth": 18},
}

#: Where the value of that name is another one for a class.
OWN_VALUES: Mapping[str, Mapping[str, Any]] = {
    "HuggingFaceBackbone": {"config": {"model_type": "vit", "hidden_size": 192, "num_attention_heads": 3}},
    "TIMMBackbone": {"model_name": "resnet18"},
    "TimmBackbone": {"model_name": "resnet18"},
    "TorchvisionBackbone": {"name": "resnet18"},
    "Classifier": {
        "neck": {"type": "GlobalAveragePooling"},
        "head": {"type": "LinearClsHead", "num_classes": 10, "in_channels": 512},
    },
}


#: A sentence of fewer characters is hardly more than a name.
SHORT = 20


@dataclass(frozen=True)
class Argument:
    """An argument of a class.

    Attributes:
        name: Its name.
        annotation: Its type, as it is written; '' where it is not.
        default: Its default, as Python writes it; None where the argument is required.
        text: What the docstring says of it.
    """

    name: str
    annotation: str
    default: str | None
    text: str


@dataclass(frozen=True)
class Entry:
    """A registered class.

    Attributes:
        name: As configs name it.
        kind: 'backbones', 'necks', ...
        summary: First line of its docstring.
        text: The docstring without its list of arguments.
        where: Module in which it is defined, and the line.
        arguments: Its arguments in order.
        example: A config that builds it, as Python; `...` stands for what depends on you.
    """

    name: str
    kind: str
    summary: str
    text: str
    where: str
    arguments: tuple[Argument, ...]
    example: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return asdict(self)


def names_of_kind(kind: str, pattern: str = "*") -> list[tuple[str, str]]:
    """Return name and summary of everything of a kind that is called like a glob pattern, case ignored.

    Args:
        kind: One of `KINDS`, 'dialects' or 'configs'.
        pattern: Compared with the whole name; without wildcards, with any part of it.

    Raises:
        ConfigError: There is no such kind.
    """
    if kind not in KINDS and kind not in OTHERS:
        known = [*KINDS, *OTHERS]
        hint = did_you_mean(kind, known) or "."
        raise ConfigError(f"there is no list of '{kind}'{hint} There are: {', '.join(known)}")
    wanted = pattern.lower() if re.search(r"[*?\[]", pattern) else f"*{pattern.lower()}*"
    return [(name, text) for name, text in _listed(kind) if fnmatchcase(name.lower(), wanted)]


def _listed(kind: str) -> Iterator[tuple[str, str]]:
    if kind == "dialects":
        yield from _dialects()
    elif kind == "configs":
        from framework.apis import list_models

        yield from ((name, "") for name in list_models())
    else:
        for name in KINDS[kind].names():
            yield name, _summary(KINDS[kind].get(name))


def _dialects() -> Iterator[tuple[str, str]]:
    from framework.pretrain.dialects import TABLES

    for table in TABLES:
        for name, column in table.columns.items():
            yield f"{table.name}/{name}", column.producers


def example_of(name: str) -> dict[str, Any]:
    """Return a config that builds a registered class; `...` stands for an argument with no usual value.

    Raises:
        ConfigError: There is no such class.
    """
    _, target = find(name)
    own = OWN_VALUES.get(name, {})
    required = [p.name for p in _parameters(target) if p.default is p.empty]
    values = {argument: own.get(argument, VALUES.get(argument, ...)) for argument in required}
    return {"type": name, **values, **{k: v for k, v in own.items() if k not in values}}


def show(name: str) -> Entry:
    """Describe a registered class.

    Raises:
        ConfigError: There is no such class.
    """
    kind, target = find(name)
    text, told = _docstring(target)
    return Entry(
        name=name,
        kind=kind,
        summary=_summary(target),
        text=text,
        where=_where(target),
        arguments=tuple(_argument(p, told.get(p.name, "")) for p in _parameters(target)),
        example=spelled(example_of(name)),
    )


def find(name: str) -> tuple[str, Any]:
    """Return the kind of a registered class, and the class.

    Raises:
        ConfigError: There is no such class.
    """
    for kind, registry in KINDS.items():
        if name in registry.names():
            return kind, registry.get(name)
    known = {one for registry in KINDS.values() for one in registry.names()}
    raise ConfigError(f"there is nothing called '{name}'{did_you_mean(name, known) or '.'}")


def _parameters(target: Any) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [one for one in inspect.signature(target).parameters.values() if one.kind in kinds]


def _argument(parameter: inspect.Parameter, text: str) -> Argument:
    annotation = "" if parameter.annotation is parameter.empty else str(parameter.annotation)
    default = None if parameter.default is parameter.empty else spelled(parameter.default)
    return Argument(parameter.name, annotation, default, text)


def _summary(target: Any) -> str:
    """Return the first sentence of a docstring, and the next where that is hardly more than a name."""
    paragraph = (inspect.getdoc(target) or "").partition("\n\n")[0]
    first, *others = re.split(r"(?<=\.)\s", " ".join(paragraph.split()))
    return " ".join([first, *others[:1]]) if len(first) < SHORT else first


def _where(target: Any) -> str:
    try:
        return f"{target.__module__}, line {inspect.getsourcelines(target)[1]}"
    except (OSError, TypeError):
        return str(getattr(target, "__module__", ""))


def _docstring(target: Any) -> tuple[str, dict[str, str]]:
    """Return a docstring without its `Args:`, and what these say, those of base classes included."""
    told: dict[str, str] = {}
    for one in reversed(getattr(target, "__mro__", (target,))):
        told.update(_told_arguments(inspect.getdoc(one) or ""))
    text = re.sub(r"(^|\n)Args:\n(?: .*\n?|\n)*", r"\1", inspect.getdoc(target) or "")
    return text.strip(), told


def _told_arguments(doc: str) -> dict[str, str]:
    section = re.search(r"(?:^|\n)Args:\n((?: .*\n?|\n)*)", doc)
    found = re.finditer(r"^ {4}(\w+):((?:.*\n?)(?: {5,}.*\n?)*)", section[1] if section else "", re.MULTILINE)
    return {match[1]: " ".join(match[2].split()) for match in found}
