"""Copy an index into a file that is an index by itself, also while another process has it open and writes to it.

The index is a file, or with a URL one that `nextk serve` serves anywhere. The copy holds every write that had returned
before the command began. The index is only read: it is neither converted nor locked, and its models are not needed.
"""

import argparse
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from nextk.cli.locations import LOCATIONS_HELP, index_to_read
from nextk.errors import ClientError
from nextk.extras import require

if TYPE_CHECKING:
    from nextk.engine.backup import Backup

SUMMARY = "copy an index, also one that is being served"


_MIB = 2**20
_TOKENS = ("NEXTK_TOKEN", "UPSTASH_VECTOR_REST_TOKEN")

_EPILOG = f"""\
  nextk backup copies/notes.nextk --index notes.nextk
      copy a file, also one that is being served
  nextk backup https://example.com/indexes/notes copies/notes.nextk
      copy an index that a server serves; it needs the full token of the server,
      from ${_TOKENS[0]} or ${_TOKENS[1]} if it is not given

"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("url", metavar="URL", nargs="?", help="the base URL of an index that `nextk serve` serves")
    parser.add_argument("target", metavar="TARGET", help="the file to make; its folder must exist")
    parser.add_argument("--index", metavar="FILE", type=Path, help="the index to copy (default: see below)")
    parser.add_argument("--token", metavar="T", help="the full token of the server; others can see arguments")
    parser.add_argument("--overwrite", action="store_true", help="replace the index that is in TARGET already")
    parser.epilog = _EPILOG + LOCATIONS_HELP


def run(arguments: argparse.Namespace) -> int:
    """Make the copy, and print the number of records and of bytes in it."""
    _require_one_source(arguments)
    for module in ("rich", "numpy", "orjson", "lark"):
        require(module, extra="local")
    from nextk.cli import screen

    with _ended_by_sigterm():
        source, made = _from_file(arguments) if arguments.url is None else _from_server(arguments)
    records = f"{made.records:,} {'record' if made.records == 1 else 'records'}"
    copied = f"{records} ({made.size:,} bytes) of {source}"
    screen.Screen().print(f"copied {copied} to {screen.short_path(made.path)}", soft_wrap=True)
    return 0


def _require_one_source(arguments: argparse.Namespace) -> None:
    """Raise `ClientError` unless there is a file to make, and one index to copy."""
    if arguments.url is None and "://" in arguments.target:
        message = f"name the file to make, too: nextk backup {arguments.target.partition('://')[0]}://... TARGET"
        raise ClientError(message)
    if arguments.url is not None and arguments.index is not None:
        message = "give the URL of a served index or the --index FILE, not both"
        raise ClientError(message)


def _from_file(arguments: argparse.Namespace) -> tuple[str, "Backup"]:
    """Copy a file. Returns its path, as it is shown, and the copy."""
    from nextk.cli.screen import short_path
    from nextk.engine.backup import back_up_file

    source = index_to_read(arguments.index)
    return short_path(source), back_up_file(source, arguments.target, overwrite=arguments.overwrite)


def _from_server(arguments: argparse.Namespace) -> tuple[str, "Backup"]:
    """Copy an index that is served. Returns its URL and the copy."""
    from nextk.cli import screen
    from nextk.engine.backup import back_up_by
    from nextk.transport.address import usable_token, usable_url
    from nextk.transport.download import download_backup

    url = usable_url(arguments.url, "URL")
    names = {"--token": arguments.token} | {name: os.environ.get(name) for name in _TOKENS}
    token = next((usable_token(token, name) for name, token in names.items() if token), None)

    with screen.progress() as bar:
        task = bar.add_task("receiving MiB", total=None)

        def show(received: int, size: int) -> None:
            bar.update(task, completed=received // _MIB, total=size // _MIB)

        def receive(partial: Path) -> None:
            with partial.open("xb") as file:
                download_backup(url, token, file, show)

        return url, back_up_by(receive, f"the index at {url}", arguments.target, overwrite=arguments.overwrite)


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
