"""Pull ever deeper from one dense search by a pool, beside the exact scan and the graph of faiss, in one run.

Run by hand from the repository: `python -m tests.benchmarks.deep_pulls.pools --rows 100000`. P1 is a page of 10 and
nine more of 10, P2 a page of 10 and nine of 100. A late row comes after one with a lower score. The figures are medians
of CPU time; ratios within one run are what to look at.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nextk import Index, Vector
from nextk.engine.engine import EmbeddedEngine
from nextk.engine.factory import open_engine
from nextk.transport.in_process import InProcessTransport, SharedEngine
from tests.benchmarks.deep_pulls import corpora
from tests.benchmarks.deep_pulls.measuring import Case, Meter, best_rows, compare, patterns
from tests.benchmarks.deep_pulls.peers import brute_force
from tests.benchmarks.deep_pulls.ways import OverFetching, Pull, Way

_BATCH = 1_000
_ROUNDOFF = 2e-6


def nextk(corpus: corpora.Corpus, name: str, pool_from: int | None) -> tuple[Way, Index]:
    """Return resumable queries of an index in memory, whose codes are made, and the index."""
    keywords = {
        "type": "dense",
        "dimension": corpus.vectors.shape[1],
        "pool_from": pool_from,
        "exact": pool_from is None,
    }
    engine = open_engine(None, keywords)
    assert isinstance(engine, EmbeddedEngine)
    hold = SharedEngine(None, engine)
    index = Index._over(InProcessTransport(hold, lambda: hold))
    for start in range(0, len(corpus), _BATCH):
        vectors = corpus.vectors[start : start + _BATCH]
        index.upsert([Vector(str(row), vector) for row, vector in enumerate(vectors, start)])
    with Meter() as building:
        index.query(vector=corpus.questions[0].vector)
        engine._pools.wait()

    @contextmanager
    def search(question: corpora.Question) -> Iterator[Pull]:
        page, handle = index.resumable_query(vector=question.vector, top_k=10)
        first = [page]

        def pull(count: int) -> list[Any]:
            return [match.id for match in (first.pop() if first else handle.fetch_next(count))]

        with handle:
            yield pull

    return Way(name, search, building.seconds), index


def graph(corpus: corpora.Corpus) -> Way:
    """Return an HNSW graph of faiss that is asked for ever more rows."""
    import faiss

    faiss.omp_set_num_threads(1)
    with Meter() as building:
        found = faiss.IndexHNSWFlat(corpus.vectors.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
        found.hnsw.efConstruction = 200
        found.add(corpus.vectors)

    def ask(question: corpora.Question, count: int) -> list[Any]:
        found.hnsw.efSearch = max(100, round(1.3 * count))
        labels: list[Any] = found.search(question.vector[np.newaxis], count)[1][0].tolist()
        return labels

    def search(question: corpora.Question) -> OverFetching:
        return OverFetching(lambda count: ask(question, count), len(corpus))

    return Way("faiss HNSW over-fetching", search, building.seconds)


def late_rows(index: Index, corpus: corpora.Corpus, sizes: list[int]) -> list[int]:
    """Return the number of late rows of each question."""
    late = []
    for question in corpus.questions:
        page, handle = index.resumable_query(vector=question.vector, top_k=sizes[0])
        with handle:
            pages = [page, *(handle.fetch_next(size) for size in sizes[1:])]
        scores = np.array([match.score for each in pages for match in each])
        lowest = np.minimum.accumulate(scores)
        late.append(int(np.count_nonzero(scores[1:] > lowest[:-1] + _ROUNDOFF)))
    return late


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="deep_pulls.pools")
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000], help="sizes of the clustered data")
    parser.add_argument("--texts", type=int, nargs="*", default=[], help="sizes of the real text")
    parser.add_argument("--dimension", type=int, default=384, help="dimension of the clustered data")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--graph", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    found = [corpora.clustered(rows, options.dimension, options.questions) for rows in options.rows]
    for corpus in (*found, *(corpora.texts(rows, options.questions) for rows in options.texts)):
        measure(corpus, with_graph=options.graph)


def measure(corpus: corpora.Corpus, *, with_graph: bool) -> None:
    """Measure everything on one corpus, and print it."""
    pooled, index = nextk(corpus, "nextk, pool", 1)
    exact, other = nextk(corpus, "nextk, exact", None)
    ways = [pooled, exact, brute_force(corpus), *([graph(corpus)] if with_graph else [])]
    print(f"\n## {corpus.name}, {len(corpus.questions)} questions; ms of CPU: first page, all pages")
    print("CPU seconds to build:", {way.name: round(way.build_seconds, 2) for way in ways})
    sizes = {name: each for name, each in patterns(len(corpus)).items() if name != "P3"}
    truth = [best_rows(corpus, question, 1_000, None) for question in corpus.questions]
    with index, other:
        for name, each in sizes.items():
            for way, figures in compare([Case(way, truth) for way in ways], corpus.questions, each).items():
                recall = f"{figures['recall']:.5f}, worst {figures['recall_worst']:.3f}"
                print(f"{name} {way:26}{figures['first_cpu']:8.2f}{figures['cpu']:8.2f}   recall {recall}")
            late = late_rows(index, corpus, each)
            share = np.count_nonzero(late) / len(late)
            print(f"{name} late rows: {sum(late)} of {len(late) * sum(each)}; in {share:.1%} of the searches")


if __name__ == "__main__":
    main()
