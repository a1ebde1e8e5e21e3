#!/usr/bin/env python
"""Write the weights of a training checkpoint as one file: `python tools/export.py CHECKPOINT OUT`."""

import argparse

from framework.engine.cli import main
from framework.engine.shard_checkpoint import export_weights


def export_command() -> str:
    """Do what the command line says; return what was written."""
    parser = argparse.ArgumentParser(description="Write the weights of a training checkpoint as one file.")
    parser.add_argument("checkpoint", help="folder epoch_N.dcp of a sharded run, or a file")
    parser.add_argument("out", help="the file to write: .pth or .safetensors")
    given = parser.parse_args()
    return f"{given.out}: {export_weights(given.checkpoint, given.out)} tensors"


if __name__ == "__main__":
    main(export_command)
