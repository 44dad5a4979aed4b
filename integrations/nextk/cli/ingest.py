"""Read the text files below a folder (.md .py .rst .txt), or one file, into an index on disk."""

import argparse
import time
from collections import Counter
from pathlib import Path

from nextk.cli.places import PLACES, index_to_write
from nextk.extras import require

SUMMARY = "read a folder of texts into an index"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", metavar="PATH", type=Path, help="a folder, or one text file")
    parser.add_argument("--index", metavar="FILE", type=Path, help="the index (default: default.nextk), made if absent")
    parser.add_argument("--namespace", default="", metavar="NAME", help="a part of the index of its own")
    parser.epilog = (
        f"{PLACES}\n\nA file that is read again replaces what it said before. Files are known by their paths below\n"
        "PATH: give folders that share file names a --namespace each."
    )


def run(arguments: argparse.Namespace) -> int:
    """Read, embed and store; what could not be read is counted by reason."""
    require("rich", extra="local")
    from nextk.cli import screen
    from nextk.cli.building import MODELS, fill, remove_leftovers
    from nextk.cli.corpus import read_folder
    from nextk.client import Index

    skipped: Counter[str] = Counter()
    passages = read_folder(arguments.path, on_skip=lambda _path, reason: skipped.update([reason]))
    path = index_to_write(arguments.index)
    started = time.perf_counter()
    exists = path.exists()
    with Index.embedded(path, **({} if exists else MODELS)) as index:
        with screen.progress() as bar:
            task = bar.add_task("reading and embedding", total=None)
            ids = fill(index, passages, namespace=arguments.namespace, on_progress=lambda n: bar.advance(task, n))
        gone = remove_leftovers(index, ids, namespace=arguments.namespace) if exists else 0
    out = screen.Screen()
    out.say(
        (f"{len(ids):,} passages", "bold"),
        f" into {screen.short_path(path)} in {time.perf_counter() - started:.1f} s",
        f", {gone:,} outdated ones removed" if gone else "",
    )
    for reason, count in skipped.most_common():
        out.say((f"skipped {count:,}: {reason}", "dim"))
    if ids:
        out.say(("Next: ", "dim"), 'nextk query "what to look for"', f" --index {path}" if arguments.index else "")
    return 0
