#!/usr/bin/env python
"""Draw the curves of runs: `python tools/plot.py RUN... -o curves.png [--help]`."""

from framework.engine.cli import main, plot_command

if __name__ == "__main__":
    main(plot_command)
