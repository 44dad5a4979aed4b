"""Ten pages of ten from one search, against asking anew with a growing top_k.

Run by hand: `python tests/benchmarks/paging.py`. Both read the same rows in the same order from the same embedded index
in the same run, so recall is 1 on both sides and only the work differs. Figures are process CPU time, medians over
questions; the ratio is what to look at.
"""

import functools
import statistics
import time
from collections.abc import Callable

from nextk import Index
from nextk.cli.corpus import standard_library
from nextk.types import Data, QueryMode, WeightingStrategy

QUESTIONS = ("read a gzip file", "wrap long lines of text", "compare two sequences of lines", "walk a directory")
PAGES, SIZE = 10, 10


def build() -> Index:
    """The documentation of Python in a hybrid index in memory."""
    index = Index.embedded(embedding="static", sparse_embedding="bm25")
    records = [Data(read_text.id, read_text.text) for read_text in standard_library()]
    for first in range(0, len(records), 500):
        index.upsert(records[first : first + 500])
    return index


def one_search(index: Index, question: str, mode: QueryMode) -> list[str]:
    """Pull page by page from one resumable query."""
    page, handle = index.resumable_query(
        data=question, top_k=SIZE, query_mode=mode, weighting_strategy=WeightingStrategy.IDF
    )
    with handle:
        for _ in range(PAGES - 1):
            page += handle.fetch_next(SIZE)
    return [match.id for match in page]


def asking_anew(index: Index, question: str, mode: QueryMode) -> list[str]:
    """Ask for 10, then 20, then 30, ...: what a retriever with a fixed k leaves one to do."""
    for page in range(1, PAGES + 1):
        matches = index.query(
            data=question, top_k=page * SIZE, query_mode=mode, weighting_strategy=WeightingStrategy.IDF
        )
    return [match.id for match in matches]


def cpu(run: Callable[[], list[str]], repeats: int = 5) -> float:
    """Median CPU milliseconds of a run."""
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        taken.append((time.process_time() - started) * 1_000)
    return statistics.median(taken)


def main() -> None:
    """Measure and print."""
    with build() as index:
        print(f"{index.info().vector_count:,} records, {PAGES} pages of {SIZE}, {len(QUESTIONS)} questions")
        print(f"{'mode':8}{'one search':>14}{'asking anew':>14}{'ratio':>8}{'rows':>12}")
        for mode in QueryMode:
            pairs = []
            for question in QUESTIONS:
                assert one_search(index, question, mode) == asking_anew(index, question, mode), "orders differ"
                continued = cpu(functools.partial(one_search, index, question, mode))
                anew = cpu(functools.partial(asking_anew, index, question, mode))
                pairs.append((continued, anew))
            continued, anew = (statistics.median(side) for side in zip(*pairs, strict=True))
            rows = f"{PAGES * SIZE} / {sum(page * SIZE for page in range(1, PAGES + 1))}"
            print(f"{mode.value:8}{continued:11.1f} ms{anew:11.1f} ms{anew / continued:8.1f}{rows:>12}")


if __name__ == "__main__":
    main()
