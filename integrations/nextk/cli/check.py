"""Check an index on disk: its structure, and the checksum of every record. The file is not changed.

The exit code is 0 if everything is whole, and 1 if not. The damaged records are named by their ids.
"""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from nextk.cli.locations import index_to_read
from nextk.extras import require

if TYPE_CHECKING:
    from nextk.cli.screen import Screen
    from nextk.engine.check import CheckResult

SUMMARY = "find out whether an index is damaged, and save what is whole"

_WAYS_OUT = """\
Damaged records can be upserted anew, or deleted by their ids. Where the structure of the file is
damaged, too, --rescue copies all whole records to a new index of the same schema and id, which
then takes the place of the old one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", metavar="PATH", type=Path, help="the index")
    parser.add_argument("--rescue", metavar="NEW", type=Path, help="copy the whole records to a new file")
    parser.epilog = _WAYS_OUT


def run(arguments: argparse.Namespace) -> int:
    """Print how many records are whole, which are damaged, and what else is wrong; copy the whole ones if asked to."""
    for module in ("numpy", "orjson", "rich"):
        require(module, extra="local")
    from nextk.cli import screen
    from nextk.engine.check import open_file
    from nextk.engine.rescue import require_free, rescue

    path, new = index_to_read(arguments.path), arguments.rescue
    if new:
        require_free(new)
    out = screen.Screen()
    with open_file(path) as file:
        with screen.progress() as bar:
            task = bar.add_task("checking", total=len(file))
            result = file.check(lambda count: bar.advance(task, count))
        _show(out, result, screen.short_path(path))
        if new:
            with screen.progress() as bar:
                task = bar.add_task("copying", total=len(file))
                copied = rescue(file, new, lambda count: bar.advance(task, count))
            out.say((f"{_records(copied)} copied", "bold"), f" to {screen.short_path(new)}")
            out.say(f"{_records(result.lost)} lost" if result.lost else "no record lost")
    if result.is_damaged and not new:
        out.copyable(f"nextk check {shlex.quote(str(path))} --rescue NEW", "copies the whole records to a new file")
    return 1 if result.is_damaged else 0


def _show(out: "Screen", result: "CheckResult", where: str) -> None:
    """Print how many records are whole, the ids of the others, and the other complaints."""
    out.say((f"{_records(result.whole)} whole", "bold"), f" in {where}")
    for namespace, ids in result.damaged.items():
        inside = f" in the namespace {namespace!r}" if namespace else ""
        out.say(f"{_records(len(ids))} damaged{inside}: {', '.join(map(repr, ids))}")
    for problem in result.problems:
        out.say(f"the file: {problem}")


def _records(count: int) -> str:
    return f"{count:,} {'record' if count == 1 else 'records'}"
