#!/usr/bin/env python
"""Train a model: `python tools/train.py CONFIG [--help]`."""

from framework.engine.cli import main, train_command

if __name__ == "__main__":
    main(train_command)
