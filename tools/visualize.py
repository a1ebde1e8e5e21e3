#!/usr/bin/env python
"""Draw what a model sees: `python tools/visualize.py {mae,attention,features} CONFIG CHECKPOINT [--help]`."""

from framework.engine.cli import main
from framework.visualization.cli import visualize_command

if __name__ == "__main__":
    main(visualize_command)
