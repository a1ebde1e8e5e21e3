"""A checkpoint, and what a load takes from it, as one HTML file that needs no network and no server."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from framework.inspection.facts import FileFacts
from framework.inspection.page_data import Values, page_data
from framework.pretrain.checkpoint import open_checkpoint
from framework.pretrain.inventory import take_inventory
from framework.pretrain.report import LoadReport
from framework.pretrain.spec import PretrainSpec

#: Parts of the program, in the order in which they stand in the page.
SCRIPTS = ("data.js", "words.js", "tree.js", "squarify.js", "map.js", "detail.js", "page.js")

#: What the page may do: run its own script, use its own style, and nothing else.
POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)

_SLOT = re.compile(r"\{\{(\w+)\}\}")


def write_page(
    path: str | os.PathLike[str],
    facts: FileFacts,
    report: LoadReport | None = None,
    *,
    trust_pickle: bool = False,
) -> Path:
    """Write a page that shows a file, and what a load of it does, with a histogram of every tensor's values.

    The values are read one tensor at a time. A file that is not local is shown without them.

    Args:
        path: The page to write; an old one is replaced.
        facts: The file, as `inspect_file` tells it.
        report: What `plan_pretrained` or `load_pretrained` say of it; None shows the file alone.
        trust_pickle: As in `open_checkpoint`.

    Returns:
        The path of the page.

    Raises:
        CheckpointError: The file cannot be read, or is not what it was.
        OSError: The page cannot be written there.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"there is no folder '{target.parent}' to write the page '{target.name}' into"
        )
    data = page_data(facts, report, _values(facts, report, trust_pickle=trust_pickle))
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        part.write_text(render(data), encoding="utf-8")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target


def render(data: dict[str, Any]) -> str:
    """Return the page for what `page_data` gives."""
    script = "\n".join(_asset(name) for name in SCRIPTS)
    style = _asset("page.css")
    slots = {
        "policy": POLICY.format(script=_hash(script), style=_hash(style)),
        "title": html.escape(data["title"]),
        "summary": html.escape(
            " ".join(filter(None, (data["verdict"]["word"], data["verdict"]["sentence"])))
        ),
        "style": style,
        "script": script,
        "data": _inert(data),
    }
    return _SLOT.sub(lambda slot: slots[slot[1]], _asset("page.html"))


def _values(facts: FileFacts, report: LoadReport | None, *, trust_pickle: bool) -> Values:
    """Return the tensors of the file whose values are shown: not those of entries left alone."""
    if facts.file is None:
        return {}
    checkpoint = open_checkpoint(facts.file, trust_pickle=trust_pickle)
    file = take_inventory(checkpoint, PretrainSpec(path=str(facts.file)))
    left = set(report.elsewhere) if report else set()
    return {one.key: one.tensor for one in file.tensors.values() if one.entry not in left}


def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"


def _inert(data: dict[str, Any]) -> str:
    """Return JSON in which nothing can end the element that it stands in, or begin another."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
