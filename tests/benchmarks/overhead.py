"""Benchmark: the cost of a session over the bare handle, for a page of ten matches in process.

Run it by hand: `python tests/benchmarks/overhead.py`. Handle and session pull the same pages of the same search, with
text and metadata, in turns within one run. The matches are compared, so recall is 1 on both sides. The figures are CPU
time of this thread per page, medians over the rounds (the time of the process would count the idle spinning of a BLAS
with threads); compare the ratios. A session also finds ids that come twice, converts matches, and can recover; a policy
decides each match besides.
"""

import statistics
import time
from collections.abc import Callable

from nextk import Index
from nextk.cli.corpus import standard_library
from nextk.sessions import RetrievalMode, RetrievalSession, RowReader, SearchQuery
from nextk.types import Data, QueryMode
from nextk.until import Accepted

QUESTION = "read a gzip file"
PAGES, SIZE, ROUNDS = 50, 10, 40


def by_handle(index: Index, mode: RetrievalMode) -> list[str]:
    """Return the ids of pages that a bare handle pulls."""
    page, handle = index.resumable_query(
        data=QUESTION, top_k=SIZE, query_mode=QueryMode[mode.name], include_metadata=True, include_data=True
    )
    with handle:
        for _ in range(PAGES - 1):
            page += handle.fetch_next(SIZE)
    return [match.id for match in page]


def by_session(index: Index, mode: RetrievalMode) -> list[str]:
    """Return the ids of the same pages, pulled by a session."""
    with RetrievalSession(index, SearchQuery(data=QUESTION, mode=mode), READER) as search:
        rows = [row for _ in range(PAGES) for row in search.fetch_next(SIZE)]
    return [match.id for match in rows]


def by_policy(index: Index, mode: RetrievalMode) -> list[str]:
    """Return the ids of the same pages, where a check decides each match and permits all of them."""
    question = SearchQuery(data=QUESTION, mode=mode)
    with RetrievalSession(index, question, READER) as search:
        check = Accepted(SIZE, lambda rows: [True] * len(rows))
        rows = [row for _ in range(PAGES) for row in search.fetch_until(check)]
    return [match.id for match in rows]


READER = RowReader(lambda match: match)


def main() -> None:
    """Measure every mode and print the figures."""
    with Index.embedded(embedding="static", sparse_embedding="bm25") as index:
        records = [
            Data(entry.id, entry.text, {"title": entry.title, "parent": entry.parent}) for entry in standard_library()
        ]
        for first in range(0, len(records), 500):
            index.upsert(records[first : first + 500])
        print(f"{len(records):,} records, {PAGES} pages of {SIZE}, {ROUNDS} rounds")
        for mode in RetrievalMode:
            measure(index, mode)


def measure(index: Index, mode: RetrievalMode) -> None:
    """Measure one mode and print its figures."""
    ways: dict[str, Callable[[Index, RetrievalMode], list[str]]] = {
        "bare handle": by_handle,
        "session": by_session,
        "session, every row checked": by_policy,
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    expected = by_handle(index, mode)
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.thread_time()
            rows = way(index, mode)
            taken[name].append((time.thread_time() - began) / PAGES * 1e6)
            assert expected == rows, name
    bare = statistics.median(taken["bare handle"])
    for name, times in taken.items():
        median = statistics.median(times)
        print(f"{mode.value:8}{name:28}{median:8.0f} us per page{median / bare:8.2f}")


if __name__ == "__main__":
    main()
