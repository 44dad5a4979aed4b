"""The order of all rows, ties included, for indexes of any shape, before and after deletions and replacements."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support import engine_oracle
from tests.support.bare_engine import Rig
from tests.support.index_model import wire
from tests.support.small_arrays import small_arrays
from tests.support.written_rows import FILTERS, SHAPES, Shape, WrittenRow, drained, passing, score_bounds, write_rows

METRICS = sorted(engine_oracle.METRICS)
BLOCKS = st.sampled_from([1, 7, 64, 4_096])
SIZES = st.lists(st.integers(1, 20) | st.integers(1, 1_000), min_size=1, max_size=5)
FILTER = st.sampled_from(["", "", *FILTERS])

pytestmark = pytest.mark.timeout(600)  # to make a failing example small takes minutes
moderate = settings(deadline=None, max_examples=20)


def target(shape: Shape, rows: dict[str, WrittenRow], choice: str) -> NDArray[np.float32]:
    """The vector of a query, float32 (dimension,): that of a row, if there is one, or of zeros, or another one."""
    [other] = shape.vectors(np.random.default_rng(shape.seed + 1), 1)
    if choice == "zeros":
        return np.zeros_like(other)
    return next(iter(rows.values())).vector if rows and choice == "a row" else other


def require_exact(
    found: Sequence[tuple[str, float]], rows: dict[str, WrittenRow], metric: str, query: NDArray[np.float32]
) -> None:
    """Require that all rows were found, with scores that are float32 of the float64 score, and in the order of these.

    Rows of equal scores stand in the order of their insertion, and equal vectors have equal scores.
    """
    assert rows.keys() == {id_ for id_, _ in found}
    assert len(rows) == len(found)
    if not rows:
        return
    scores = np.array([score for _, score in found], np.float32)
    vectors = np.stack([rows[id_].vector for id_, _ in found])
    smallest, largest = score_bounds(metric, query, vectors)
    assert [] == np.flatnonzero((scores < smallest) | (scores > largest)).tolist()
    keys = [(-score, rows[id_].position) for id_, score in found]
    assert sorted(keys) == keys
    equals = defaultdict(set)
    for vector, score in zip(vectors, scores.tolist(), strict=True):
        equals[vector.tobytes()].add(score)
    assert {1} == {len(each) for each in equals.values()}


def dense_leg(rig: Rig, rows: dict[str, WrittenRow], query: NDArray[np.float32], filter: str) -> engine_oracle.Ranking:
    """The ranking of the dense component alone, as the index has it; `TestDense` holds it to the definition."""
    found = drained(rig, [1_000], vector=query.tolist(), filter=filter)
    return [(rows[id_].position, score) for id_, score in found]


def sparse_leg(rows: dict[str, WrittenRow], query: list[tuple[int, float]], filter: str) -> engine_oracle.Ranking:
    """The ranking of the sparse component alone, weighted by inverse document frequency."""
    among = {row.position: row.entries for row in rows.values()}
    filtered = {row.position: row.entries for row in passing(rows, filter).values()}
    return engine_oracle.sparse(query, filtered, weighted=True, among=among)


ENTRIES = st.lists(st.tuples(st.integers(0, 10), st.sampled_from([-1.0, 0.5, 1.0, 2.0])), min_size=1, max_size=5)


class TestDense:
    """Dense rankings against the definition of the score."""

    @pytest.mark.parametrize("metric", METRICS)
    @moderate
    @given(shape=SHAPES, block=BLOCKS, sizes=SIZES, filter=FILTER, choice=st.sampled_from(["other", "a row", "zeros"]))
    def test_order(self, metric: str, shape: Shape, block: int, sizes: list[int], filter: str, choice: str) -> None:
        """Pulls of any sizes bring every row in exact order, and one query has as many of the same."""
        with small_arrays(block), Rig(dimension=shape.dimension, similarity=metric) as rig:
            rows = write_rows(rig, shape)
            query = target(shape, rows, choice)
            found = drained(rig, sizes, vector=query.tolist(), filter=filter)
            require_exact(found, passing(rows, filter), metric, query)
            assert found[: sum(sizes[:2])][:1_000] == rig.query(
                vector=query.tolist(), filter=filter, topK=min(sum(sizes[:2]), 1_000)
            )


class TestSparse:
    """Sparse rankings against the definition of the score."""

    @moderate
    @given(shape=SHAPES, block=BLOCKS, sizes=SIZES, filter=FILTER, query=ENTRIES)
    def test_order(
        self, shape: Shape, block: int, sizes: list[int], filter: str, query: list[tuple[int, float]]
    ) -> None:
        """Pulls of any sizes bring every row that shares a dimension with the query, in exact order."""
        with small_arrays(block), Rig("sparse") as rig:
            rows = write_rows(rig, shape)
            ids = {row.position: id_ for id_, row in rows.items()}
            expected = [(ids[position], score) for position, score in sparse_leg(rows, query, filter)]
            assert expected == drained(rig, sizes, sparseVector=wire(query), filter=filter, weightingStrategy="IDF")


@pytest.mark.parametrize("algorithm", ["RRF", "DBSF"])
class TestHybrid:
    """Hybrid rankings against the fusion of the rankings of both components."""

    @moderate
    @given(shape=SHAPES, block=BLOCKS, sizes=SIZES, filter=FILTER, query=ENTRIES)
    def test_global_order(
        self, algorithm: str, shape: Shape, block: int, sizes: list[int], filter: str, query: list[tuple[int, float]]
    ) -> None:
        """Pulls of any sizes bring every row in the order in which the full rankings are fused."""
        with small_arrays(block), Rig("hybrid", dimension=shape.dimension) as rig:
            rows = write_rows(rig, shape)
            vector = target(shape, rows, "other")
            ids = {row.position: id_ for id_, row in rows.items()}
            legs = [dense_leg(rig, rows, vector, filter), sparse_leg(rows, query, filter)]
            expected = [(ids[position], score) for position, score in engine_oracle.global_order(legs, algorithm)]
            assert expected == drained(
                rig,
                sizes,
                vector=vector.tolist(),
                sparseVector=wire(query),
                filter=filter,
                fusionAlgorithm=algorithm,
                weightingStrategy="IDF",
            )
