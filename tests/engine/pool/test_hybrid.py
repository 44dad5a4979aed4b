"""Hybrid searches whose dense list comes from a pool: every row once, its exact score, hardly one that comes late."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nextk.engine import search
from nextk.engine.columns import Snapshot
from nextk.engine.fusion import Order
from nextk.engine.pool.ranking import pool_ranking
from nextk.engine.ranking import Ranked
from nextk.engine.rewinding import rewindable
from nextk.engine.schema import Schema, Similarity
from nextk.types import FusionAlgorithm
from tests.support.bare_engine import Rig
from tests.support.hybrid_rows import (
    EVENTS,
    HybridRows,
    befall,
    fused_by_brute_force,
    joined,
    small_chunks,
)
from tests.support.pools import codes_of, small_pools
from tests.support.written_rows import MAGNITUDES, Shape

pytest.importorskip("faiss")

METRICS = list(Similarity)
BY_METRIC = pytest.mark.parametrize("similarity", METRICS, ids=[each.value for each in METRICS])

SHAPES = st.builds(
    Shape,
    st.integers(64, 700),
    st.integers(1, 20),
    st.sampled_from(MAGNITUDES),
    st.sampled_from([0.0, 0.3]),
    st.integers(0, 2**32 - 1),
)
HYBRID_ROWS = st.builds(HybridRows, SHAPES, st.integers(1, 9), st.integers(0, 5))
SIZES = st.lists(st.integers(1, 10) | st.integers(1, 100), min_size=1, max_size=6)


def schema(similarity: Similarity) -> Schema:
    """Return the schema of an index with a global order."""
    return Schema.create(type="hybrid", dimension=2, similarity=similarity.value.lower())


class Searched:
    """Rows that are searched by a pool.

    Args:
        rows: The rows.
        similarity: The function that scores two dense vectors.
        weighted: Whether queries are weighted.
        visible: About this share of the rows is searched.
        window: The number of rows that the statistics are those of.
    """

    def __init__(
        self, rows: HybridRows, similarity: Similarity, *, weighted: bool, visible: float, window: int
    ) -> None:
        self.random = np.random.default_rng(rows.shape.seed)
        self.rows, self.similarity, self.weighted, self.window = rows, similarity, weighted, window
        self.columns = rows.columns(self.random)
        self.codes = codes_of(self.columns.snapshot, similarity)
        self.everything = self.columns.snapshot
        self.snapshot = self.everything.restricted_to(self.random.random(len(self.everything.rows)) < visible)
        self.ask()

    def ask(self) -> None:
        """Go on to another query, and fuse its exact lists by brute force."""
        self.query = self.rows.question(self.random, FusionAlgorithm.DBSF, weighted=self.weighted)
        self.exact = fused_by_brute_force(self.snapshot, self.everything, self.query, self.similarity, self.window)

    def order(self) -> Order:
        """Return the fused order."""
        return search.order(self.query, schema(self.similarity), self.everything, self.snapshot, self.by_pool)

    def by_pool(self, snapshot: Snapshot, query: NDArray[np.float32], similarity: Similarity) -> Order:
        """Rank rows by the pool."""
        return pool_ranking(snapshot, query, similarity, self.codes)

    def scored(self) -> dict[int, float]:
        """Return the score of each row, with the statistics of the rows that the pool brings first."""
        assert self.query.vector is not None
        best = self.by_pool(self.snapshot, self.query.vector, self.similarity).take(self.window).scores
        everything, query, similarity, window = self.everything, self.query, self.similarity, self.window
        return dict(joined([fused_by_brute_force(self.snapshot, everything, query, similarity, window, best)]))


@BY_METRIC
class TestEveryRow:
    """Whatever the rows are and whatever happens meanwhile, every row comes once, and pages do not depend on sizes."""

    @settings(deadline=None, max_examples=25)
    @given(
        rows=HYBRID_ROWS,
        weighted=st.booleans(),
        visible=st.sampled_from([1.0, 0.9, 0.4]),
        sizes=SIZES,
        event=EVENTS,
        at=st.integers(0, 5),
        back=st.integers(0, 5),
    )
    def test_any_rows(
        self,
        similarity: Similarity,
        rows: HybridRows,
        weighted: bool,
        visible: float,
        sizes: list[int],
        event: str,
        at: int,
        back: int,
    ) -> None:
        """Pages of any sizes have all rows once, in the order of one pull, whatever is written and put back."""
        with small_pools(), small_chunks(16):
            searched = Searched(rows, similarity, weighted=weighted, visible=visible, window=16)
            expected = searched.scored()
            at_once = searched.order().take(10_000)
            order = rewindable(searched.order())
            pages: list[Ranked] = []
            while not pages or len(pages[-1]):
                order.mark()
                if len(pages) == back:
                    order.take(20 + at)
                    order.rewind()
                size = sizes[len(pages) % len(sizes)]
                page, behind = order.take(size).split(max(1, size - back))
                order.put_back(behind)
                pages.append(page)
            disturbed = searched.order()
            befallen = [disturbed.take(10 * at)]
            befall(event, searched.columns, rows, searched.random)
            befallen.append(disturbed.take(10_000))
        assert sorted(expected.items()) == sorted(joined([at_once]))
        assert joined([at_once]) == joined(pages)
        assert sorted(expected.items()) == sorted(joined(befallen))


@pytest.mark.parametrize("algorithm", list(FusionAlgorithm), ids=[each.value for each in FusionAlgorithm])
def test_exact_query(algorithm: FusionAlgorithm) -> None:
    """A query that wants exact order gets the order of an index without a pool, page by page."""
    random = np.random.default_rng(0)
    vectors, weights = random.normal(size=(400, 8)), random.random((400, 3)) + 0.1
    records = [
        {"id": str(row), "vector": vector, "sparseVector": {"indices": [row % 5, 7, 8], "values": values}}
        for row, (vector, values) in enumerate(zip(vectors.tolist(), weights.tolist(), strict=True))
    ]
    query: dict[str, Any] = {"vector": [1.0] * 8, "sparseVector": {"indices": [2, 8], "values": [1.0, 1.0]}}
    sizes = [10, 100, 20, 300]
    with (
        small_pools(),
        small_chunks(16),
        Rig("hybrid", dimension=8) as plain,
        Rig("hybrid", dimension=8, pool_from=1) as pooled,
    ):
        for rig in (plain, pooled):
            rig.upsert(*records)
        pooled.query(**query, topK=1)
        pooled.engine._pools.wait()
        expected = plain.pages(sizes, **query, fusionAlgorithm=algorithm.value)
        found = pooled.pages(sizes, **query, fusionAlgorithm=algorithm.value, exact=True)
    assert expected == found


class Clustered(Shape):
    """The shape of vectors around forty centres, each of which is as likely as any other."""

    def vectors(self, random: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Return vectors, float32 (count, dimension)."""
        centres = np.random.default_rng(self.seed).normal(size=(40, self.dimension))
        noise = 0.4 * random.normal(size=(count, self.dimension))
        return (centres[random.integers(40, size=count)] + noise).astype(np.float32)


class TestRecall:
    """The rows that come in time."""

    QUERIES, SIZES = 20, (10, *[20] * 9)

    @BY_METRIC
    @settings(deadline=None, max_examples=2)
    @given(seed=st.integers(0, 2**32 - 1), terms=st.sampled_from([2, 30]))
    def test_recall(self, similarity: Similarity, seed: int, terms: int) -> None:
        """Nearly all of the rows that belong to ten pages come on these."""
        rows = HybridRows(Clustered(4_000, 32, "usual", 0.0, seed), terms, 4)
        found = []
        with small_pools(100), small_chunks(50):
            searched = Searched(rows, similarity, weighted=True, visible=1.0, window=50)
            for _ in range(self.QUERIES):
                searched.ask()
                found.append(self.recall(searched))
        assert np.mean(found) >= 0.99
        assert min(found) >= 0.9

    def recall(self, searched: Searched) -> float:
        """Return the share of the rows of ten pages that belong there; any of those of equal scores does."""
        order, scores = searched.order(), dict(joined([searched.exact]))
        found = [row for size in self.SIZES for row in order.take(size).rows.tolist()]
        lowest = searched.exact.scores[len(found) - 1]
        return float(np.mean([scores[row] >= lowest for row in found]))
