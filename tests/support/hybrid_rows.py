"""Columns with both kinds of vectors, hybrid searches of them, and the whole fused lists by brute force."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from nextk.engine import dense, fusion, rank_fusion, sparse, threshold
from nextk.engine.columns import Columns, Snapshot
from nextk.engine.ranking import Ranked, ranked
from nextk.engine.schema import Similarity
from nextk.engine.search import QueryComponents
from nextk.engine.values import SparseArrays, SparseRows, VectorRows
from nextk.types import FusionAlgorithm
from tests.support.pools import compact
from tests.support.written_rows import MAGNITUDES, Shape


@contextmanager
def small_chunks(window: int) -> Iterator[None]:
    """Return a context manager within which the statistics are those of so many rows, and lists are read in steps.

    All orders but those of few rows are then made from estimates.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threshold, "STATISTICS_WINDOW", window)
        patch.setattr(threshold, "_FIRST_MATCHES", max(1, window // 4))
        patch.setattr(rank_fusion, "_BEST_MATCHES", window)
        patch.setattr(rank_fusion, "_SCANNED_PART", 1)
        patch.setattr(rank_fusion, "_FIRST_CHUNK", 2)
        yield


@dataclass(frozen=True)
class HybridRows:
    """Rows of a shape, and a question about them.

    Attributes:
        shape: The shape of the dense vectors.
        terms: The number of dimensions of the sparse vectors; few of them make many rows match.
        length: The number of entries of a sparse vector, at most; 0 if no row matches.
    """

    shape: Shape
    terms: int
    length: int

    def batch(self, random: np.random.Generator, rows: NDArray[np.int64]) -> VectorRows:
        """Return vectors for rows."""
        entries = [self._entries(random) for _ in rows]
        return VectorRows(rows, self.shape.vectors(random, len(rows)), SparseRows.of(entries) if entries else None)

    def columns(self, random: np.random.Generator) -> Columns:
        """Return columns with the rows 0, 1, ..., some of which were written twice, or deleted."""
        columns = Columns()
        columns.append(self.batch(random, np.arange(self.shape.count)))
        again = np.flatnonzero(random.random(self.shape.count) < self.shape.churn)
        columns.append(self.batch(random, random.permutation(again)))
        columns.remove(np.flatnonzero(random.random(self.shape.count) < self.shape.churn / 2).tolist())
        return columns

    def question(
        self, random: np.random.Generator, algorithm: FusionAlgorithm, *, weighted: bool = False
    ) -> QueryComponents:
        """Return a query by both components."""
        return QueryComponents(self.shape.vectors(random, 1)[0], self._entries(random), weighted, algorithm)

    def _entries(self, random: np.random.Generator) -> SparseArrays:
        indices = random.integers(self.terms, size=random.integers(self.length + 1)).astype(np.int32)
        values = random.choice([-1.0, 0.5, 0.5, 0.7, 2.0], size=len(indices)).astype(np.float32)
        return SparseArrays(indices, values)


SHAPES = st.builds(
    Shape,
    st.integers(0, 30) | st.integers(0, 400),
    st.integers(1, 8),
    st.sampled_from(MAGNITUDES),
    st.sampled_from([0.0, 0.3]),
    st.integers(0, 2**32 - 1),
)
HYBRID_ROWS = st.builds(HybridRows, SHAPES, st.integers(1, 9), st.integers(0, 5))
SIZES = st.lists(st.integers(1, 10) | st.integers(1, 100), min_size=1, max_size=6)
EVENTS = st.sampled_from(["none", "append", "compact", "settle"])


def befall(event: str, columns: Columns, rows: HybridRows, random: np.random.Generator) -> None:
    """Let something happen to columns, one of `EVENTS`."""
    if event == "append":
        columns.append(rows.batch(random, np.arange(10_000, 10_020)))
    elif event == "compact":
        compact(columns)
    elif event == "settle":
        columns.settle()


def fused_by_brute_force(
    visible: Snapshot,
    everything: Snapshot,
    query: QueryComponents,
    similarity: Similarity,
    window: int,
    dense_best: NDArray[np.float32] | None = None,
) -> Ranked:
    """Fuse the full lists of both components.

    Args:
        visible: The rows to search.
        everything: All rows, for the statistics of a weighted query.
        query: The query.
        similarity: The function that scores two dense vectors.
        window: The number of rows of each list that the statistics are taken from.
        dense_best: The scores that the statistics of the dense list are taken from, best first, if it is not exact.
    """
    assert query.vector is not None
    assert query.sparse is not None
    slots = visible.slots()
    matching, found = sparse.scores(visible, query.sparse, everything if query.weighted else None)
    first = ranked(visible.rows[slots], dense.ExactScores(query.vector, similarity).of(visible, slots))
    legs = [first, ranked(visible.rows[matching], found)]
    if query.fusion is FusionAlgorithm.RRF:
        return fusion.fuse(legs, fusion.reciprocal_ranks)
    totals = dict.fromkeys(first.rows.tolist(), 0.0)
    for leg, best in zip(legs, [dense_best, None], strict=True):
        shares = _standard_shares(leg.scores, leg.scores[:window] if best is None else best)
        for row, share in zip(leg.rows.tolist(), shares.tolist(), strict=True):
            totals[row] += share
    return ranked(first.rows, np.array([totals[row] for row in first.rows.tolist()], np.float64).astype(np.float32))


def _standard_shares(scores: NDArray[np.float32], best: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what each row of a list contributes by DBSF, float64 (n,), with the statistics of the best ones."""
    wide, wide_best = scores.astype(np.float64), best.astype(np.float64)
    if len(best) == 0 or best[0] == best[-1]:
        return np.where(wide >= wide_best[:1], 0.5, 0.0)
    spread = wide_best.std(ddof=1)
    lowest = wide_best.mean() - 3 * spread
    return np.asarray(np.maximum((wide - lowest) / (6 * spread), 0.0), np.float64)


def joined(pages: Sequence[Ranked]) -> list[tuple[int, float]]:
    """Return the rows of pages, in order, with their scores."""
    return [pair for page in pages for pair in zip(page.rows.tolist(), page.scores.tolist(), strict=True)]
