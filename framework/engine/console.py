"""What the terminal shows of the log: short lines around a progress bar. The log file has everything."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tqdm import tqdm

#: Longer messages, unless they are warnings, go to the log file only.
MAX_LINES = 24

#: `logger.info(message, extra=DETAIL)`: not for a terminal that shows a progress bar.
DETAIL = {"detail": True}


class ConsoleHandler(logging.Handler):
    """Print log records above the progress bar, if there is one.

    Args:
        formatter: How a record becomes text.
        level: Records below it are left out.
    """

    def __init__(self, formatter: logging.Formatter | None, level: int) -> None:
        super().__init__(level)
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record, unless it is long, or a detail that the progress bar shows."""
        detail = getattr(record, "detail", False) and on_terminal()
        long = record.levelno < logging.WARNING and record.getMessage().count("\n") >= MAX_LINES
        if not detail and not long:
            tqdm.write(self.format(record), file=sys.stdout)


def on_terminal() -> bool:
    """Tell whether someone watches: both output and errors go to a terminal."""
    return sys.stdout.isatty() and sys.stderr.isatty()


class _Forwarder(logging.Handler):
    def __init__(self, target: logging.Logger) -> None:
        super().__init__()
        self.target = target

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= self.target.level:
            self.target.handle(record)


@contextmanager
def package_log_to(target: logging.Logger, package: str = "framework") -> Iterator[None]:
    """Send what the package logs, such as the load report, to the logger of a run."""
    source = logging.getLogger(package)
    level, propagate = source.level, source.propagate
    forwarder = _Forwarder(target)
    source.addHandler(forwarder)
    source.setLevel(logging.INFO)
    source.propagate = False
    try:
        yield
    finally:
        source.removeHandler(forwarder)
        source.setLevel(level)
        source.propagate = propagate


class ProgressBar:
    """A bar with the time left, shown on a terminal only.

    Args:
        total: Number of iterations.
        done: Iterations that are done already.
        name: What goes on, at the left of the bar.
        keep: Whether the bar stays when it is closed.
    """

    def __init__(self, total: int, done: int, name: str, *, keep: bool = True) -> None:
        self.bar = tqdm(
            total=total, initial=done, desc=name, leave=keep, dynamic_ncols=True, disable=not on_terminal()
        )
        self._due = 0.0

    def advance(self, name: str, values: Callable[[], Mapping[str, float]] = dict) -> None:
        """Count one iteration.

        Args:
            name: What goes on.
            values: Gives the numbers to show at the right. It is called only when the bar is drawn again, as
                reading them may mean to wait for the device.
        """
        if self.bar.disable:
            return
        now = time.monotonic()
        if now >= self._due:
            self._due = now + self.bar.mininterval
            self.bar.set_description_str(name, refresh=False)
            self.bar.set_postfix({key: f"{value:.4g}" for key, value in values().items()}, refresh=False)
        self.bar.update()

    def close(self) -> None:
        """End the bar."""
        self.bar.close()
