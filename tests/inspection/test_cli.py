"""The command line on real files of every format: what it says, and its exit codes."""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import tomllib
import torch
from torch import nn

from framework import __version__
from framework.inspection.cli import run
from framework.inspection.terminal import Style
from framework.pretrain import load_pretrained
from framework.registry import BACKBONES

ROOT = Path(__file__).parents[2]


def makers() -> Any:
    """The makers of every format and container that the tests of the loader use."""
    path = ROOT / "tests" / "pretrain" / "test_every_file.py"
    spec = importlib.util.spec_from_file_location("every_file", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["every_file"] = module
    spec.loader.exec_module(module)
    return module


MAKERS = makers()


def call(*arguments: object, code: int = 0) -> str:
    out, err = io.StringIO(), io.StringIO()
    got = run([str(one) for one in arguments], out, err)
    assert got == code, (got, out.getvalue(), err.getvalue())
    return out.getvalue() + err.getvalue()


def parsed(*arguments: object, code: int = 0) -> Any:
    return json.loads(call(*arguments, "--json", code=code))


def resnet(**arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    return BACKBONES.build(dict(type="ResNet", depth=18, base_channels=8, stem_channels=8, **arguments))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save({"state_dict": resnet().state_dict(), "epoch": 3, "arch": "tiny"}, tmp_path / "a.pth")
    return tmp_path / "a.pth"


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.parametrize("form", [*MAKERS.NESTED, *MAKERS.FLAT])
def test_every_format_is_inspected(form: str, tmp_path: Path) -> None:
    weights = dict(resnet().state_dict())
    nested = form in MAKERS.NESTED
    path = (
        MAKERS.NESTED[form](MAKERS.CONTAINERS["model"](weights), tmp_path)
        if nested
        else (MAKERS.FLAT[form](weights, tmp_path))
    )
    told = parsed("inspect", path)
    inside = [one for one in told["tensors"] if one["entry"] == told["entry"]]
    assert {one["key"].removeprefix("model."): one["shape"] for one in inside} == {
        name: list(tensor.shape) for name, tensor in weights.items()
    }
    assert told["parameters"] == sum(tensor.numel() for tensor in weights.values())
    assert told["architecture"]["figures"]["depth"] == 18
    assert (told["sha256"] is None) == Path(told["file"]).is_dir()
    text = call("inspect", path)
    assert re.search(r"depth +18", text) and "backbone=dict(type='ResNet', depth=18" in text


def test_a_torchscript_file(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(module, torch.zeros(1, 3, 8, 8)), tmp_path / "a.pt")
    assert "torchscript" in call("inspect", tmp_path / "a.pt")


def test_what_is_said(file: Path) -> None:
    text = call("inspect", file)
    digest = subprocess.run(["sha256sum", str(file)], capture_output=True, text=True, check=True).stdout[:64]
    for phrase in (digest, "torch zip", "epoch  3", "120 tensors", "parts of state_dict"):
        assert phrase in text
    assert "\x1b" not in text
    assert digest not in call("inspect", file, "--no-sha256")


def test_keys(file: Path) -> None:
    assert "  state_dict.layer1.{0, 1}.bn1.{weight, bias," in call("inspect", file, "--keys")
    text = call("inspect", file, "--keys", "*.layer4.1.conv?.weight").partition("keys\n")[2]
    assert [line.split()[0] for line in text.splitlines()] == [
        "state_dict.layer4.1.conv1.weight",
        "state_dict.layer4.1.conv2.weight",
    ]
    assert "no key matches nothing" in call("inspect", file, "--keys", "nothing")


def test_one_long_name_does_not_push_the_others_aside(tmp_path: Path) -> None:
    torch.save({"a" * 500: torch.ones(1), "b.weight": torch.ones(2)}, tmp_path / "a.pth")
    text = call("inspect", tmp_path / "a.pth", "--keys", "*")
    assert "  b.weight  (2,)  float32" in text and "a" * 500 in text and "holds   2 tensors" in text
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    assert "holds   1 tensor," in call("inspect", tmp_path / "a.pth")


def test_stats(tmp_path: Path) -> None:
    values = torch.tensor([[1.0, 0.0, float("nan")], [0.0, 5.0, float("inf")]])
    state = {
        "a": values,
        "b": torch.arange(4),
        "c": torch.arange(4),
        "d": torch.ones(3, dtype=torch.bfloat16),
    }
    torch.save(state, tmp_path / "a.pth")
    stats = parsed("inspect", tmp_path / "a.pth", "--stats")["stats"]
    finite = torch.tensor([1.0, 0.0, 0.0, 5.0])
    assert stats["a"]["mean"] == pytest.approx(float(finite.mean()))
    assert stats["a"]["std"] == pytest.approx(float(finite.std(correction=0)))
    assert (stats["a"]["nan"], stats["a"]["infinite"], stats["a"]["zero_share"]) == (1, 1, 2 / 6)
    assert (stats["b"]["equals"], stats["c"]["equals"], stats["d"]["equals"]) == (None, "b", None)
    assert (stats["d"]["low"], stats["d"]["high"]) == (1.0, 1.0)
    assert "equals b" in call("inspect", tmp_path / "a.pth", "--stats")


@pytest.mark.parametrize("name", ["float8_e8m0fnu", "float4_e2m1fn_x2", "bits8"])
def test_types_that_torch_hardly_calculates_with(name: str, tmp_path: Path) -> None:
    kind = getattr(torch, name, None)
    if kind is None:
        pytest.skip(f"this torch has no {name}")
    state = {"a": torch.arange(6, dtype=torch.uint8).view(kind), "empty": torch.ones(0), "b": torch.ones(2)}
    torch.save(state, tmp_path / "a.pth")
    torch.save({**state, "a": torch.full((6,), 7, dtype=torch.uint8).view(kind)}, tmp_path / "b.pth")
    stats = parsed("inspect", tmp_path / "a.pth", "--stats", "--html", tmp_path / "a.html")["stats"]
    assert stats["empty"]["mean"] is None and stats["b"]["mean"] == 1
    assert (stats["a"]["mean"] is None) == (name != "float8_e8m0fnu") and stats["a"]["infinite"] == 0
    assert "3 equal" in call("diff", tmp_path / "a.pth", tmp_path / "a.pth")
    pairs = parsed("diff", tmp_path / "a.pth", tmp_path / "b.pth", code=1)["pairs"]
    assert {one["key"]: one["verdict"] for one in pairs} == {"a": "different", "empty": "equal", "b": "equal"}


def test_hostile_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202egnp\r\n"
    state = {f"{evil}.weight": torch.ones(2), evil: torch.ones(1)}
    torch.save({evil: state, f"x{evil}": evil, "y": [evil]}, tmp_path / "a.pth")
    torch.save({evil: {evil: torch.ones(3)}}, tmp_path / "b.pth")
    for arguments in (
        ("inspect", tmp_path / "a.pth", "--keys", "--stats"),
        ("inspect", tmp_path / "a.pth", "--keys", "*"),
        ("inspect", tmp_path / "a.pth", "--json"),
    ):
        assert_calm(call(*arguments))
    assert_calm(call("diff", tmp_path / "a.pth", "dict(type='ResNet', depth=18)", code=1))
    assert_calm(call("diff", tmp_path / "a.pth", tmp_path / "b.pth", code=1))
    assert_calm(call("inspect", tmp_path / f"{evil}.pth", code=2))
    assert_calm(call("inspect", tmp_path / "a.pth", f"--pretrain.key={evil}no", code=2))


def assert_calm(text: str) -> None:
    assert text and not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text), repr(text)


def test_what_files_say_of_themselves(tmp_path: Path) -> None:
    arguments = argparse.Namespace(lr=0.1, betas=(0.9, 0.99), model="vit", deep=argparse.Namespace(a=1))
    tree = {"model": {"a": torch.ones(1)}, "args": arguments, "log": "x" * 500, "optimizer": {"lr": 3}}
    torch.save(tree, tmp_path / "a.pth")
    told = parsed("inspect", tmp_path / "a.pth")
    expected = {"args.lr": 0.1, "args.betas": [0.9, 0.99], "args.model": "vit", "args.deep.a": 1}
    assert {name: told["metadata"].get(name) for name in expected} == expected
    assert told["metadata"]["log"].endswith("(500 characters)") and "optimizer.lr" not in told["metadata"]
    assert told["replaced"] == ["argparse.Namespace"]
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "b.safetensors", {"author": "me"})
    assert parsed("inspect", tmp_path / "b.safetensors")["metadata"] == {"author": "me"}


def test_json_has_no_nan(tmp_path: Path) -> None:
    torch.save({"a": torch.tensor([1.0]), "loss": float("nan")}, tmp_path / "a.pth")
    torch.save({"a": torch.tensor([float("inf")])}, tmp_path / "b.pth")

    def refuse(name: str) -> None:
        raise AssertionError(name)

    text = call("inspect", tmp_path / "a.pth", "--json")
    assert json.loads(text, parse_constant=refuse)["metadata"] == {"loss": "nan"}
    text = call("diff", tmp_path / "a.pth", tmp_path / "b.pth", "--json", code=1)
    assert json.loads(text, parse_constant=refuse)["pairs"][0]["largest"] == "inf"


def test_a_terminal_without_the_characters(tmp_path: Path) -> None:
    torch.save({"gewicht.größe": torch.ones(2)}, tmp_path / "a.pth")
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert run(["inspect", str(tmp_path / "a.pth"), "--keys", "*"], out) == 0
    assert b"gewicht.gr\\xf6\\xdfe" in out.detach().getvalue()


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "missing.pth"),
        ("inspect", "empty.pth"),
        ("diff", "missing.pth", "dict(type='ResNet', depth=18)"),
        ("convert", "missing.pth", "--to", "timm", "-o", "b.pth"),
        ("publish", "missing.pth"),
        ("average", "missing.pth", "-o", "b.safetensors"),
        ("list", "nonsense"),
        ("show", "Nonsense"),
        ("inspect", "missing.pth", "--pretrain.nonsense", "1"),
    ],
)
def test_errors_are_json_too(arguments, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.pth").touch()
    out, err = io.StringIO(), io.StringIO()
    assert run([*arguments, "--json"], out, err) == 2
    told = json.loads(out.getvalue())["error"]
    assert told["message"] and err.getvalue().startswith(f"{told['type']}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["empty.pth"]


def test_errors_end_with_2(tmp_path: Path, file: Path) -> None:
    assert "did you mean a.pth?" in call("inspect", tmp_path / "none.pth", code=2)
    assert "text, which begins 'hello'" in call("inspect", write(tmp_path / "a.txt", "hello"), code=2)
    torch.save({"a": torch.ones(1), "b": torch.hub.load}, tmp_path / "bad.pth")
    assert "torch.hub.load" in call("inspect", tmp_path / "bad.pth", code=2)
    assert "did you mean key?" in call("inspect", file, "--pretrain.kee", "x", code=2)
    assert "needs a value" in call("inspect", file, "--pretrain.key", code=2)
    assert "there is no entry 'techer'" in call("inspect", file, "--pretrain.key", "techer", code=2)
    assert "did you mean backbones?" in call("list", "backbone", code=2)
    assert "did you mean ResNet" in call("show", "ResNett", code=2)
    assert "only dict(" in call("diff", file, "dict(type=exit())", code=2)
    with pytest.raises(SystemExit) as error:
        run(["inspect"])
    assert error.value.code == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model = 1 / 0", "division by zero"),
        ("model = dict(type='ResNet', depth=18, base_channels=-8)", "negative dimension"),
        ("model = dict(type='ResNet', depth=18, in_channels='three')", "cannot be built: TypeError"),
        ("import no_such_module", "no_such_module"),
        ("model = dict(type='ResNet', dept=18)", "did you mean depth"),
    ],
)
def test_a_wrong_config_does_not_end_as_a_difference_does(
    text: str, told: str, file: Path, tmp_path: Path
) -> None:
    """What ends with a traceback ends with 1, and that means that something would be missing."""
    assert told in call("diff", file, write(tmp_path / "config.py", text), code=2)


def test_where_configs_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"none of the configs below the folder {tmp_path / 'configs'}" in call("list", "configs", code=1)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out == f"framework {__version__}\n"


def test_a_file_where_a_folder_is_wanted(file: Path) -> None:
    assert "is a file: name a folder" in call("publish", file, "-o", file, code=2)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_fields_of_pretrain(tmp_path: Path) -> None:
    state = dict(resnet().state_dict())
    torch.save(
        {"student": state, "teacher": state, "old": {f"x_{k}": v for k, v in state.items()}},
        tmp_path / "a.pth",
    )
    assert parsed("inspect", tmp_path / "a.pth")["entry"] == "teacher"
    told = parsed("inspect", tmp_path / "a.pth", "--pretrain.key", "student")
    assert told["entry"] == "student" and "pretrain={'path'" not in told["config"]
    assert "pretrain=dict(path=" in told["config"] and "key='student'" in told["config"]
    rules = "--pretrain.revise_keys=[('^x_', '')]"
    told = parsed("inspect", tmp_path / "a.pth", "--pretrain.key", "old", rules)
    assert told["architecture"]["figures"]["depth"] == 18


def test_colours_are_for_terminals(file: Path) -> None:
    main, other = pty.openpty()
    with os.fdopen(other, "w") as terminal, os.fdopen(main, "rb", closefd=True):
        assert Style(terminal, {}).coloured
        assert not Style(terminal, {"NO_COLOR": "1"}).coloured
        assert not Style(terminal, {"TERM": "dumb"}).coloured
        assert Style(terminal, {"NO_COLOR": ""})("x", "red") == "\x1b[31mx\x1b[0m"
    assert Style(io.StringIO(), {})("x", "red") == "x"


def test_inspect_needs_no_torch(file: Path) -> None:
    code = (
        "import sys; from framework.inspection.cli import run; "
        f"code = run(['inspect', {str(file)!r}, '--keys']); "
        "print(code, sorted({'torch', 'numpy', 'mmengine', 'requests', 'fsspec'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak of a process")
def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    shapes = {f"blocks.{i}.mlp.fc1.weight": [4096, 4096] for i in range(20)}
    sizes = [(name, i * (64 << 20)) for i, name in enumerate(shapes)]
    header = json.dumps(
        {n: {"dtype": "F32", "shape": shapes[n], "data_offsets": [at, at + (64 << 20)]} for n, at in sizes}
    ).encode()
    with open(tmp_path / "large.safetensors", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 20 * (64 << 20))
    code = (
        "from framework.inspection.cli import run; "
        f"code = run(['inspect', {str(tmp_path / 'large.safetensors')!r}, '--no-sha256']); "
        "print(code, [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    code_of_exit, kibibytes = map(int, done.stdout.splitlines()[-1].split())
    assert code_of_exit == 0 and kibibytes < 300 * 1024 and "1.3 GiB" in done.stdout


def test_the_program(file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "framework", "inspect", str(file)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0 and done.stdout == call("inspect", file) and done.stderr == ""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["framework"] == "framework.inspection.cli:main"


def test_an_interrupt_ends_without_a_traceback(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # which answers nothing
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.safetensors"
        command = [sys.executable, "-m", "framework", "inspect", address]
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        ) as process:
            server.settimeout(60)
            with server.accept()[0] as connection:
                assert connection.recv(1)
                process.send_signal(signal.SIGINT)
                _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "")


def test_a_page_is_written(file: Path, tmp_path: Path) -> None:
    call("inspect", file, "dict(type='ResNet', depth=18)", "--html", tmp_path / "page.html")
    assert "</html>" in (tmp_path / "page.html").read_text()


def test_inspect_with_a_model_tells_what_a_load_does(file: Path) -> None:
    config = "dict(type='ResNet', depth=18, base_channels=8, stem_channels=8, se_ratio=4)"
    told = parsed("inspect", file, config)["load"]
    assert {name.split(".")[2] for name in told["fresh"]} == {"se"}
    report = load_pretrained(resnet(se_ratio=4), file)
    assert told["fresh"] == list(report.fresh) and told["coverage"] == report.coverage


def test_average_and_publish_write_what_safetensors_reads(file: Path, tmp_path: Path) -> None:
    told = parsed("publish", file, "-o", tmp_path / "out")
    assert Path(told["path"]).name == f"a-{told['sha256'][:8]}.safetensors"
    same(safetensors.torch.load_file(told["path"]), dict(resnet().state_dict()))


def same(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> None:
    assert got.keys() == want.keys()
    for name, tensor in want.items():
        assert got[name].dtype == tensor.dtype and torch.equal(got[name], tensor), name
