"""Rankings by a pool: every row once, its exact score, sorted pages, and hardly a row that comes late."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nextk.engine import dense
from nextk.engine.columns import Snapshot
from nextk.engine.pool.codes import Candidates
from nextk.engine.pool.protocol import PoolCodes
from nextk.engine.pool.ranking import PoolRanking, pool_ranking
from nextk.engine.ranking import Ranked
from nextk.engine.rewinding import rewindable
from nextk.engine.schema import Similarity
from tests.support.pools import (
    BY_CODES,
    any_codes_of,
    append,
    codes_of,
    columns_of,
    compact,
    is_sorted,
    small_pools,
    wrong_scores,
)
from tests.support.written_rows import MAGNITUDES, Shape

pytest.importorskip("faiss")

METRICS = list(Similarity)
BY_METRIC = pytest.mark.parametrize("similarity", METRICS, ids=[each.value for each in METRICS])


def rows_of(pages: list[Ranked]) -> list[int]:
    """Return the rows of pages, in order."""
    return [row for page in pages for row in page.rows.tolist()]


def restricted(snapshot: Snapshot, share: float, random: np.random.Generator) -> Snapshot:
    """Return a snapshot in which about this share of the slots is visible."""
    return snapshot if share == 1 else snapshot.restricted_to(random.random(len(snapshot.rows)) < share)


SHAPES = st.builds(
    Shape,
    st.integers(32, 700),
    st.integers(1, 20),
    st.sampled_from(MAGNITUDES),
    st.just(0.0),
    st.integers(0, 2**32 - 1),
)
SIZES = st.lists(st.integers(1, 10) | st.integers(1, 100), min_size=1, max_size=6)


class TestEveryRow:
    """Whatever the rows are and whatever happens meanwhile, every row comes once, with its exact score."""

    @BY_CODES
    @settings(deadline=None, max_examples=25)
    @given(
        shape=SHAPES,
        sizes=SIZES,
        visible=st.sampled_from([1.0, 0.9, 0.4]),
        coded=st.sampled_from([1.0, 0.97]),
        event=st.sampled_from(["none", "append", "compact", "settle", "delete"]),
        at=st.integers(0, 5),
        back=st.integers(0, 5),
    )
    def test_any_rows(
        self,
        similarity: Similarity,
        signs: bool,
        shape: Shape,
        sizes: list[int],
        visible: float,
        coded: float,
        event: str,
        at: int,
        back: int,
    ) -> None:
        """All visible rows come once in sorted pages of full size, while rows are written, moved and put back."""
        random = np.random.default_rng(shape.seed)
        vectors = shape.vectors(random, shape.count)
        columns = columns_of(vectors[: int(shape.count * coded)])
        codes = any_codes_of(columns.snapshot, similarity, signs)
        append(columns, vectors[len(columns) :], len(columns))
        snapshot = restricted(columns.snapshot, visible, random)
        expected = snapshot.rows[snapshot.slots()].tolist()
        query = shape.vectors(random, 1)[0] if at % 2 else vectors[0] * np.float32(0.99)
        pages: list[Ranked] = []
        with small_pools():
            order = rewindable(pool_ranking(snapshot, query, similarity, codes))
            while not pages or len(pages[-1]):
                if len(pages) == at and event == "append":
                    append(columns, vectors[:20], len(vectors))
                    codes.extend(columns.snapshot)
                elif len(pages) == at and event == "compact":
                    compact(columns)
                elif len(pages) == at and event == "settle":
                    columns.settle()
                elif len(pages) == at and event == "delete":
                    del columns, snapshot
                    order.take(1_000)  # they are not delivered any more, so they may be any
                    return
                size = sizes[len(pages) % len(sizes)]
                order.mark()
                if len(pages) == back:
                    order.take(size + at)
                    order.rewind()
                taken = order.take(size)
                assert min(size, len(expected) - len(rows_of(pages))) == len(taken)
                page, behind = taken.split(max(1, len(taken) - back))
                order.put_back(behind.followed_by(order.take(2 * back)))
                pages.append(page)
        assert sorted(expected) == sorted(rows_of(pages))
        assert all(map(is_sorted, pages))
        assert [] == wrong_scores(pages, vectors, query, similarity)

    @BY_METRIC
    def test_zeros(self, similarity: Similarity) -> None:
        """A query of zeros, to which all rows may be equally near, brings them in exact order."""
        vectors = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
        snapshot, zeros = columns_of(vectors).snapshot, np.zeros(8, np.float32)
        with small_pools(200):
            found = pool_ranking(snapshot, zeros, similarity, codes_of(snapshot, similarity)).take(200)
        exact = dense.ranking(snapshot, zeros, similarity).take(200)
        assert exact.rows.tolist() == found.rows.tolist()

    def test_a_late_row(self) -> None:
        """A row that was outside the first pool comes first on the page after it, even among rows put back."""
        angles = np.linspace(0, 1, 400)
        columns = columns_of(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32))
        codes = codes_of(columns.snapshot, Similarity.COSINE)
        found = np.insert(np.arange(1, 400), 10, 0)
        with small_pools(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(codes, "nearest", lambda _query, count, _visible: Candidates(found[:count], 400))
            order = pool_ranking(columns.snapshot, np.array([1, 0], np.float32), Similarity.COSINE, codes)
            pages = [order.take(2), order.take(4)]
            assert [[1, 2], [0, 3, 4, 5]] == [page.rows.tolist() for page in pages]
            order.put_back(pages[0].split(1)[1].followed_by(pages[1]))
            assert [0, 2, 3, 4, 5, 6] == order.take(6).rows.tolist()


def clustered(random: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Return vectors around forty centres, float32 (count, 32)."""
    centres = random.normal(size=(40, 32))
    return (centres[random.integers(40, size=count)] + 0.4 * random.normal(size=(count, 32))).astype(np.float32)


def stretched(random: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Return vectors whose second half was stretched up to 16 times along each axis, and shifted."""
    vectors = clustered(random, count)
    vectors[count // 2 :] *= (16 ** random.uniform(size=32)).astype(np.float32)
    vectors[count // 2 :] += random.normal(size=32).astype(np.float32)
    return vectors


def of_any_length(random: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Return vectors around centres, whose lengths differ up to three times."""
    return clustered(random, count) * (3 ** random.uniform(size=(count, 1))).astype(np.float32)


class TestRecall:
    """The rows that come in time."""

    COUNT, QUERIES, SIZES = 8_000, 20, (10, *[20] * 9)

    @BY_CODES
    @pytest.mark.parametrize("distribution", [clustered, stretched, of_any_length])
    @settings(deadline=None, max_examples=3)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_recall(
        self,
        similarity: Similarity,
        signs: bool,
        distribution: Callable[[np.random.Generator, int], NDArray[np.float32]],
        seed: int,
    ) -> None:
        """Nearly all of the rows that belong to ten pages come on these, even if the codes are those of other rows."""
        random = np.random.default_rng(seed)
        vectors = distribution(random, self.COUNT)
        queries = vectors[random.integers(self.COUNT, size=self.QUERIES)]
        queries += 0.1 * random.normal(size=queries.shape).astype(np.float32)
        columns = columns_of(vectors[: self.COUNT // 2])
        codes = any_codes_of(columns.snapshot, similarity, signs)
        append(columns, vectors[self.COUNT // 2 :], self.COUNT // 2)
        codes.extend(columns.snapshot)
        found = [self.recall(columns.snapshot, query, similarity, codes) for query in queries]
        assert np.mean(found) >= 0.99
        assert min(found) >= 0.9

    def recall(self, snapshot: Snapshot, query: NDArray[np.float32], similarity: Similarity, codes: PoolCodes) -> float:
        """Return the share of the rows of ten pages that belong there; any of those of equal scores does."""
        with small_pools(200):
            order = pool_ranking(snapshot, query, similarity, codes)
            rows = np.concatenate([order.take(size).rows for size in self.SIZES])
        lowest = dense.ranking(snapshot, query, similarity).take(len(rows)).scores[-1]
        return float(np.mean(dense.ExactScores(query, similarity).of(snapshot, rows) >= lowest))


class TestCost:
    """The work that a pool spares."""

    def test_memory(self) -> None:
        """A search that has pages from its first pool holds 8 bytes for each candidate, and no vectors."""
        vectors = clustered(np.random.default_rng(0), 8_000)
        columns = columns_of(vectors)
        codes = codes_of(columns.snapshot, Similarity.COSINE)
        order = pool_ranking(columns.snapshot, vectors[0], Similarity.COSINE, codes)
        for _ in range(10):
            order.take(10)
        assert isinstance(order, PoolRanking)
        assert order._scan is None
        assert 8 * 1_000 == order._slots.nbytes + order._scores.nbytes

    @pytest.mark.parametrize(
        ("visible", "pooled"), [(1.0, True), (0.1, True), (0.03, False)], ids=["all", "a tenth", "few"]
    )
    def test_filter(self, visible: float, pooled: bool) -> None:
        """A filter that lets many rows through has a pool, and few rows are all scored."""
        random = np.random.default_rng(0)
        vectors = clustered(random, 3_000)
        snapshot = columns_of(vectors).snapshot
        codes = codes_of(snapshot, Similarity.COSINE)
        with small_pools(16):
            order = pool_ranking(restricted(snapshot, visible, random), vectors[0], Similarity.COSINE, codes)
        assert pooled == isinstance(order, PoolRanking)

    def test_uncoded(self) -> None:
        """Rows that have no codes yet are all scored as long as they are few; many of them are left to the scan."""
        vectors = clustered(np.random.default_rng(0), 1_000)
        columns = columns_of(vectors[:900])
        codes = codes_of(columns.snapshot, Similarity.COSINE)
        with small_pools(16):
            append(columns, vectors[900:940], 900)
            few = pool_ranking(columns.snapshot, vectors[930], Similarity.COSINE, codes)
            append(columns, vectors[940:], 940)
            many = pool_ranking(columns.snapshot, vectors[930], Similarity.COSINE, codes)
        assert (isinstance(few, PoolRanking), isinstance(many, PoolRanking)) == (True, False)
        assert 930 == few.take(1).rows[0] == many.take(1).rows[0]
