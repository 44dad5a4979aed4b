"""The embedded index of nextk: one hybrid index, searched by either component or by both."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nextk import Index, Vector
from nextk.engine.engine import EmbeddedEngine
from nextk.engine.factory import open_engine
from nextk.transport.in_process import InProcessTransport, SharedEngine
from nextk.types import FusionAlgorithm, WeightingStrategy
from tests.benchmarks.deep_pulls.corpora import Corpus, Question
from tests.benchmarks.deep_pulls.measuring import Meter
from tests.benchmarks.deep_pulls.ways import Pull, Way

_BATCH = 1_000

MODES = ("dense", "sparse", "hybrid RRF", "hybrid DBSF")


class EmbeddedIndex:
    """An index in a file, opened again after it was filled.

    Args:
        corpus: The rows.
        path: The file.

    Attributes:
        index: The index.
        figures: The CPU seconds of writing, of opening and of making the codes of its pool, and the bytes per row that
            opening took.
    """

    def __init__(self, corpus: Corpus, path: Path) -> None:
        self._corpus = corpus
        self._path = path
        with Meter() as writing, self._opened() as index:
            self._write(index, np.arange(len(corpus)))
        with Meter() as opening:
            self.index = self._opened()
            with self.way(exact=True).search(corpus.questions[0]) as pull:
                pull(1)
        with Meter() as coding:
            self.make_codes()
        self.figures: Mapping[str, float] = {
            "build_seconds": coding.seconds,
            "write_seconds": writing.seconds,
            "open_seconds": opening.seconds,
            "bytes_per_row": (opening.bytes + coding.bytes) / len(corpus),
        }

    def _opened(self) -> Index:
        engine = open_engine(self._path, {"type": "hybrid", "dimension": self._corpus.vectors.shape[1]})
        assert isinstance(engine, EmbeddedEngine)
        self._engine = engine
        shared = SharedEngine(self._path, engine)
        return Index._over(InProcessTransport(shared, lambda: shared))

    def make_codes(self) -> None:
        """Make the codes of the pool, if there is to be one, and wait for them."""
        self.index.query(vector=self._corpus.questions[0].vector)
        self._engine._pools.wait()

    def _write(self, index: Index, rows: NDArray[np.int64]) -> None:
        for batch in np.array_split(rows, max(1, len(rows) // _BATCH)):
            index.upsert([self._record(row) for row in batch.tolist()])

    def _record(self, row: int) -> Vector:
        corpus = self._corpus
        metadata = {"part": int(corpus.parts[row])}
        return Vector(str(row), corpus.vectors[row], metadata, sparse_vector=corpus.sparse[row])

    def churn(self) -> None:
        """Delete a tenth of the rows and write it again, and replace another tenth, all by what they were before."""
        chosen = np.random.default_rng(1).permutation(len(self._corpus))
        tenth = len(chosen) // 10
        for batch in np.array_split(chosen[:tenth], max(1, tenth // _BATCH)):
            self.index.delete(ids=[str(row) for row in batch.tolist()])
        self._write(self.index, chosen[: 2 * tenth])
        self.make_codes()

    def way(self, mode: str = "dense", filter: str = "", name: str = "nextk", *, exact: bool = False) -> Way:
        """Return resumable queries of a mode, one of `MODES`, as a way to search."""

        @contextmanager
        def search(question: Question) -> Iterator[Pull]:
            handle: Any = None

            def pull(count: int) -> list[Any]:
                nonlocal handle
                if handle is None:
                    page, handle = self.index.resumable_query(
                        top_k=count, filter=filter, exact=exact, **_components(mode, question)
                    )
                else:
                    page = handle.fetch_next(count)
                return [match.id for match in page]

            try:
                yield pull
            finally:
                if handle is not None:
                    handle.stop()

        return Way(name, search)

    def best(self, mode: str, question: Question, count: int) -> NDArray[np.int64]:
        """Return the best rows for a question in exact order, at most 1,000, asked for at once."""
        matches = self.index.query(top_k=min(count, 1_000), exact=True, **_components(mode, question))
        return np.array([int(match.id) for match in matches], np.int64)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.index.close()


def _components(mode: str, question: Question) -> dict[str, Any]:
    kind, _, algorithm = mode.partition(" ")
    components: dict[str, Any] = {}
    if kind != "sparse":
        components["vector"] = question.vector
    if kind != "dense":
        components |= {"sparse_vector": question.sparse, "weighting_strategy": WeightingStrategy.IDF}
    if algorithm:
        components["fusion_algorithm"] = FusionAlgorithm[algorithm]
    return components
