"""The command `nextk`: it finds the command that is meant, runs it, and turns errors into exit codes.

The exit code is 0 if the command succeeded, 1 if the demo found a difference between the frameworks or the check found
damage, 2 if the user can correct the fault (one line on stderr says how), 130 if the command was interrupted, and 141
if the reader of the output has gone. With NEXTK_DEBUG=1 the line on stderr comes with its traceback.
"""

import argparse
import contextlib
import gc
import io
import os
import sys
import textwrap
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn, Protocol

from nextk.cli import backup, check, demo, info, ingest, query, serve
from nextk.errors import NextKError

_MISTAKE, _INTERRUPTED, _UNREAD = 2, 130, 141
_NEW_OBJECTS = 100_000  # between two runs of the garbage collector; Python's own number is 700, or 2,000


class CommandModule(Protocol):
    """The interface of a command's module. It imports what it needs only in `run`, so that `--help` is instant."""

    @property
    def SUMMARY(self) -> str:  # noqa: N802 - a module's constant
        """The line about this command in `nextk --help`."""
        ...

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments of the command."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Run the command, and return the exit code."""
        ...


COMMANDS: Mapping[str, CommandModule] = {
    "demo": demo,
    "ingest": ingest,
    "query": query,
    "info": info,
    "check": check,
    "backup": backup,
    "serve": serve,
}


class _Parser(argparse.ArgumentParser):
    """A parser that answers a mistake with one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(_MISTAKE, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _Help(argparse.HelpFormatter):
    """A formatter that fits paragraphs to the terminal, and leaves indented ones as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip("\n").split("\n\n")
        return "\n\n".join(
            each if each.startswith(" ") else textwrap.fill(each, width, initial_indent=indent) for each in paragraphs
        )


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line."""
    parser = _Parser(
        prog="nextk",
        description="Top-k, then next-k: retrieval that continues the same search on demand.",
        epilog="Start with: nextk demo",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, command in COMMANDS.items():
        its = commands.add_parser(name, help=command.SUMMARY, description=command.__doc__)
        its.formatter_class = _Help
        command.add_arguments(its)
        its.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: The arguments after the program's name; `None` takes those of the process.

    Returns:
        The exit code.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal can show every text; stderr never fails
    try:
        with _rare_garbage_collection():
            parser = build_parser()
            return _run(parser, parser.parse_args(arguments))
    except NextKError as error:
        return _mistake(error)
    except KeyboardInterrupt as interruption:
        sys.stderr.write(f"\nnextk: {_with_notes(interruption, 'interrupted')}\n")
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains on its way out
        return _UNREAD
    except OSError as error:
        return _mistake(error)


def _run(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> int:
    if parsed.version:
        from nextk import __version__

        sys.stdout.write(f"nextk {__version__}\n")
        return 0
    if not hasattr(parsed, "run"):
        parser.print_help()
        return 0
    code: int = parsed.run(parsed)
    sys.stdout.flush()  # a reader that has left shows here, where it is handled
    return code


@contextlib.contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Let the garbage collector run less often while the block runs.

    Most objects of a command are modules, which stay, and syntax trees, which have no cycles. By default a quarter of
    the time of importing and of parsing goes into looking through them again and again.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


def _mistake(error: Exception) -> int:
    """Print one line about the error that is being handled, with its traceback if NEXTK_DEBUG is set."""
    if os.environ.get("NEXTK_DEBUG") == "1":
        traceback.print_exc()
    sys.stderr.write(f"nextk: {' '.join(_with_notes(error, str(error)).split())}\n")
    return _MISTAKE


def _with_notes(error: BaseException, text: str) -> str:
    """Return the text of an error, and what the command has noted about it: where it was, and what is kept."""
    return ". ".join([text.rstrip("."), *notes]) if (notes := getattr(error, "__notes__", [])) else text
