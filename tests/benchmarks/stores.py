"""Going deeper into stores that people have: sessions, against slicing a larger k and against an offset.

Run by hand: `python tests/benchmarks/stores.py`. The corpus is made by the script: vectors in clusters. P1 pulls ten
pages of ten; P2 pulls ten rows and then nine pages of a hundred, as a search for few permitted rows does. Printed for
each store, as means over the questions:

- repeated: rows that came twice;
- missing: rows of the store's own answer to one call for all rows, down to this depth, that have not come by then;
- moved: rows moved, over those of one call that knew the depth beforehand;
- recall: the share of the true nearest rows, by brute force;
- wall and CPU time in milliseconds, as medians. Look at the ratios: the machine is busy.
"""

import argparse
import contextlib
import functools
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import chromadb
import faiss
import numpy as np
import qdrant_edge  # type: ignore[import-not-found, unused-ignore]
from chromadb.config import Settings
from langchain_chroma import Chroma
from langchain_community.docstore import InMemoryDocstore
from langchain_community.vectorstores import FAISS
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore

from nextk.langchain import ResumableRetriever
from nextk.sessions import RetrievalSession, RowReader, SearchQuery
from nextk.stores import ExclusionSource, RefetchSource, Source, StoreRow

DIMENSION = 64
PLANS = {"P1": (10,) * 10, "P2": (10,) + (100,) * 9}
IDS = RowReader(lambda match: match.id)
BATCH = 5_000  # rows that Chroma takes at once

Pages = Iterator[list[str]]


class Corpus(Embeddings):
    """Vectors in clusters, and questions near some of them. The text of a row or of a question is its name.

    Args:
        rows: The number of rows.
        questions: The number of questions.
    """

    def __init__(self, rows: int, questions: int) -> None:
        dice = np.random.default_rng(7)
        centres = dice.normal(size=(rows // 50, DIMENSION))
        near = centres[dice.integers(len(centres), size=rows)] + 1.0 * dice.normal(size=(rows, DIMENSION))
        asked = near[dice.choice(rows, size=questions, replace=False)] + 0.3 * dice.normal(size=(questions, DIMENSION))
        self.ids = [f"r{number}" for number in range(rows)]
        self.questions = [f"q{number}" for number in range(questions)]
        self.vectors, self.asked = _normalised(near), _normalised(asked)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of rows."""
        return [self.vectors[int(text[1:])].tolist() for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question."""
        vector: list[float] = self.asked[int(text[1:])].tolist()
        return vector

    def nearest(self, question: str, count: int) -> set[str]:
        """Return the ids of the truly nearest rows."""
        scores = self.vectors @ self.asked[int(question[1:])]
        return {self.ids[number] for number in np.argsort(-scores)[:count]}


def _normalised(vectors: Any) -> Any:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@dataclass
class Subject:
    """A store that is measured.

    Attributes:
        name: Its name.
        best: A function that returns the ids of the k best rows, by the store's own search.
        source: The source over it.
        skipping: A function that returns `k` rows behind an offset; `None` if the store has none.
    """

    name: str
    best: Callable[[str, int], list[str]]
    source: Source
    skipping: Callable[[str, int, int], list[str]] | None = None


def filled(store: VectorStore, corpus: Corpus) -> VectorStore:
    """Store all rows."""
    for first in range(0, len(corpus.ids), BATCH):
        ids = corpus.ids[first : first + BATCH]
        store.add_texts(ids, ids=ids)
    return store


def of_langchain(name: str, store: VectorStore) -> Subject:
    """Return a LangChain store."""
    source = ResumableRetriever.from_vectorstore(store).source
    assert source is not None
    return Subject(name, functools.partial(_best_of_langchain, store), source)


def _best_of_langchain(store: VectorStore, question: str, count: int) -> list[str]:
    return [str(document.id) for document in store.similarity_search(question, k=count)]


class Edge:
    """Qdrant's engine in this process, with an HNSW index.

    Args:
        corpus: The rows.
        folder: The folder of the engine's files.
    """

    def __init__(self, corpus: Corpus, folder: str) -> None:
        config = qdrant_edge.EdgeConfig(
            vectors=qdrant_edge.EdgeVectorParams(DIMENSION, qdrant_edge.Distance.Cosine),
            hnsw_config=qdrant_edge.HnswIndexConfig(m=16, ef_construct=100, full_scan_threshold=10),
            optimizers=qdrant_edge.EdgeOptimizersConfig(indexing_threshold=100),
        )
        self.corpus = corpus
        self.shard = qdrant_edge.EdgeShard.create(folder, config)
        points = [qdrant_edge.Point(number, vector.tolist()) for number, vector in enumerate(corpus.vectors)]
        for first in range(0, len(points), BATCH):
            self.shard.update(qdrant_edge.UpdateOperation.upsert_points(points[first : first + BATCH]))
        self.shard.optimize()

    def rows(
        self, question: str, count: int, *, offset: int = 0, excluded: Sequence[str] = (), ef: int | None = None
    ) -> list[StoreRow]:
        """Return the best rows; `ef` is the number of candidates of the index, by default the engine's own choice."""
        without = qdrant_edge.HasIdCondition({int(id_[1:]) for id_ in excluded})
        request = qdrant_edge.QueryRequest(
            limit=count,
            offset=offset,
            query=qdrant_edge.Query.Nearest(self.corpus.embed_query(question)),
            filter=qdrant_edge.Filter(must_not=[without]) if excluded else None,
            params=qdrant_edge.SearchParams(hnsw_ef=ef),
        )
        return [StoreRow(f"r{point.id}", point.score) for point in self.shard.query(request)]

    def best(self, question: str, count: int) -> list[str]:
        """Return the ids of the best rows."""
        return [row.id for row in self.rows(question, count)]

    def skipping(self, question: str, offset: int, count: int) -> list[str]:
        """Return the ids of rows behind an offset."""
        return [row.id for row in self.rows(question, count, offset=offset)]


class EdgeByExclusion(ExclusionSource):
    """Qdrant's engine, asked for the best rows without those that have come; the index looks further as they grow."""

    identity = "edge"

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def query_without(self, query: SearchQuery, count: int, excluded: Sequence[str]) -> list[StoreRow]:
        """Return the best rows without some."""
        ef = max(128, 2 * (len(excluded) + count))
        return self._edge.rows(str(query.data), count, excluded=excluded, ef=ef)


class EdgeByRefetching(RefetchSource):
    """Qdrant's engine, asked for more rows each time."""

    identity = "edge"

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def query(self, query: SearchQuery, count: int) -> list[StoreRow]:
        """Return the best rows."""
        return self._edge.rows(str(query.data), count)


def subjects(corpus: Corpus) -> Iterator[Subject]:
    """Build each store, one after the other."""
    yield of_langchain("LangChain in memory", filled(InMemoryVectorStore(corpus), corpus))
    graph = faiss.IndexHNSWFlat(DIMENSION, 32)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = 100, 256
    for name, index in (("FAISS, flat", faiss.IndexFlatL2(DIMENSION)), ("FAISS, HNSW", graph)):
        yield of_langchain(name, filled(FAISS(corpus, index, InMemoryDocstore(), {}), corpus))
    client = chromadb.EphemeralClient(Settings(anonymized_telemetry=False))
    chroma = Chroma("rows", corpus, client=client, collection_metadata={"hnsw:space": "cosine"})
    yield of_langchain("Chroma, HNSW", filled(chroma, corpus))
    with tempfile.TemporaryDirectory() as folder:
        edge = Edge(corpus, folder)
        for source in (EdgeByExclusion(edge), EdgeByRefetching(edge)):
            yield Subject("Qdrant's engine, HNSW", edge.best, source, edge.skipping)
        edge.shard.close()


# ---------------------------------------------------------------------------------------------------------------------
# The ways of going on: each yields pages, and adds up the rows that were moved


@dataclass
class Moved:
    """The number of rows that a way has moved."""

    rows: int = 0


def by_session(subject: Subject, question: str, plan: Sequence[int], moved: Moved) -> Pages:
    """Pull pages from one session."""
    with _counted(subject.source, moved), RetrievalSession(subject.source, SearchQuery(data=question), IDS) as search:
        for size in plan:
            yield search.fetch_next(size)


def by_slicing(subject: Subject, question: str, plan: Sequence[int], moved: Moved) -> Pages:
    """Ask for a larger k for each page, and cut off the rows of the pages before."""
    for first, size in _positions(plan):
        found = subject.best(question, first + size)
        moved.rows += len(found)
        yield found[first:]


def by_offset(subject: Subject, question: str, plan: Sequence[int], moved: Moved) -> Pages:
    """Let the store skip the rows of the pages before."""
    assert subject.skipping is not None
    for first, size in _positions(plan):
        found = subject.skipping(question, first, size)
        moved.rows += len(found)
        yield found


def _positions(plan: Sequence[int]) -> Iterator[tuple[int, int]]:
    return zip(itertools.accumulate(plan[:-1], initial=0), plan, strict=True)


@contextlib.contextmanager
def _counted(source: Source, moved: Moved) -> Iterator[None]:
    """Count the rows that the requests of a source return."""
    name = "query_without" if isinstance(source, ExclusionSource) else "query"
    with mock.patch.object(type(source), name, _counting(getattr(type(source), name), moved)):
        yield


def _counting(method: Callable[..., Any], moved: Moved) -> Callable[..., Any]:
    def request(*args: Any, **keywords: Any) -> Any:
        rows = method(*args, **keywords)
        moved.rows += len(rows)
        return rows

    return request


Way = Callable[[Subject, str, Sequence[int], Moved], Pages]


@dataclass
class Figures:
    """The figures of one question."""

    repeated: int
    missing: int
    moved: float
    recall: float
    wall: float
    cpu: float


def measure(subject: Subject, corpus: Corpus, question: str, plan: Sequence[int], way: Way) -> Figures:
    """Pull all pages for one question."""
    moved, depth = Moved(), sum(plan)
    wall, cpu = time.perf_counter(), time.process_time()
    served = [id_ for page in way(subject, question, plan, moved) for id_ in page]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    exhaustive = subject.best(question, len(corpus.ids))[:depth]
    nearest = corpus.nearest(question, depth)
    return Figures(
        repeated=len(served) - len(set(served)),
        missing=len(set(exhaustive) - set(served)),
        moved=moved.rows / depth,
        recall=len(nearest & set(served)) / depth,
        wall=1_000 * wall,
        cpu=1_000 * cpu,
    )


def row(subject: Subject, name: str, corpus: Corpus, plan: str, way: Way) -> str:
    """Return the line of a table."""
    found = [measure(subject, corpus, question, PLANS[plan], way) for question in corpus.questions]
    means = {
        key: statistics.mean(getattr(each, key) for each in found) for key in ("repeated", "missing", "moved", "recall")
    }
    wall, cpu = (statistics.median(getattr(each, key) for each in found) for key in ("wall", "cpu"))
    return (
        f"| {subject.name} | {name} | {plan} | {means['repeated']:.1f} | {means['missing']:.1f} | "
        f"{means['moved']:.2f} | {means['recall']:.3f} | {wall:.1f} | {cpu:.1f} |"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--questions", type=int, default=20)
    given = parser.parse_args()
    corpus = Corpus(given.rows, given.questions)
    print(f"{given.rows:,} rows of {DIMENSION} dimensions, {given.questions} questions")
    print("| store | way | plan | repeated | missing | moved | recall | wall ms | CPU ms |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    measured: set[tuple[str, str]] = set()
    for subject in subjects(corpus):
        ways: dict[str, Way] = {f"session, {subject.source.traits.continuation.value}": by_session}
        ways["larger k, sliced"] = by_slicing
        if subject.skipping is not None:
            ways["offset"] = by_offset
        for name, way in ways.items():
            if (subject.name, name) not in measured:
                measured.add((subject.name, name))
                for plan in PLANS:
                    print(row(subject, name, corpus, plan, way), flush=True)


if __name__ == "__main__":
    main()
