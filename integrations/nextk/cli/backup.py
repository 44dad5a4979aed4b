"""Copy an index into a file that is an index by itself, also while another process has it open and writes to it.

The copy holds every write that had returned before the command began. The index is only read: it is neither converted
nor locked, and its models are not needed.
"""

import argparse
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from nextk.cli.locations import LOCATIONS_HELP, index_to_read
from nextk.extras import require

SUMMARY = "copy an index, also one that is being served"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", metavar="TARGET", type=Path, help="the file to make; its folder must exist")
    parser.add_argument("--index", metavar="FILE", type=Path, help="the index to copy (default: see below)")
    parser.add_argument("--overwrite", action="store_true", help="replace the index that is in TARGET already")
    parser.epilog = LOCATIONS_HELP


def run(arguments: argparse.Namespace) -> int:
    """Make the copy, and print the number of records and of bytes in it."""
    for module in ("rich", "numpy", "orjson", "lark"):
        require(module, extra="local")
    from nextk.cli import screen
    from nextk.engine.backup import back_up_file

    source = index_to_read(arguments.index)
    with _ended_by_sigterm():
        made = back_up_file(source, arguments.target, overwrite=arguments.overwrite)
    records = f"{made.records:,} {'record' if made.records == 1 else 'records'}"
    copied = f"{records} ({made.size:,} bytes) of {screen.short_path(source)}"
    screen.Screen().print(f"copied {copied} to {screen.short_path(made.path)}", soft_wrap=True)
    return 0


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does, so that a scheduler that stops it leaves no half copy behind."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
