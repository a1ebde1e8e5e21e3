#!/usr/bin/env python
"""The same as `framework average`: `python tools/average_checkpoints.py FILE FILE -o OUT [--help]`."""

import sys

from framework.inspection.cli import main

if __name__ == "__main__":
    main(["average", *sys.argv[1:]])
