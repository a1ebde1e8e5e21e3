#!/usr/bin/env python
"""Train configs with several seeds and compare: `python tools/repeat.py CONFIG ... --seeds 5`."""

from framework.engine.cli import main, repeat_command

if __name__ == "__main__":
    main(repeat_command)
