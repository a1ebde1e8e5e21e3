#!/usr/bin/env python
"""The same as `framework publish`: `python tools/publish_model.py FILE [--help]`."""

import sys

from framework.inspection.cli import main

if __name__ == "__main__":
    main(["publish", *sys.argv[1:]])
