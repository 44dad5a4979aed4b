"""Search Python's own documentation, page after page, through LangChain and through LlamaIndex.

The first run reads the documentation of this Python (no network, no account, no key) into a hybrid index; later runs
use that index again. Each question starts one search, which is then continued: first top_k results, then the next
ones on demand. With --framework, only one of the two frameworks is used, and only that one has to be installed.
"""

import argparse
import platform
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nextk.cli.arguments import question
from nextk.cli.locations import LOCATIONS_HELP, default_index, demo_index, holds_something, index_to_write
from nextk.cli.pulls import through_langchain, through_llama_index
from nextk.errors import ClientError, IndexLocked
from nextk.extras import require, require_installed

if TYPE_CHECKING:
    from rich.table import Table

    from nextk.cli.corpus import Passage
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


class Framework(NamedTuple):
    """A framework that the demo searches through.

    Attributes:
        module: The module that has to be installed.
        extra: The extra of nextk that brings the module.
        pull: The function that searches through the framework.
    """

    module: str
    extra: str
    pull: "Callable[[Index, str, Sequence[int]], Trace]"


FRAMEWORKS = {
    "langchain": Framework("langchain_core", "langchain", through_langchain),
    "llama-index": Framework("llama_index.core", "llama-index", through_llama_index),
}
"""The frameworks by the words of `--framework`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "question", metavar="QUESTION", nargs="?", type=question, help="what to search for (default: three questions)"
    )
    parser.add_argument("--index", metavar="FILE", type=Path, help="the file of the index (default: demo.nextk)")
    parser.add_argument("--rebuild", action="store_true", help="build the index again")
    parser.add_argument(
        "--framework", choices=[*FRAMEWORKS], help="search through this framework alone (default: both, compared)"
    )
    parser.epilog = LOCATIONS_HELP


def run(arguments: argparse.Namespace, corpus: "Callable[[], Iterable[Passage]] | None" = None) -> int:
    """Build the index if it is missing, run the questions through the frameworks, and compare the results.

    Args:
        arguments: The arguments of the command line.
        corpus: A function that yields the passages to index. Default `None`, for the documentation of this Python.

    Returns:
        0 if the frameworks gave the same ids for every question, else 1.
    """
    chosen = [FRAMEWORKS[arguments.framework]] if arguments.framework else [*FRAMEWORKS.values()]
    _require(chosen)
    from nextk.cli.corpus import standard_library
    from nextk.cli.screen import Screen
    from nextk.client import Index

    path = index_to_write(arguments.index or demo_index())
    out = Screen()
    seconds = _build_if_needed(path, corpus or standard_library, rebuild=arguments.rebuild)
    traces: list[Trace] = []
    agreed = True
    with Index.embedded(path) as index:
        _introduce(out, path, index.info().vector_count, seconds)
        index.query(data=QUESTIONS[0], top_k=1)  # loads the text model, so that its time counts for no framework
        for text in [arguments.question] if arguments.question else QUESTIONS:
            found = [framework.pull(index, text, PULLS) for framework in chosen]
            agreed &= _show(out, text, found)
            traces += found
    _next_steps(out, path, traces)
    return 0 if agreed else 1


def _require(frameworks: Sequence[Framework]) -> None:
    """Raise `MissingExtraError` unless everything is installed that the demo needs for these frameworks."""
    for module in ("rich", "numpy", "orjson", "lark"):
        require(module, extra="local" if len(frameworks) == 1 else "all")
    require_installed("wordllama", extra="local")  # only its files are read, and it is slow to import
    for framework in frameworks:
        require(framework.module, extra=framework.extra if len(frameworks) == 1 else "all")


def build(path: Path, corpus: "Callable[[], Iterable[Passage]]") -> None:
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


def _fill(partial: Path, corpus: "Callable[[], Iterable[Passage]]") -> None:
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


def _build_if_needed(path: Path, corpus: "Callable[[], Iterable[Passage]]", *, rebuild: bool) -> float | None:
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


def _show(out: "Screen", text: str, traces: "Sequence[Trace]") -> bool:
    """Print the results of the first framework and where another one differs. Returns whether all ids are the same."""
    from nextk.cli import screen

    first, *others = traces
    different = [each for each in others if [row.id for row in each.rows] != [row.id for row in first.rows]]
    out.say("")
    out.say((text, "bold cyan"))
    if others:
        both = " and ".join(each.framework for each in traces)
        out.say((f"{both} give different ids", "bold red") if different else (f"{both} agree on every id", "green"))
    names = ("pull", "#", "score", "id", "text") if out.width >= screen.WIDE else ("pull", "#", "score", "id")
    widest = {"id": out.width // 2 - 10} if "text" in names else None
    table = screen.columns(*names, right=("#", "score"), filling=names[-1], widest=widest)
    _add_rows(table, first, different)
    if table.row_count:
        out.show(table)
    width = max(len(each.framework) for each in traces)
    for trace in traces:
        rows = " + ".join(str(len(page)) for page in trace.pages)
        out.say((f"{trace.framework:{width}}  {rows} rows, {1000 * trace.seconds:.0f} ms", "dim"))
    return not different


def _add_rows(table: "Table", first: "Trace", different: "Sequence[Trace]") -> None:
    """Add the results of the first framework to the table, each with what other frameworks have in its place."""
    from nextk.cli import screen

    labels = [label for pull, page in enumerate(first.pages) for label in screen.pull_labels(pull, len(page))]
    for position, (mine, *others) in enumerate(zip_longest(first.rows, *(each.rows for each in different))):
        label = labels[position] if position < len(labels) else ""
        _add(table, label, position + 1, mine)
        for trace, other in zip(different, others, strict=True):
            if not (mine and other and mine.id == other.id):
                _add(table, "", position + 1, other, trace.framework)


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
