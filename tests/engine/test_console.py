from __future__ import annotations

import io
import logging
import re
import sys

import pytest

from framework.engine import console
from framework.engine.console import DETAIL, ConsoleHandler, ProgressBar, package_log_to


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def logger():
    logger = logging.Logger("run", logging.INFO)
    logger.addHandler(ConsoleHandler(logging.Formatter("%(message)s"), logging.INFO))
    return logger


@pytest.fixture
def terminal(monkeypatch):
    """Open a terminal, in the test itself: pytest sets its own streams after the fixtures."""

    def open_terminal():
        out = Terminal()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", out)
        return out

    return open_terminal


def test_without_a_terminal_every_line_is_printed_and_there_is_no_bar(logger, capsys):
    bar = ProgressBar(10, 0, "train")
    bar.advance("train", lambda: {"loss": 1.0})
    logger.info("iteration", extra=DETAIL)
    logger.info("epoch")
    logger.debug("hidden")
    bar.close()
    assert capsys.readouterr() == ("iteration\nepoch\n", "")


def test_on_a_terminal_a_bar_shows_losses_rate_and_time_left(logger, terminal):
    out = terminal()
    bar = ProgressBar(4, 0, "train")
    bar.bar.mininterval = 0
    for step in range(3):
        bar.advance(f"epoch {step}", lambda loss=2.0 / (step + 1): {"loss": loss, "lr": 1e-3})
    logger.info("iteration", extra=DETAIL)
    logger.info("metrics")
    bar.close()
    shown = out.getvalue()
    assert "epoch 2:  75%" in shown
    assert "loss=0.6667, lr=0.001" in shown
    assert re.search(r"3/4 \[\d\d:\d\d<\d\d:\d\d", shown)
    assert "metrics" in shown
    assert "iteration" not in shown


def test_a_resumed_bar_begins_where_the_run_stood(terminal):
    out = terminal()
    ProgressBar(10, 4, "train").close()
    assert "4/10" in out.getvalue()


def test_long_messages_go_to_the_log_file_only_unless_they_warn(logger, capsys):
    lines = "\n".join(map(str, range(console.MAX_LINES)))
    logger.info(lines)
    logger.info(f"{lines}\none more")
    assert capsys.readouterr().out == f"{lines}\n"
    logger.warning(f"{lines}\none more")
    assert capsys.readouterr().out == f"{lines}\none more\n"


def test_the_log_of_the_package_goes_to_the_run_while_it_runs(logger, capsys):
    ours = logging.getLogger("framework.pretrain")
    state = logging.getLogger("framework").__dict__.copy()
    with package_log_to(logger):
        ours.info("loaded")
        ours.debug("hidden")
    ours.warning("after")
    assert capsys.readouterr().out == "loaded\n"
    assert logging.getLogger("framework").level == state["level"]
    assert logging.getLogger("framework").propagate == state["propagate"]
