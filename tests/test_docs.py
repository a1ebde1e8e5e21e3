"""What README.md and docs/ show is run, and what they print is compared."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?P<skip>^<!-- not run: [^\n]+ -->\n+)?^```(?P<language>\w+)[^\n]*\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
REPOSITORY_FILE = re.compile(r"\b(?:configs|tools|tests|framework|docs)/[\w./-]*\.(?:py|svg|md)\b")
MADE_BY_THE_READER = {"configs/flowers.py"}
RELATIVE_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(?:#[^)]*)?\)")


@dataclass(frozen=True)
class Block:
    """One python block of a page, and the text block right after it, which is what it prints."""

    line: int
    source: str
    output: str | None


def python_blocks(page: str) -> Iterator[Block]:
    for fence, following in pairwise([*FENCE.finditer(page), None]):
        if fence["language"] != "python" or fence["skip"]:
            continue
        printed = (
            following is not None
            and following["language"] == "text"
            and not page[fence.end() : following.start()].strip()
        )
        line = page.count("\n", 0, fence.start("body"))
        yield Block(line, fence["body"], following["body"] if printed and following else None)


@dataclass(frozen=True)
class Session:
    """One console block of a page: commands after `$ `, and what each prints."""

    line: int
    text: str


def sessions(page: str) -> Iterator[Session]:
    for fence in FENCE.finditer(page):
        if fence["language"] == "console" and not fence["skip"]:
            yield Session(page.count("\n", 0, fence.start("body")), fence["body"])


def blocks(page: str) -> list[Block | Session]:
    """Return what a page runs, in its order."""
    return sorted([*python_blocks(page), *sessions(page)], key=lambda block: block.line)


def run_session(session: Session) -> str:
    """Run the commands, all of them `framework ...`; return the block with what they really print."""
    from framework.inspection.cli import run

    lines = []
    for prompt in re.findall(r"^\$ .*(?:(?<=\\)\n.*)*", session.text, re.MULTILINE):
        program, *arguments = shlex.split(prompt[2:].replace("\\\n", " "))
        assert program == "framework", prompt
        printed = io.StringIO()
        run(arguments, printed, printed)
        lines += [prompt, printed.getvalue().rstrip("\n")]
    return "\n".join(lines)


def run_block(block: Block, name: str, namespace: dict[str, Any]) -> str:
    """Run `block`; a traceback gives the page and the line in it."""
    code = compile("\n" * block.line + block.source, name, "exec", dont_inherit=True)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, namespace)
    return printed.getvalue()


def assert_same_text(got: str, want: str, where: str) -> None:
    """Compare as doctest does: `...` stands for any text."""
    got, want = (re.sub(r" +$", "", text, flags=re.MULTILINE).rstrip() + "\n" for text in (got, want))
    same = doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS)
    assert same, f"{where} prints\n{got}\nand the page shows\n{want}"


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p.read_text())], ids=relative)
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRAMEWORK_HOME", str(tmp_path / "cache"))
    namespace: dict[str, Any] = {"__name__": "__docs__"}
    for block in blocks(page.read_text()):
        if isinstance(block, Session):
            assert_same_text(run_session(block), block.text, f"{relative(page)}:{block.line}")
            continue
        printed = run_block(block, relative(page), namespace)
        if block.output is not None:
            assert_same_text(printed, block.output, f"{relative(page)}:{block.line}")


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_files_and_links_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    named = {ROOT / name for name in set(REPOSITORY_FILE.findall(text)) - MADE_BY_THE_READER}
    linked = {page.parent / target for target in RELATIVE_LINK.findall(text)}
    assert [str(path) for path in sorted(named | linked) if not path.exists()] == []


def test_blocks_that_are_not_run_are_few() -> None:
    skipped = [
        f"{relative(p)}: {fence['skip'].strip()}"
        for p in PAGES
        for fence in FENCE.finditer(p.read_text())
        if fence["skip"]
    ]
    assert len(skipped) <= 6, skipped


def configs_in_docs() -> list[str]:
    blocks = [fence["body"] for page in PAGES for fence in FENCE.finditer(page.read_text())]
    return [body for body in blocks if body.startswith("_base_ = ")]


@pytest.mark.parametrize("config", configs_in_docs())
def test_configs_merge_with_their_bases_and_build(config: str, tmp_path: Path) -> None:
    from framework import get_model
    from framework.engine import load_config

    (tmp_path / "_base_").symlink_to(ROOT / "configs" / "_base_")
    path = tmp_path / "config.py"
    path.write_text(config)
    written: dict[str, Any] = {}
    exec(config, written)
    model = get_model(path, pretrained=False)
    assert model.head.num_classes == written["model"]["head"]["num_classes"]
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        assert load_config(path)[name].dataset.root == written[name]["dataset"]["root"]


def test_the_table_of_fields_is_complete() -> None:
    from framework.pretrain.spec import FIELDS

    section = (ROOT / "docs" / "pretrain.md").read_text().split("## The fields")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == sorted(FIELDS)


def test_the_table_of_naming_schemes_is_complete() -> None:
    from framework.pretrain.dialects import TABLES

    section = (ROOT / "docs" / "pretrain.md").read_text().split("## Naming schemes")[1].split("\n## ")[0]
    shown = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
    assert shown == ["architecture", *(table.title for table in TABLES)]


def test_the_table_of_sharding_is_complete() -> None:
    import inspect

    from framework.engine.sharded import shard_model

    section = (ROOT / "docs" / "many_machines.md").read_text().split("## Sharding")[1].split("\n### ")[0]
    shown = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert shown == [name for name in inspect.signature(shard_model).parameters if name != "module"]


def test_the_table_of_rules_for_parameters_is_complete() -> None:
    from framework.engine import LearningRateDecayOptimWrapperConstructor

    section = (ROOT / "docs" / "finetune.md").read_text().split("## Layers that learn")[1].split("\n## ")[0]
    shown = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(shown) == sorted(LearningRateDecayOptimWrapperConstructor.options)


def test_every_error_is_explained() -> None:
    from framework.pretrain import errors

    page = (ROOT / "docs" / "safety.md").read_text()
    families = {"PretrainError", "SourceError"}
    names = {name for name, value in vars(errors).items() if isinstance(value, type)} - families
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_every_model_is_named() -> None:
    from framework.registry import MODELS

    page = (ROOT / "docs" / "models.md").read_text()
    ours = [name for name in MODELS.names() if MODELS.get(name).__module__.startswith("framework.")]
    assert len(ours) > 10
    assert [name for name in ours if f"| `{name}` |" not in page] == []


def test_a_wrong_output_is_noticed() -> None:
    page = "```python\nprint('a b')\n```\n\n```text\na c\n```\n"
    (block,) = python_blocks(page)
    with pytest.raises(AssertionError, match="prints"):
        assert_same_text(run_block(block, "page", {}), block.output or "", "page")
