"""Search Python's own documentation, page after page, through LangChain and through LlamaIndex.

The first run reads the documentation of this Python (no network, no account, no key) into a hybrid index; later runs
use that index again. Each question starts one search, which is then continued: first top_k results, then the next
ones on demand.
"""

import argparse
import platform
import shlex
import time
from collections.abc import Callable, Iterable
from itertools import accumulate, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from nextk.cli.arguments import question
from nextk.cli.corpus import Passage, standard_library
from nextk.cli.locations import LOCATIONS_HELP, default_index, demo_index, holds_something, index_to_write
from nextk.errors import ClientError, IndexLocked
from nextk.extras import require

if TYPE_CHECKING:
    from rich.table import Table

    from nextk.cli.pulls import ResultRow, Trace
    from nextk.cli.screen import Screen
    from nextk.client import Index

SUMMARY = "build a small index and search it, through LangChain and LlamaIndex"

QUESTIONS = (
    "read a gzip file",
    "wrap long lines of text",
    "exception handling with try and finally",
)
PULLS = (3, 3, 3)
"""The number of results in each pull: first `top_k`, then the next ones."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "question", metavar="QUESTION", nargs="?", type=question, help="what to search for (default: three questions)"
    )
    parser.add_argument("--index", metavar="FILE", type=Path, help="the file of the index (default: demo.nextk)")
    parser.add_argument("--rebuild", action="store_true", help="build the index again")
    parser.epilog = LOCATIONS_HELP


def run(arguments: argparse.Namespace, corpus: Callable[[], Iterable[Passage]] = standard_library) -> int:
    """Build the index if it is missing, run the questions through both frameworks, and compare the results.

    Args:
        arguments: The arguments of the command line.
        corpus: A function that yields the passages to index.

    Returns:
        0 if both frameworks gave the same ids for every question, else 1.
    """
    for module in ("rich", "numpy", "orjson", "lark", "wordllama", "langchain_core", "llama_index.core"):
        require(module, extra="all")
    from nextk.cli.pulls import through_langchain, through_llama_index
    from nextk.cli.screen import Screen
    from nextk.client import Index

    path = index_to_write(arguments.index or demo_index())
    out = Screen()
    seconds = _build_if_needed(path, corpus, rebuild=arguments.rebuild)
    traces: list[Trace] = []
    agreed = True
    with Index.embedded(path) as index:
        _introduce(out, path, index.info().vector_count, seconds)
        index.query(data=QUESTIONS[0], top_k=1)  # loads the text model, so that its time counts for neither framework
        for text in [arguments.question] if arguments.question else QUESTIONS:
            pair = [pull(index, text, PULLS) for pull in (through_langchain, through_llama_index)]
            agreed &= _show(out, text, *pair)
            traces += pair
    _next_steps(out, path, traces)
    return 0 if agreed else 1


def build(path: Path, corpus: Callable[[], Iterable[Passage]]) -> None:
    """Build an index in a `.partial` file, and rename the file to `path` when the index is complete.

    So an index at `path` is always complete: an interrupted build leaves only the `.partial` file, which the next
    build empties and uses. (To compare the number of records with the corpus would mean reading the corpus in every
    run.)

    Args:
        path: The file of the finished index. No process may have it open.
        corpus: A function that yields the passages to index.

    Raises:
        ClientError: Another process is building the index.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        _fill(partial, corpus)
    except KeyboardInterrupt as interruption:
        interruption.add_note("The index is not complete and is not used. Run the command again to build it anew")
        raise
    _discard(path)
    partial.replace(path)


def _fill(partial: Path, corpus: Callable[[], Iterable[Passage]]) -> None:
    """Empty the partial index, and store the passages of the corpus in it."""
    from nextk.cli.screen import progress
    from nextk.cli.writing import MODELS, fill
    from nextk.client import Index

    with progress() as bar, _only_builder(lambda: Index.embedded(partial, **MODELS)) as index:
        index.reset(all=True)
        reading = bar.add_task("reading the documentation", total=None)
        passages = []
        for passage in corpus():
            passages.append(passage)
            bar.advance(reading)
        bar.update(reading, total=len(passages))
        embedding = bar.add_task("embedding and indexing", total=len(passages))
        fill(index, passages, on_stored=lambda batch: bar.advance(embedding, len(batch)))


def _only_builder(open_partial: Callable[[], "Index"]) -> "Index":
    """Open the partial index. The advice of `IndexLocked`, to serve the index, would not help here."""
    try:
        return open_partial()
    except IndexLocked as error:
        message = "another demo is building this index; try again when it is done"
        raise ClientError(message) from error


def _build_if_needed(path: Path, corpus: Callable[[], Iterable[Passage]], *, rebuild: bool) -> float | None:
    """Build the index unless it exists. Returns the seconds that the build took, `None` if there was none."""
    from nextk.client import Index

    if holds_something(path):
        if not rebuild:
            return None
        with Index.embedded(path):  # raises if the file is no index, or if another process has it open
            pass
    started = time.perf_counter()
    build(path, corpus)
    return time.perf_counter() - started


def _discard(path: Path) -> None:
    """Remove an index that no process has open, and the files that a killed process may have left beside it."""
    for leftover in (path, *(path.with_name(path.name + ending) for ending in ("-wal", "-shm"))):
        leftover.unlink(missing_ok=True)


def _introduce(out: "Screen", path: Path, count: int, seconds: float | None) -> None:
    from nextk.cli.screen import short_path

    made = "already built" if seconds is None else f"built in {seconds:.1f} s"
    out.say((f"{count:,} passages", "bold"), f" of the documentation of Python {platform.python_version()}, {made}")
    out.say((short_path(path), "dim"))


def _show(out: "Screen", text: str, first: "Trace", second: "Trace") -> bool:
    """Print the results of one framework and where the other differs. Returns whether the ids are the same."""
    from nextk.cli import screen

    same = [row.id for row in first.rows] == [row.id for row in second.rows]
    both = f"{first.framework} and {second.framework}"
    out.say("")
    out.say((text, "bold cyan"))
    out.say((f"{both} agree on every id", "green") if same else (f"{both} give different ids", "bold red"))
    names = ("pull", "#", "score", "id", "text") if out.width >= screen.WIDE else ("pull", "#", "score", "id")
    widest = {"id": out.width // 2 - 10} if "text" in names else None
    table = screen.columns(*names, right=("#", "score"), filling=names[-1], widest=widest)
    labels = [label for pull, page in enumerate(first.pages) for label in screen.pull_labels(pull, len(page))]
    for position, (mine, others) in enumerate(zip_longest(first.rows, second.rows)):
        label = labels[position] if position < len(labels) else ""
        _add(table, label, position + 1, mine)
        if not (mine and others and mine.id == others.id):
            _add(table, "", position + 1, others, second.framework)
    if table.row_count:
        out.show(table)
    width = max(len(first.framework), len(second.framework))
    for trace in (first, second):
        rows = " + ".join(str(len(page)) for page in trace.pages)
        out.say((f"{trace.framework:{width}}  {rows} rows, {1000 * trace.seconds:.0f} ms", "dim"))
    return same


def _add(table: "Table", label: str, rank: int, row: "ResultRow | None", differing: str = "") -> None:
    """Add a result to the table, with the framework's name before it if the other framework's result differs."""
    from nextk.cli import screen

    lead, style = (f"{differing}: ", "bold red") if differing else ("", "")
    if row is None:
        table.add_row(label, str(rank), "", screen.cell(f"{lead}nothing", "bold red"))
        return
    shown = screen.cell(lead + screen.name(row.id, row.title), style)
    text = screen.cell(screen.body(row.text, row.title), "dim")
    table.add_row(*(label, str(rank), f"{row.score:.4f}", shown, text)[: len(table.columns)])


def _next_steps(out: "Screen", path: Path, traces: Iterable["Trace"]) -> None:
    sizes = list(accumulate(PULLS))
    found_unnamed = path == demo_index() and not holds_something(default_index())
    query = 'nextk query "your question" --more 5' + ("" if found_unnamed else f" --index {shlex.quote(str(path))}")
    out.say("")
    if all(len(trace.rows) == sizes[-1] for trace in traces):
        grown = ", ".join(map(str, sizes))
        out.say(f"Each search read {sizes[-1]} rows; asking anew with top_k = {grown} would have read {sum(sizes)}.")
        out.say("")
    out.copyable(query, "the same index, no framework")
    out.copyable("nextk ingest PATH", "your own documents")
