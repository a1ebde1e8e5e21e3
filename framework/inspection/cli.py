"""The command line: `framework inspect`, `diff`, `convert`, `publish`, `average`, `list` and `show`.

Exit codes: 0 all is well; 1 a difference (`diff`) or nothing found (`list`); 2 wrong use, or a file or config
that cannot be read.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from framework import __version__
from framework.inspection.given import is_config, model_config, pretrain_of, take_fields
from framework.inspection.terminal import Style, columns, counted, printable, size

OK, DIFFERENT, FAILED = 0, 1, 2

#: What a command prints, and its exit code.
Answer = tuple[list[str], int]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line, and exit with its code; with 130 if it is interrupted, as shells do."""
    try:
        sys.exit(run(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        sys.exit(130)


def run(arguments: Sequence[str], out: TextIO | None = None, err: TextIO | None = None) -> int:
    """Run a command line.

    Args:
        arguments: What follows the name of the program.
        out: Where its answer goes; standard output by default.
        err: Where errors go; standard error by default.

    Returns:
        The exit code.
    """
    out, err = out or sys.stdout, err or sys.stderr
    from framework.errors import ConfigError
    from framework.pretrain.errors import PretrainError

    try:
        fields, rest = take_fields(arguments)
        given = _parser().parse_args(rest)
        lines, code = given.command(given, fields, Style(out))
        _write(out, "".join(f"{line}\n" for line in lines))
        out.flush()
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (ConfigError, PretrainError, OSError) as error:
        if "--json" in arguments:
            told = {"error": {"type": type(error).__name__, "message": str(error)}}
            _write(out, "".join(f"{line}\n" for line in _json(told)))
        text = "\n".join(printable(line) for line in str(error).splitlines())
        _write(err, f"{Style(err)(type(error).__name__, 'red')}: {text}\n")
        return FAILED
    return code


def _write(stream: TextIO, text: str) -> None:
    """Write a text; characters that the stream's encoding lacks are written out."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="framework",
        description="Look into checkpoints, and at what can be built.",
        epilog="Fields of `pretrain` go with every FILE: --pretrain.key teacher, --pretrain.dialect timm. "
        "Exit codes: 0 all is well, 1 differences or nothing found, 2 wrong use or nothing to read.",
    )
    parser.add_argument("--version", action="version", version=f"framework {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_inspect(commands)
    _add_diff(commands)
    _add_writers(commands)
    _add_catalogue(commands)
    return parser


def _add(commands: Any, name: str, command: Callable[..., Answer], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text}.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=command)
    return parser


def _add_inspect(commands: Any) -> None:
    parser = _add(commands, "inspect", inspect_command, "Tell what a file holds and which config loads it")
    parser.add_argument("file", metavar="FILE", help="a path or an address")
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="a model; tells what a load into it does")
    parser.add_argument(
        "--keys", nargs="?", const="", metavar="PATTERN", help="the keys: folded, or by a glob"
    )
    parser.add_argument("--stats", action="store_true", help="what their values are like; reads them")
    parser.add_argument("--html", metavar="PAGE", help="write a page that shows it all")
    parser.add_argument("--no-sha256", action="store_true", help="do not hash the file, which takes a while")


def _add_diff(commands: Any) -> None:
    parser = _add(
        commands, "diff", diff_command, "Tell what a load into a model would do, or how two files differ"
    )
    parser.add_argument("file", metavar="FILE", help="a path or an address")
    parser.add_argument("other", metavar="CONFIG_OR_FILE", help='a config file, "dict(type=...)", or a file')


def _add_writers(commands: Any) -> None:
    parser = _add(commands, "convert", convert_command, "Write weights in another library's names")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--to", required=True, metavar="DIALECT", help="see `framework list dialects`")
    parser.add_argument("-o", "--out", required=True, help=".safetensors, .npz, .pth, .pt or .bin")
    parser.add_argument("--config", help="of the model; needed for schemes with an axis of heads")
    _add_overwrite(parser)
    parser = _add(commands, "publish", publish_command, "Write the weights alone, named after their hash")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("-o", "--out", default=".", metavar="FOLDER", help="where to write (here)")
    _add_weights(parser)
    parser = _add(commands, "average", average_command, "Write the mean of the weights of several files")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("-o", "--out", required=True, help="the .safetensors file to write")
    _add_overwrite(parser)
    _add_weights(parser)


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace OUT where it is there already")


def _add_weights(parser: argparse.ArgumentParser) -> None:
    choice = parser.add_mutually_exclusive_group()
    for name, text in (("ema", "averaged"), ("raw", "not averaged")):
        choice.add_argument(
            f"--{name}", dest="weights", action="store_const", const=name, help=f"the {text} weights"
        )


def _add_catalogue(commands: Any) -> None:
    kinds = "backbones, necks, heads, losses, models, datasets, transforms, metrics, hooks, dialects, configs"
    parser = _add(commands, "list", list_command, "List what can be named in a config")
    parser.add_argument("kind", metavar="KIND", help=kinds)
    parser.add_argument("pattern", nargs="?", default="*", help="part of the name, or a glob")
    parser = _add(commands, "show", show_command, "Show the arguments of a class, and an example")
    parser.add_argument("name", metavar="NAME", help="as a config names it: ResNet")


def inspect_command(given: argparse.Namespace, fields: dict[str, Any], style: Style) -> Answer:
    """Tell what a file holds."""
    from framework.inspection.facts import inspect_file
    from framework.inspection.words import describe, describe_keys, describe_stats

    pretrain = pretrain_of(given.file, fields)
    facts = inspect_file(pretrain, sha256=not given.no_sha256)
    report = _plan(given.config, pretrain) if given.config else None
    stats = _stats(pretrain, given.keys or "*") if given.stats else {}
    if given.html:
        from framework.inspection.page import write_page

        trust = bool(fields.get("trust_pickle"))
        write_page(given.html, facts, report.report if report else None, trust_pickle=trust)
    if given.json:
        plain = {**facts.to_dict(), "config": _config_line(facts, pretrain)}
        plain.update({"load": report.to_dict()} if report else {})
        plain.update({"stats": {key: asdict(one) for key, one in stats.items()}} if given.stats else {})
        return _json(plain), OK
    lines = describe(facts, pretrain, style)
    if given.keys is not None:
        lines += ["", style("keys", "bold"), *describe_keys(facts, given.keys or None)]
    if stats:
        lines += ["", *describe_stats(stats, style)]
    if report:
        lines += ["", *_report_lines(report, style)]
    return lines, OK


def _config_line(facts: Any, pretrain: Any) -> str | None:
    from framework.inspection.architecture import config_line

    return config_line(facts.architecture, pretrain) if facts.architecture else None


def _stats(pretrain: Any, pattern: str) -> dict[str, Any]:
    from framework.inspection.stats import stats_of
    from framework.pretrain.checkpoint import open_checkpoint
    from framework.pretrain.inventory import take_inventory
    from framework.pretrain.source import fetch
    from framework.pretrain.spec import parse_spec

    spec = parse_spec(pretrain)
    path = fetch(spec.path, sha256=spec.sha256, url_mapping=spec.url_mapping)
    file = take_inventory(open_checkpoint(path, trust_pickle=spec.trust_pickle), spec)
    return dict(stats_of(file, pattern))


def _plan(config: str, pretrain: Any) -> Any:
    from framework.inspection.dry_run import dry_run

    return dry_run(model_config(config), pretrain)


def diff_command(given: argparse.Namespace, fields: dict[str, Any], style: Style) -> Answer:
    """Compare a file with a model, or with another file."""
    pretrain = pretrain_of(given.file, fields)
    if is_config(given.other):
        run = _plan(given.other, pretrain)
        code = OK if run.report.clean else DIFFERENT
        return (_json(run.to_dict()) if given.json else _report_lines(run, style)), code
    from framework.inspection.compare import compare
    from framework.inspection.differences import describe_comparison

    comparison = compare(pretrain, given.other)
    lines = _json(comparison.to_dict()) if given.json else describe_comparison(comparison, style)
    return lines, OK if comparison.same else DIFFERENT


def _report_lines(run: Any, style: Style) -> list[str]:
    from framework.inspection.differences import describe_dry_run

    return describe_dry_run(run, style)


def convert_command(given: argparse.Namespace, fields: dict[str, Any], style: Style) -> Answer:
    """Write weights in another library's names."""
    from framework.apis.convert import convert

    text = convert(pretrain_of(given.file, fields), given.to, given.out, given.config, given.overwrite)
    return (_json({"path": given.out, "text": text}) if given.json else [printable(text)]), OK


def publish_command(given: argparse.Namespace, fields: dict[str, Any], style: Style) -> Answer:
    """Write the weights of a file alone."""
    from framework.inspection.tidy import publish

    return _written(publish(pretrain_of(given.file, fields), given.out, given.weights), given.json, style)


def average_command(given: argparse.Namespace, fields: dict[str, Any], style: Style) -> Answer:
    """Write the mean of several files."""
    from framework.inspection.tidy import average

    files = [pretrain_of(one, fields) for one in given.files]
    return _written(average(files, given.out, given.weights, given.overwrite), given.json, style)


def _written(written: Any, as_json: bool, style: Style) -> Answer:
    if as_json:
        return _json(written.to_dict()), OK
    rows = [
        ("holds", f"{counted(written.tensors, 'tensor')}, {size(written.nbytes)}"),
        ("from", written.entry or "the top level of the file"),
        ("sha256", written.sha256),
        ("left out", ", ".join(written.left_out)),
    ]
    return [style(printable(str(written.path)), "bold"), *columns([row for row in rows if row[1]])], OK


def list_command(given: argparse.Namespace, fields: dict[str, Any], style: Style) -> Answer:
    """List what can be named in a config."""
    from framework.inspection.catalogue import names_of_kind

    names = names_of_kind(given.kind, given.pattern)
    if given.json:
        return _json([{"name": name, "summary": text} for name, text in names]), OK if names else DIFFERENT
    if not names:
        where = f" below the folder {Path('configs').absolute()}" if given.kind == "configs" else ""
        return [printable(f"none of the {given.kind}{where} is called like {given.pattern}")], DIFFERENT
    return columns(names, indent=""), OK


def show_command(given: argparse.Namespace, fields: dict[str, Any], style: Style) -> Answer:
    """Show the arguments of a class."""
    from framework.inspection.catalogue import show
    from framework.inspection.differences import describe_entry

    entry = show(given.name)
    return (_json(entry.to_dict()) if given.json else describe_entry(entry, style)), OK


def _json(value: Any) -> list[str]:
    return [json.dumps(_with_numbers(value), indent=2, allow_nan=False)]


def _with_numbers(value: Any) -> Any:
    """Return a value in which infinities and NaN, which JSON lacks, are text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _with_numbers(item) for key, item in value.items()}
    return [_with_numbers(item) for item in value] if isinstance(value, (list, tuple)) else value
