"""Search an index on disk: print the first -k matches, then --more of the same search, without gaps or repeats."""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nextk.cli.arguments import count, question
from nextk.cli.locations import LOCATIONS_HELP, index_to_read
from nextk.extras import require

if TYPE_CHECKING:
    from rich.text import Text

    from nextk.client import Index
    from nextk.types import QueryResult

SUMMARY = "search an index, then continue the search"

_LEFT_OF_TEXT = 26  # columns for pull, rank and score at their widest, and the spaces between them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("text", metavar="TEXT", type=question, help="the text to search for")
    parser.add_argument("--index", metavar="FILE", type=Path, help="the index (default: see below)")
    parser.add_argument(
        "-k",
        dest="top_k",
        metavar="K",
        type=count(),
        default=5,
        help="number of matches on the first page (default: 5)",
    )
    parser.add_argument(
        "--more",
        metavar="N",
        type=count(),
        action="append",
        default=[],
        help="then fetch N more matches; may be repeated",
    )
    parser.add_argument(
        "--filter", default="", metavar="EXPR", help="condition on the metadata, such as: parent = 'asyncio.tasks'"
    )
    parser.add_argument("--namespace", default="", metavar="NAME", help="the namespace of the index to search")
    parser.add_argument(
        "--weighting",
        choices=("idf", "none"),
        help="weight rare words more, or do not (default: as the index wants it, else idf)",
    )
    parser.add_argument(
        "--exact", action="store_true", help="exact order, in a large index too; it costs a scan of all vectors"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON per match")
    parser.epilog = LOCATIONS_HELP


def run(arguments: argparse.Namespace) -> int:
    """Search the index, and print the pages in order."""
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
    """Yield the first page and the further ones. One page that a plain query can bring opens no resumable query."""
    from nextk.arguments import choose_or_none
    from nextk.bodies import MAX_ROWS
    from nextk.sessions import RetrievalSession, RowReader, SearchQuery
    from nextk.types import WeightingStrategy

    # Before indexes kept a weighting, every one was searched with this one from here; one that is unset still is.
    wanted = arguments.weighting or index.info().weighting or WeightingStrategy.IDF
    query = SearchQuery(
        data=arguments.text,
        filter=arguments.filter,
        namespace=arguments.namespace,
        weighting=choose_or_none(WeightingStrategy, wanted, "weighting"),
        exact=arguments.exact,
    )
    if not arguments.more and arguments.top_k <= MAX_ROWS:
        yield index.query(top_k=arguments.top_k, **query.parameters())
        return
    reader: RowReader[QueryResult] = RowReader(lambda match: match)
    with RetrievalSession(index, query, reader) as search:
        for count in [arguments.top_k, *arguments.more]:
            yield search.fetch_next(count)


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
    table = screen.columns("pull", "#", "score", "id and text", right=("#", "score"), filling="id and text")
    rank = 0
    for pull, page in enumerate(pages):
        for label, match in zip(screen.pull_labels(pull, len(page)), page, strict=True):
            rank += 1
            table.add_row(label, str(rank), f"{match.score:.4f}", _shown(match, out.width - _LEFT_OF_TEXT))
    if rank:
        out.show(table)
    sizes = " + ".join(str(len(page)) for page in pages)
    found = f"{sizes} {'match' if rank == 1 else 'matches'}" if rank else "no match"
    out.say((f"{found} in {screen.short_path(path)}, {1000 * seconds:.0f} ms", "dim"))


def _shown(match: "QueryResult", width: int) -> "Text":
    """Return a cell with the id and, below it, the beginning of the text."""
    from nextk.cli import screen

    title = str((match.metadata or {}).get("title", ""))
    text = screen.excerpt(screen.body(match.data or "", title), max(width, 20), lines=2)
    shown = screen.cell(screen.name(match.id, title))
    return shown.append(f"\n{text}", "dim") if text else shown
