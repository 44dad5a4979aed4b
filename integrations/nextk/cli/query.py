"""Ask an index on disk: the first -k matches, then --more of the same search, nothing skipped or repeated."""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nextk.cli.places import PLACES, index_to_read
from nextk.extras import require

if TYPE_CHECKING:
    from nextk.client import Index
    from nextk.types import QueryResult

SUMMARY = "ask an index, then ask it for more"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("text", metavar="TEXT", help="the question")
    parser.add_argument("--index", metavar="FILE", type=Path, help="the index (default: see below)")
    parser.add_argument(
        "-k", dest="top_k", metavar="K", type=int, default=5, help="size of the first page (default: 5)"
    )
    parser.add_argument(
        "--more", metavar="N", type=int, action="append", default=[], help="then pull N more; may be repeated"
    )
    parser.add_argument("--filter", default="", metavar="EXPR", help="on metadata, as in: parent = 'asyncio.tasks'")
    parser.add_argument("--namespace", default="", metavar="NAME", help="the part of the index to search")
    parser.add_argument("--json", action="store_true", help="one line of JSON per match")
    parser.epilog = PLACES


def run(arguments: argparse.Namespace) -> int:
    """Search, and print the pages as they come."""
    require("rich", extra="local")
    from nextk.client import Index

    path = index_to_read(arguments.index)
    with Index.embedded(path) as index:
        started = time.perf_counter()
        pages = list(_pages(index, arguments))
        seconds = time.perf_counter() - started
    if arguments.json:
        _print_json(pages)
    else:
        _print_table(pages, path, seconds)
    return 0


def _pages(index: "Index", arguments: argparse.Namespace) -> Iterator[list["QueryResult"]]:
    """The first page, and the further ones; without any, nothing is kept open."""
    asked: dict[str, Any] = {
        "data": arguments.text,
        "top_k": arguments.top_k,
        "filter": arguments.filter,
        "namespace": arguments.namespace,
        "include_metadata": True,
        "include_data": True,
    }
    if not arguments.more:
        yield index.query(**asked)
        return
    page, handle = index.resumable_query(**asked)
    with handle:
        yield page
        for count in arguments.more:
            yield handle.fetch_next(count)


def _print_json(pages: Sequence[Sequence["QueryResult"]]) -> None:
    from nextk.cli.screen import print_json

    rank = 0
    for pull, page in enumerate(pages, 1):
        for match in page:
            rank += 1
            print_json(
                {
                    "rank": rank,
                    "pull": pull,
                    "id": match.id,
                    "score": match.score,
                    "metadata": match.metadata,
                    "data": match.data,
                }
            )


def _print_table(pages: Sequence[Sequence["QueryResult"]], path: Path, seconds: float) -> None:
    from nextk.cli import screen

    out = screen.Screen()
    names = ("pull", "#", "score", "id", "text")
    table = screen.columns(*names, right=("#", "score"), ratio={"id": 2, "text": 3})
    rank = 0
    for pull, page in enumerate(pages):
        for row, match in enumerate(page):
            rank += 1
            label = "" if row else "more" if pull else "first"
            score = f"{match.score:.4f}"
            table.add_row(label, str(rank), score, screen.cell(match.id), screen.cell(_body(match), "dim"))
    if rank:
        out.print(table)
    sizes = " + ".join(str(len(page)) for page in pages)
    found = f"{sizes} {'match' if rank == 1 else 'matches'}" if rank else "no match"
    out.say((f"{found} in {screen.short_path(path)}, {1000 * seconds:.0f} ms", "dim"))


def _body(match: "QueryResult") -> str:
    """The text less its title, which the id shows already."""
    text, title = match.data or "", str((match.metadata or {}).get("title", ""))
    return text.removeprefix(title) if title else text
