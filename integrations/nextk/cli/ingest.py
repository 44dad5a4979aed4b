"""Read the text files below a folder (.md .py .rst .txt), or one file, into an index on disk."""

import argparse
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from nextk.cli.locations import LOCATIONS_HELP, index_to_write
from nextk.extras import require

SUMMARY = "read a folder of texts into an index"

_IDS = """\
Ids begin with the folder's own name, as in notes/todo.md. Reading a folder again replaces its
records, and removes those whose text is no longer there. Two folders of the same name need an
--index or a --namespace each."""
_NAMED = 5  # skipped files that are named for each reason


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", metavar="PATH", type=Path, help="a folder, or one text file")
    parser.add_argument("--index", metavar="FILE", type=Path, help="the index, made if absent (default: default.nextk)")
    parser.add_argument("--namespace", default="", metavar="NAME", help="the namespace of the index to write to")
    parser.epilog = f"{LOCATIONS_HELP}\n\n{_IDS}"


def run(arguments: argparse.Namespace) -> int:
    """Read, embed and store the texts, then print the number of passages, and the skipped files with the reasons."""
    require("rich", extra="local")
    from nextk.cli import screen
    from nextk.cli.corpus import read_folder, root_name
    from nextk.cli.writing import MODELS, fill, ids_of_root, remove
    from nextk.client import Index

    skipped: dict[str, list[Path]] = {}
    passages = read_folder(arguments.path, on_skip=lambda file, reason: skipped.setdefault(reason, []).append(file))
    path = index_to_write(arguments.index)
    root, name, namespace = str(arguments.path.resolve()), root_name(arguments.path), arguments.namespace
    started = time.perf_counter()
    with Index.embedded(path, **({} if path.exists() else MODELS)) as index:
        before = ids_of_root(index, root, name, namespace=namespace)
        with screen.progress() as bar:
            task = bar.add_task("reading and embedding", total=None)
            ids = fill(index, passages, namespace=namespace, root=root, on_progress=lambda n: bar.advance(task, n))
        remove(index, before - ids, namespace=namespace)
    gone = len(before - ids)
    out = screen.Screen()
    out.say(
        (f"{len(ids):,} {'passage' if len(ids) == 1 else 'passages'}", "bold"),
        f" into {screen.short_path(path)} in {time.perf_counter() - started:.1f} s",
        f", {gone:,} outdated removed" if gone else "",
    )
    for reason, files in skipped.items():
        out.say((f"skipped {len(files):,} ({reason}): {_names(files, arguments.path)}", "dim"))
    if ids:
        out.copyable(
            'nextk query "what to look for"' + (f" --index {shlex.quote(str(path))}" if arguments.index else "")
        )
    return 0


def _names(files: Sequence[Path], root: Path) -> str:
    """Name the first few files by their paths below the root, and say how many more there are."""
    from nextk.cli.screen import one_line

    names = [one_line(str(file.relative_to(root)) if file != root else file.name) for file in files[:_NAMED]]
    return ", ".join(names) + (f" and {len(files) - _NAMED:,} more" if len(files) > _NAMED else "")
