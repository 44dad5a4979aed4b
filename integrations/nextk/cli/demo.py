"""Ask Python's own documentation, page after page, through LangChain and through LlamaIndex.

The first run reads the documentation of this Python (no network, no account, no key) into a hybrid index; later runs
find it built. Every question is asked once and then continued: top_k rows first, the next ones on demand.
"""

import argparse
import platform
import time
from collections.abc import Callable, Iterable
from itertools import accumulate, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from nextk.cli.corpus import Passage, standard_library
from nextk.cli.places import PLACES, default_index, demo_index, holds_something, index_to_write
from nextk.extras import require

if TYPE_CHECKING:
    from rich.text import Text

    from nextk.cli.pulls import Row, Trace
    from nextk.cli.screen import Screen

SUMMARY = "build a small index and ask it, through LangChain and LlamaIndex"

QUESTIONS = (
    "How do I run several coroutines at once and wait for all of them?",
    "walk a directory tree and skip some folders",
    "what does yield from do",
)
PULLS = (3, 3, 3)
"""The rows of each pull: the first `top_k`, then the next ones."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("question", metavar="QUESTION", nargs="?", help="what to ask (default: three questions)")
    parser.add_argument("--index", metavar="FILE", type=Path, help="where the index is kept (default: demo.nextk)")
    parser.add_argument("--rebuild", action="store_true", help="build the index anew")
    parser.epilog = PLACES


def run(arguments: argparse.Namespace, corpus: Callable[[], Iterable[Passage]] = standard_library) -> int:
    """Build what is missing, ask, and compare.

    Args:
        arguments: Those of the command line.
        corpus: What to index.

    Returns:
        0 if both frameworks gave the same ids throughout, else 1.
    """
    for module in ("rich", "numpy", "orjson", "lark", "wordllama", "langchain_core", "llama_index.core"):
        require(module, extra="all")
    from nextk.cli.pulls import through_langchain, through_llama_index
    from nextk.cli.screen import Screen
    from nextk.client import Index

    path = index_to_write(arguments.index or demo_index())
    out = Screen()
    seconds = _build_if_needed(path, corpus, rebuild=arguments.rebuild)
    agreed = True
    with Index.embedded(path) as index:
        _introduce(out, path, index.info().vector_count, seconds)
        index.query(data=QUESTIONS[0], top_k=1)  # loads the text model, or it would count against the first framework
        for question in [arguments.question] if arguments.question else QUESTIONS:
            traces = [pull(index, question, PULLS) for pull in (through_langchain, through_llama_index)]
            agreed &= _show(out, question, *traces)
    _next_steps(out, path)
    return 0 if agreed else 1


def build(path: Path, corpus: Callable[[], Iterable[Passage]]) -> None:
    """Build an index beside its place and move it there when it is whole.

    So an index at `path` is always complete: an interrupted build leaves only a `.partial` file, which the next one
    takes over and empties. (A count compared with the corpus would mean reading the corpus in every run.)

    Args:
        path: Where the index is to be; nothing else may hold it.
        corpus: What to index.
    """
    from nextk.cli.building import MODELS, fill
    from nextk.cli.screen import progress
    from nextk.client import Index

    partial = path.with_name(f"{path.name}.partial")
    with progress() as bar, Index.embedded(partial, **MODELS) as index:
        index.reset(all=True)
        reading = bar.add_task("reading the documentation", total=None)
        passages = []
        for passage in corpus():
            passages.append(passage)
            bar.advance(reading)
        bar.update(reading, total=len(passages))
        embedding = bar.add_task("embedding and indexing", total=len(passages))
        fill(index, passages, on_progress=lambda count: bar.advance(embedding, count))
    _discard(path)
    partial.replace(path)


def _build_if_needed(path: Path, corpus: Callable[[], Iterable[Passage]], *, rebuild: bool) -> float | None:
    """Build unless the index is there; the seconds that it took."""
    from nextk.client import Index

    if holds_something(path):
        if not rebuild:
            return None
        with Index.embedded(path):  # refuses what is no index, and what another process holds
            pass
    started = time.perf_counter()
    build(path, corpus)
    return time.perf_counter() - started


def _discard(path: Path) -> None:
    """Remove an index that nobody holds, and what a killed process may have left beside it."""
    for leftover in (path, *(path.with_name(path.name + ending) for ending in ("-wal", "-shm"))):
        leftover.unlink(missing_ok=True)


def _introduce(out: "Screen", path: Path, count: int, seconds: float | None) -> None:
    from nextk.cli.screen import short_path

    made = "found built" if seconds is None else f"built in {seconds:.1f} s"
    out.say((f"{count:,} passages", "bold"), f" of the documentation of Python {platform.python_version()}, {made}")
    out.say((short_path(path), "dim"))


def _show(out: "Screen", question: str, first: "Trace", second: "Trace") -> bool:
    """Print what one framework got and where the other differs; whether the ids are the same."""
    from nextk.cli.screen import columns

    names = ("pull", "#", "score", first.framework, second.framework)
    table = columns(*names, right=("#", "score"), ratio={first.framework: 1})
    labels = [label for pull, page in enumerate(first.pages) for label in _labels(pull, len(page))]
    for place, (mine, others) in enumerate(zip_longest(first.rows, second.rows)):
        label = labels[place] if place < len(labels) else ""
        score = f"{(mine or others).score:.4f}"
        table.add_row(label, str(place + 1), score, _passage(mine), _compared(mine, others))
    out.say("")
    out.say((question, "bold cyan"))
    if table.row_count:
        out.print(table)
    same = [row.id for row in first.rows] == [row.id for row in second.rows]
    verdict = ("same ids", "green") if same else ("the ids differ", "bold red")
    out.say((f"{_cost(first)} · {_cost(second)} · ", "dim"), verdict)
    return same


def _labels(pull: int, size: int) -> list[str]:
    """What stands beside the rows of one pull: its size, once."""
    return [f"next {size}" if pull else f"top {size}", *[""] * (size - 1)] if size else []


def _passage(row: "Row | None") -> "Text":
    """Id and title; the title alone is enough where the id is made of it."""
    from nextk.cli.screen import cell

    if row is None:
        return cell("-", "bold red")
    return cell(row.id) if row.id.startswith(row.title) else cell(f"{row.id}: {row.title}")


def _compared(mine: "Row | None", others: "Row | None") -> "Text":
    """The other framework's id, written out only where it differs."""
    from nextk.cli.screen import cell

    if others is None:
        return cell("-", "bold red")
    return cell("=", "green") if mine is not None and mine.id == others.id else cell(others.id, "bold red")


def _cost(trace: "Trace") -> str:
    rows = "+".join(str(len(page)) for page in trace.pages)
    return f"{trace.framework} {rows} rows, {1000 * trace.seconds:.0f} ms"


def _next_steps(out: "Screen", path: Path) -> None:
    sizes = list(accumulate(PULLS))
    grown = ", ".join(map(str, sizes))
    found_unnamed = path == demo_index() and not holds_something(default_index())
    query = 'nextk query "your question" --more 5' + ("" if found_unnamed else f" --index {path}")
    out.say("")
    out.say(f"Each search read {sizes[-1]} rows; asking anew with top_k = {grown} would have read {sum(sizes)}.")
    out.say(query, ("   the same index, no framework", "dim"))
    out.say("nextk ingest PATH".ljust(len(query)), ("   your own documents", "dim"))
