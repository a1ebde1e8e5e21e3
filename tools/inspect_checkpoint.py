#!/usr/bin/env python
"""The same as `framework inspect`: `python tools/inspect_checkpoint.py FILE [--help]`."""

import sys

from framework.inspection.cli import main

if __name__ == "__main__":
    main(["inspect", *sys.argv[1:]])
