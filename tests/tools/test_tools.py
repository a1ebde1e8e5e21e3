"""The tools as a user starts them."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from framework.engine.cli import main, train_command, train_parser
from framework.engine.cli import test_command as evaluate_command

ROOT = Path(__file__).parents[2]


@pytest.fixture
def own_threads():
    """Restore the number of threads, which the config sets."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run(tool, *arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tools" / tool), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=100)


def test_the_quickstart_ends_with_the_accuracy_and_can_be_tested_again(
    tmp_path, monkeypatch, capsys, own_threads
):
    config = ROOT / "configs" / "quickstart.py"
    short = ["--cfg-options", "train_cfg.max_epochs=1", "param_scheduler.1.end=3"]
    trained = run("train.py", config, *short, cwd=tmp_path)
    assert (trained.returncode, trained.stderr) == (0, "")
    last = trained.stdout.splitlines()[-1]
    assert re.fullmatch(r"test accuracy: 0\.\d{4} \(top-5: [01]\.\d{4}\)", last)
    assert "vit-digits_simmim.safetensors" in trained.stdout
    assert "WARNING" not in trained.stdout

    checkpoint = tmp_path / "work_dirs" / "quickstart" / "epoch_1.pth"
    monkeypatch.setattr(
        sys, "argv", ["test.py", str(config), str(checkpoint), "--work-dir", str(tmp_path / "t")]
    )
    runpy.run_path(str(ROOT / "tools" / "test.py"), run_name="__main__")
    assert capsys.readouterr().out.splitlines()[-1] == last


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (train_command, ["configs/quikstart.py"], r"ConfigError: .*did you mean .*/quickstart.py"),
        (evaluate_command, ["configs/quickstart.py", "nowhere.pth"], r"NotFoundError: .*nowhere\.pth"),
    ],
)
def test_an_error_that_the_user_can_mend_comes_without_a_traceback(
    command, arguments, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["tool", *arguments, "--work-dir", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        main(command)
    assert re.match(message, end.value.code)


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        main(lambda: str(1 / 0))


def test_every_option_of_the_training_is_described():
    page = (ROOT / "docs" / "train.md").read_text()
    described = re.findall(r"^\| `(--[\w-]+)", page, re.MULTILINE)
    options = [action.option_strings[-1] for action in train_parser()._actions if action.option_strings]
    assert sorted([*described, "--help"]) == sorted(options)
