"""The rules of the house that no linter knows: sizes, layers, imports, and the two commands of the README."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "framework"
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
TABLES = PACKAGE / "pretrain" / "dialects"
SOURCES = sorted(
    path
    for folder in ("framework", "tools", "tests", "configs", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
PACKAGE_SOURCES = [path for path in SOURCES if PACKAGE in path.parents]
DISTRIBUTION_OF = {"PIL": "pillow", "sklearn": "scikit_learn", "yaml": "pyyaml"}
UNFINISHED = re.compile(r"\b(?:T[O]DO|F[I]XME|X{3})\b")

# Each import happens in a child of a process that has the heavy libraries loaded already.
# Collecting garbage in a child would copy all memory that it shares with its parent.
# To import a module is to import its package first: what that has imported by then need not be tried.
IMPORT_EACH_ALONE = """
import gc, importlib, os, sys
gc.disable()
import mmengine.runner, sklearn.datasets, torch, torchvision.transforms.v2
assert not any(name.split('.')[0] == 'framework' for name in sys.modules)
failed, with_their_package = [], set()
for name in sorted(sys.argv[1:], key=lambda name: name.count('.')):
    if name in with_their_package:
        continue
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        importlib.import_module(name)
        os.write(writer, ' '.join(other for other in sys.modules if other.startswith(f'{name}.')).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        with_their_package.update(file.read().split())
    if os.waitpid(child, 0)[1]:
        failed.append(name)
print(*failed)
"""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def imported_modules(path: Path) -> set[str]:
    """Absolute names of what a file imports, also inside functions; `from a import b` counts as a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


def test_no_file_is_too_long() -> None:
    files = [path for path in PACKAGE_SOURCES if TABLES not in path.parents]
    lengths = {relative(path): len(path.read_text().splitlines()) for path in files}
    assert {name: n for name, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{relative(path)}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in PACKAGE_SOURCES
        for node in functions(path)
    }
    assert {name: n for name, n in lengths.items() if n > MAX_FUNCTION_LINES} == {}


def test_the_package_is_at_most_two_folders_deep_and_has_no_drawer() -> None:
    parts = [path.relative_to(PACKAGE).parts for path in PACKAGE_SOURCES]
    assert [p for p in parts if len(p) > 3] == []
    assert [p for p in parts if p[-1] in ("utils.py", "helpers.py", "misc.py")] == []


def test_every_folder_of_the_package_is_a_package() -> None:
    folders = {path.parent for path in PACKAGE_SOURCES}
    assert [relative(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_nothing_is_left_unfinished() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert [relative(path) for path in [*SOURCES, *pages] if UNFINISHED.search(path.read_text())] == []


def test_the_heart_knows_no_other_part_of_the_package() -> None:
    others = [
        path.stem if path.is_file() else path.name
        for path in PACKAGE.iterdir()
        if not path.name.startswith("_")
    ]
    foreign = {f"framework.{name}" for name in others} - {"framework.pretrain", "framework.errors"}
    found = {
        relative(path): imported_modules(path) & foreign
        for path in sorted((PACKAGE / "pretrain").rglob("*.py"))
    }
    assert {name: modules for name, modules in found.items() if modules} == {}


def test_only_the_checkpoint_reader_unpickles() -> None:
    reader = {PACKAGE / "pretrain" / "checkpoint.py", *(PACKAGE / "pretrain" / "formats").glob("*.py")}
    picklers = {"pickle", "dill", "cloudpickle", "joblib"}
    assert [
        relative(path) for path in PACKAGE_SOURCES if path not in reader and imported_modules(path) & picklers
    ] == []


def test_every_library_that_is_imported_is_declared() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = {re.split(r"[^\w-]", line)[0].lower().replace("-", "_") for line in declared}
    imported = {module.split(".")[0] for path in PACKAGE_SOURCES for module in imported_modules(path)}
    libraries = imported - set(sys.stdlib_module_names) - {"framework"}
    assert {DISTRIBUTION_OF.get(name, name) for name in libraries} - names == set()


def test_importing_the_package_and_its_registries_imports_no_torch() -> None:
    imports = "import sys, framework, framework.registry, framework.errors"
    result = run_python("-c", f"{imports}; print(sorted({{'torch', 'torchvision'}} & set(sys.modules)))")
    assert (result.stdout, result.stderr) == ("[]\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process per module without fork would take minutes")
def test_every_module_can_be_imported_first() -> None:
    names = map(module_name, PACKAGE_SOURCES)
    result = run_python("-W", "ignore", "-c", IMPORT_EACH_ALONE, *names)
    assert (result.returncode, result.stdout) == (0, "\n"), result.stderr


def test_the_readme_marks_the_two_commands_that_ci_runs() -> None:
    commands = re.findall(
        r"^<!-- command: (\w+) -->\n```bash\n([^\n]+)\n```$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert [name for name, _ in commands] == ["run", "test"]
    asked = re.findall(r"^run_readme (\w+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert asked == ["run", "test"]
