#!/usr/bin/env python
"""The same as `framework diff`: `python tools/diff_checkpoint.py FILE CONFIG_OR_FILE [--help]`."""

import sys

from framework.inspection.cli import main

if __name__ == "__main__":
    main(["diff", *sys.argv[1:]])
