"""Orders of hybrid searches that are global: the whole fused list, read page by page."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nextk.engine import dense, search
from nextk.engine.fusion import Order
from nextk.engine.ranking import LazyRanking, Ranked, ranked
from nextk.engine.rewinding import rewindable
from nextk.engine.schema import FusionOrder, Schema, Similarity
from nextk.engine.threshold import SparseMatches, ThresholdOrder
from nextk.types import FusionAlgorithm
from tests.support.hybrid_rows import (
    EVENTS,
    HYBRID_ROWS,
    SIZES,
    HybridRows,
    befall,
    fused_by_brute_force,
    joined,
    small_chunks,
)
from tests.support.pools import columns_of
from tests.support.written_rows import Shape

METRICS = list(Similarity)
BY_METRIC = pytest.mark.parametrize("similarity", METRICS, ids=[each.value for each in METRICS])
BY_ALGORITHM = pytest.mark.parametrize("algorithm", list(FusionAlgorithm), ids=[each.value for each in FusionAlgorithm])


def schema(similarity: Similarity) -> Schema:
    """Return the schema of an index with a global order."""
    return replace(Schema.create(type="hybrid", dimension=2), similarity=similarity)


@BY_ALGORITHM
@BY_METRIC
class TestExact:
    """The order over exact lists."""

    @settings(deadline=None, max_examples=60)
    @given(
        rows=HYBRID_ROWS,
        window=st.sampled_from([1, 4, 20, 1_000]),
        visible=st.sampled_from([1.0, 0.6, 0.1]),
        weighted=st.booleans(),
        sizes=SIZES,
        event=EVENTS,
        at=st.integers(0, 4),
        back=st.integers(0, 4),
    )
    def test_brute_force(
        self,
        similarity: Similarity,
        algorithm: FusionAlgorithm,
        rows: HybridRows,
        window: int,
        visible: float,
        weighted: bool,
        sizes: list[int],
        event: str,
        at: int,
        back: int,
    ) -> None:
        """Pages of any sizes are the whole fused list, whatever is written, moved and put back meanwhile."""
        random = np.random.default_rng(rows.shape.seed)
        columns = rows.columns(random)
        everything = columns.snapshot
        snapshot = everything.restricted_to(random.random(len(everything.rows)) < visible)
        query = rows.question(random, algorithm, weighted=weighted)
        expected = fused_by_brute_force(snapshot, everything, query, similarity, window)
        pages: list[Ranked] = []
        with small_chunks(window):
            order = rewindable(search.order(query, schema(similarity), everything, snapshot))
            while not pages or len(pages[-1]):
                if len(pages) == at:
                    befall(event, columns, rows, random)
                order.mark()
                if len(pages) == back:
                    order.take(20 + at)
                    order.rewind()
                size = sizes[len(pages) % len(sizes)]
                page, behind = order.take(size).split(max(1, size - back))
                order.put_back(behind)
                pages.append(page)
        assert joined([expected]) == joined(pages)

    def test_deleted_namespace(self, similarity: Similarity, algorithm: FusionAlgorithm) -> None:
        """A search of a namespace that was deleted goes on; its rows are not delivered any more, so they may be any."""
        rows = HybridRows(Shape(50, 4, "usual", 0.0, 0), 3, 3)
        random = np.random.default_rng(0)
        columns = rows.columns(random)
        with small_chunks(4):
            query = rows.question(random, algorithm)
            order = search.order(query, schema(similarity), columns.snapshot, columns.snapshot)
            order.take(1)
            del columns
            assert 49 == len(order.take(100))
            assert 0 == len(order.take(1))


class ListedOrder:
    """An order of given rows, which need not be sorted.

    Args:
        rows: The rows with their scores.
    """

    splits = True

    def __init__(self, rows: Ranked) -> None:
        self._rows = rows
        self.taken: list[int] = []  # the sizes

    def take(self, count: int) -> Ranked:
        """Take the next rows, sorted among each other, as a pool does."""
        page, self._rows = self._rows.split(count)
        self.taken.append(count)
        return ranked(*page)

    def put_back(self, rows: Ranked) -> None:
        """Return rows to the front."""
        raise NotImplementedError


class TestLateRows:
    """Dense lists that are not quite in order."""

    LATE = 37

    def threshold_order(self, dense_list: Order, vectors: NDArray[np.float32]) -> ThresholdOrder:
        """Return the fused order of a dense list, of which every third row is a match, too."""
        snapshot = columns_of(vectors).snapshot
        exact = dense.ExactScores(np.array([1, 0], np.float32), Similarity.COSINE)
        slots = np.arange(0, len(vectors), 3)
        return ThresholdOrder(dense_list, SparseMatches(snapshot, exact, slots, (slots % 7 + 1).astype(np.float32)))

    @pytest.mark.parametrize("late", [0, 1, 2, 3], ids="row {}".format)
    @pytest.mark.parametrize("sizes", [[1], [5], [1_000], [1, 30, 2]], ids=str)
    def test_late_row(self, late: int, sizes: list[int]) -> None:
        """A row that the dense list brings late comes once, in an order that does not depend on the pages' sizes."""
        angles = np.linspace(0, 1, 100)
        vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        scores = dense.ExactScores(np.array([1, 0], np.float32), Similarity.COSINE).of_all(columns_of(vectors).snapshot)
        listed = np.insert(np.delete(np.arange(100), late), self.LATE, late)
        pages: list[Ranked] = []
        with small_chunks(4):
            at_once = self.threshold_order(ListedOrder(Ranked(listed, scores[listed])), vectors).take(1_000)
            order = self.threshold_order(ListedOrder(Ranked(listed, scores[listed])), vectors)
            while not pages or len(pages[-1]):
                pages.append(order.take(sizes[len(pages) % len(sizes)]))
        assert joined([at_once]) == joined(pages)
        assert list(range(100)) == sorted(at_once.rows.tolist())
        rising = np.flatnonzero(at_once.scores[1:] > at_once.scores[:-1]) + 1
        assert set(at_once.rows[rising].tolist()) <= {late}


class TestCost:
    """The work and the memory that the threshold spares."""

    def searched(self) -> tuple[ListedOrder, ThresholdOrder]:
        """Return a dense list of 50,000 rows and its fused order, of whose rows half are matches."""
        random = np.random.default_rng(0)
        vectors = random.normal(size=(50_000, 4)).astype(np.float32)
        snapshot = columns_of(vectors).snapshot
        exact = dense.ExactScores(vectors[0], Similarity.COSINE)
        listed = ListedOrder(ranked(snapshot.rows, exact.of_all(snapshot)))
        found = random.exponential(size=25_000).astype(np.float32)
        return listed, ThresholdOrder(listed, SparseMatches(snapshot, exact, np.arange(0, 50_000, 2), found))

    def test_first_page(self) -> None:
        """A first page reads the rows that the statistics need from the dense list, and no others."""
        listed, order = self.searched()
        assert 10 == len(order.take(10))
        assert [1_000] == listed.taken

    def test_memory(self) -> None:
        """An open search holds 12 bytes for each row that waits, and 21 for each match that contributes."""
        _, order = self.searched()
        order.take(10)
        matches = order._matches
        arrays = (matches._rows, matches._slots, matches._scores, matches._fused, matches._order._scores)
        assert len(matches._rows) < 8_000
        assert 21 * len(matches._rows) == sum(np.asarray(each).nbytes for each in arrays)
        held = [order._waiting, order._ready]
        assert sum(len(each) for each in held) < 3_000
        assert isinstance(matches._order, LazyRanking)


def test_batch_order_is_exact() -> None:
    """A batch order fuses exact lists, whatever ranks the dense list."""
    rows = HybridRows(Shape(50, 4, "usual", 0.0, 0), 3, 3)
    random = np.random.default_rng(0)
    snapshot = rows.columns(random).snapshot
    batch = replace(schema(Similarity.COSINE), fusion_order=FusionOrder.BATCH)

    def none(*_arguments: object) -> Order:
        raise AssertionError

    order = search.order(rows.question(random, FusionAlgorithm.DBSF), batch, snapshot, snapshot, none)
    assert 50 == len(order.take(50))
