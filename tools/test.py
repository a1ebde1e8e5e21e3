#!/usr/bin/env python
"""Test a model: `python tools/test.py CONFIG CHECKPOINT [--help]`."""

from framework.engine.cli import main, test_command

if __name__ == "__main__":
    main(test_command)
