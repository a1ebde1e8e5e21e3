"""The doors in `tools` lead to the commands."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

TOOLS = Path(__file__).parents[2] / "tools"


def run(name: str, *arguments: object, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(TOOLS / name), run_name="__main__")
    return done.value.code


def test_doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = tmp_path / "a.pth", tmp_path / "b.pth"
    torch.save({"a.weight": torch.ones(2)}, one)
    torch.save({"a.weight": torch.zeros(2)}, two)
    assert run("inspect_checkpoint.py", one, monkeypatch=monkeypatch) == 0
    assert "1 tensor, 2 parameters" in capsys.readouterr().out
    assert run("diff_checkpoint.py", one, two, monkeypatch=monkeypatch) == 1
    assert "1 different" in capsys.readouterr().out
    mean = tmp_path / "mean.safetensors"
    assert run("average_checkpoints.py", one, two, "-o", mean, monkeypatch=monkeypatch) == 0
    assert run("publish_model.py", mean, "-o", tmp_path / "out", monkeypatch=monkeypatch) == 0
    assert [path.name[:5] for path in (tmp_path / "out").iterdir()] == ["mean-"]
    assert run("publish_model.py", tmp_path / "none.pth", monkeypatch=monkeypatch) == 2
