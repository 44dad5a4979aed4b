"""Check an index on disk: its structure, and the checksum of every record. The file is not changed.

The exit code is 0 if everything is whole, and 1 if not. The damaged records are named by their ids.
"""

import argparse
import shlex
from pathlib import Path

from nextk.cli.locations import index_to_read
from nextk.extras import require

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
    from nextk.engine.check import CheckResult, open_file
    from nextk.engine.rescue import require_free, rescue

    path, copied = index_to_read(arguments.path), 0
    if arguments.rescue:
        require_free(arguments.rescue)
    with open_file(path) as file:
        with screen.progress() as bar:
            task = bar.add_task("checking", total=len(file))
            result: CheckResult = file.check(lambda count: bar.advance(task, count))
        if arguments.rescue:
            with screen.progress() as bar:
                task = bar.add_task("copying", total=len(file))
                copied = rescue(file, arguments.rescue, lambda count: bar.advance(task, count))
    out = screen.Screen()
    out.say((f"{_records(result.whole)} whole", "bold"), f" in {screen.short_path(path)}")
    for namespace, ids in result.damaged.items():
        where = f" in the namespace {namespace!r}" if namespace else ""
        out.say(f"{_records(len(ids))} damaged{where}: {', '.join(map(repr, ids))}")
    for problem in result.problems:
        out.say(f"the file: {problem}")
    if arguments.rescue:
        out.say((f"{_records(copied)} copied", "bold"), f" to {screen.short_path(arguments.rescue)}")
        out.say(f"{_records(result.lost)} lost" if result.lost else "no record lost")
    elif result.is_damaged:
        out.copyable(f"nextk check {shlex.quote(str(path))} --rescue NEW", "copies the whole records to a new file")
    return 1 if result.is_damaged else 0


def _records(count: int) -> str:
    return f"{count:,} {'record' if count == 1 else 'records'}"
