"""What a session costs over the bare handle: a page of ten, in process.

Run by hand: `python tests/benchmarks/overhead.py`. Both pull the same pages of whole rows (text and metadata) of the
same search, in turns within one run; the rows are compared, so recall is 1 on both sides. Figures are CPU time of this
thread per page, medians over rounds (that of the process would count the idle spinning of a BLAS with threads); the
ratio is what to look at. A session also finds ids that come twice, reads rows, and can recover; a policy judges each
row besides.
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
    """Pages of a bare handle."""
    page, handle = index.resumable_query(
        data=QUESTION, top_k=SIZE, query_mode=QueryMode[mode.name], include_metadata=True, include_data=True
    )
    with handle:
        for _ in range(PAGES - 1):
            page += handle.fetch_next(SIZE)
    return [match.id for match in page]


def by_session(index: Index, mode: RetrievalMode) -> list[str]:
    """The same pages of a session."""
    with RetrievalSession(index, SearchQuery(data=QUESTION, mode=mode), READING) as search:
        rows = [row for _ in range(PAGES) for row in search.fetch_next(SIZE)]
    return [match.id for match in rows]


def by_policy(index: Index, mode: RetrievalMode) -> list[str]:
    """The same pages, each row judged by a check that permits everything."""
    question = SearchQuery(data=QUESTION, mode=mode)
    with RetrievalSession(index, question, READING) as search:
        check = Accepted(SIZE, lambda rows: [True] * len(rows))
        rows = [row for _ in range(PAGES) for row in search.fetch_until(check)]
    return [match.id for match in rows]


READING = RowReader(lambda match: match)


def main() -> None:
    """Measure and print."""
    with Index.embedded(embedding="static", sparse_embedding="bm25") as index:
        records = [
            Data(read_text.id, read_text.text, {"title": read_text.title, "parent": read_text.parent})
            for read_text in standard_library()
        ]
        for first in range(0, len(records), 500):
            index.upsert(records[first : first + 500])
        print(f"{len(records):,} records, {PAGES} pages of {SIZE}, {ROUNDS} rounds")
        for mode in RetrievalMode:
            measure(index, mode)


def measure(index: Index, mode: RetrievalMode) -> None:
    """One mode."""
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
