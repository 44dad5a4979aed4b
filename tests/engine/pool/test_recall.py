"""Recall: how many of the rows that belong to the first pages come on these, whatever the vectors are like.

The first pools are as large as they always are, or smaller ones that have to grow, over few rows.
"""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from nextk.engine import dense
from nextk.engine.columns import Columns, Snapshot
from nextk.engine.pool import ranking
from nextk.engine.pool.codes import VectorCodes
from nextk.engine.pool.pools import Pools
from nextk.engine.pool.ranking import FIRST_POOL, PoolRanking, pool_ranking
from nextk.engine.ranking import Ranked
from nextk.engine.schema import Similarity
from tests.support.pools import append, codes_of, columns_of, is_sorted, small_pools, wrong_scores

pytest.importorskip("faiss")

COUNT, DIMENSION, QUERIES = 8_000, 32, 20
Vectors = NDArray[np.float32]
BY_METRIC = pytest.mark.parametrize("similarity", list(Similarity), ids=[each.value for each in Similarity])


def clustered(random: np.random.Generator, count: int) -> Vectors:
    """Return vectors around forty centres, float32 (count, 32)."""
    centres = random.normal(size=(40, DIMENSION))
    return (centres[random.integers(40, size=count)] + 0.4 * random.normal(size=(count, DIMENSION))).astype(np.float32)


def uniform(random: np.random.Generator, count: int) -> Vectors:
    """Return vectors that are spread evenly over the unit sphere."""
    vectors = random.normal(size=(count, DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def repeated(random: np.random.Generator, count: int) -> Vectors:
    """Return vectors of which each comes about eight times."""
    return clustered(random, count // 8)[random.integers(count // 8, size=count)]


def dominated(random: np.random.Generator, count: int) -> Vectors:
    """Return vectors whose first numbers are five times as large as the others."""
    vectors = clustered(random, count)
    vectors[:, 0] *= 5
    return vectors


def long_and_short(random: np.random.Generator, count: int) -> Vectors:
    """Return vectors of any direction whose lengths are from 1 to 10."""
    vectors = uniform(random, count)
    vectors *= 10 ** random.uniform(size=(count, 1)).astype(np.float32)
    return vectors


DISTRIBUTIONS = [clustered, uniform, repeated, dominated, long_and_short]


def near(random: np.random.Generator, vectors: Vectors) -> Vectors:
    """Return vectors that are near to some of the given ones, float32 (20, d)."""
    queries = vectors[random.integers(len(vectors), size=QUERIES)]
    queries += 0.1 * np.abs(vectors).mean() * random.normal(size=queries.shape).astype(np.float32)
    return queries


def taken(order: PoolRanking, sizes: list[int]) -> list[Ranked]:
    """Return pages of a ranking that has a pool."""
    return [order.take(size) for size in sizes]


def pooled(snapshot: Snapshot, query: Vectors, similarity: Similarity, codes: VectorCodes) -> PoolRanking:
    """Return the ranking of a search, which has a pool."""
    order = pool_ranking(snapshot, query, similarity, codes)
    assert isinstance(order, PoolRanking)
    return order


def recall(snapshot: Snapshot, query: Vectors, similarity: Similarity, pages: list[Ranked]) -> float:
    """Return the share of the rows of pages that belong there. Of rows with equal scores, any does."""
    rows = np.concatenate([page.rows for page in pages])
    lowest = dense.ranking(snapshot, query, similarity).take(len(rows)).scores[-1]
    return float(np.mean(dense.ExactScores(query, similarity).of(snapshot, rows) >= lowest))


@BY_METRIC
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("seed", [1, 2])
def test_recall(similarity: Similarity, distribution: Callable[[np.random.Generator, int], Vectors], seed: int) -> None:
    """Nearly all rows that belong to the first pages come on these: 99.5 % on average, 95 % at least."""
    random = np.random.default_rng(seed)
    vectors = distribution(random, COUNT)
    snapshot = columns_of(vectors).snapshot
    codes = codes_of(snapshot, similarity)
    for first, sizes in [(FIRST_POOL, [10] * 10), (FIRST_POOL // 4, [10, *[30] * 7])]:
        found: list[float] = []
        with small_pools(first):
            for query in near(random, vectors):
                pages = taken(pooled(snapshot, query, similarity, codes), sizes)
                assert all(map(is_sorted, pages))
                found.append(recall(snapshot, query, similarity, pages))
        assert np.mean(found) >= 0.995
        assert min(found) >= 0.95


@BY_METRIC
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_to_the_end(similarity: Similarity, distribution: Callable[[np.random.Generator, int], Vectors]) -> None:
    """A search that is read to its end has every row once, with its exact score, on sorted pages."""
    random = np.random.default_rng(3)
    vectors = distribution(random, 2_000)
    snapshot = columns_of(vectors).snapshot
    codes = codes_of(snapshot, similarity)
    with small_pools(40):
        for query in near(random, vectors)[:3]:
            pages = taken(pooled(snapshot, query, similarity, codes), [10, *[70] * 29])
            assert list(range(2_000)) == sorted(row for page in pages for row in page.rows.tolist())
            assert all(map(is_sorted, pages))
            assert [] == wrong_scores(pages, vectors, query, similarity)


def drifted(random: np.random.Generator) -> tuple[Columns, Vectors]:
    """Return columns of vectors, and others stretched up to 16 times along each axis and shifted."""
    vectors = clustered(random, COUNT)
    later = vectors[COUNT * 3 // 4 :] * (16 ** random.uniform(size=DIMENSION)).astype(np.float32)
    return columns_of(vectors[: COUNT * 3 // 4]), later + 16 * random.normal(size=DIMENSION).astype(np.float32)


class TestOtherVectors:
    """Vectors that are not like those on which the codebook was trained."""

    @BY_METRIC
    def test_tail_rule(self, similarity: Similarity, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are found nevertheless, because fewer rows are released if many of these stand far back in the pool."""
        random = np.random.default_rng(1)
        columns, later = drifted(random)
        codes = codes_of(columns.snapshot, similarity)
        append(columns, later, len(columns))
        codes.extend(columns.snapshot)
        found = list[float]()
        for tail in (ranking._TAIL, 1.0):
            monkeypatch.setattr(ranking, "_TAIL", tail)
            with small_pools(200):
                each = [
                    recall(columns.snapshot, query, similarity, taken(order, [10, *[20] * 9]))
                    for query in near(random, later)
                    for order in [pooled(columns.snapshot, query, similarity, codes)]
                ]
            found.append(float(np.mean(each)))
        with_rule, without = found
        assert with_rule >= 0.99
        assert without < 0.98

    def test_retraining(self) -> None:
        """Searches that find too little among them let the codebook be trained anew."""
        random = np.random.default_rng(1)
        columns, later = drifted(random)
        pools = Pools(1)

        def search(queries: Vectors) -> VectorCodes:
            with small_pools(200):
                for query in queries:
                    pools.ranking(columns.snapshot, query, Similarity.COSINE).take(10)
            pools.wait()
            codes = pools._coded[columns].codes
            assert isinstance(codes, VectorCodes)
            return codes

        former = search(later[:1])
        for _ in range(4):
            assert former is search(near(random, later))
        append(columns, later, len(columns))
        for _ in range(4):
            renewed = search(near(random, later))
        assert renewed is not former
        assert renewed is search(near(random, later))
