#!/usr/bin/env python
"""Write weights in another library's names: `python tools/convert.py FILE --to timm -o out.safetensors`."""

import argparse

from framework.apis.convert import convert
from framework.engine.cli import main


def command() -> str:
    """Convert as the command line says; return what was written."""
    parser = argparse.ArgumentParser(description="Write weights in another library's names.")
    parser.add_argument("file", help="a path or an address")
    parser.add_argument("--to", required=True, metavar="DIALECT", help="the naming scheme to write")
    parser.add_argument("-o", "--out", required=True, help=".safetensors, .npz, .pth, .pt or .bin")
    parser.add_argument("--config", help="config of the model; needed for schemes with an axis of heads")
    parser.add_argument("--key", help="which entry of the file, where it holds several networks")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT where it is there already")
    given = parser.parse_args()
    field = {"path": given.file, **({"key": given.key} if given.key else {})}
    return convert(field, given.to, given.out, given.config, given.overwrite)


if __name__ == "__main__":
    main(command)
