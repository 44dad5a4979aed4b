"""Dense search: every row is scored, and scored exactly wherever the score decides the order.

BLAS scores all rows in float32, which is fast, but gives identical rows unequal scores, and its results depend on the
length of the array. Therefore its scores only bound the exact ones, and every row is scored again, on its own and in
float64, before its position in the order is decided.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nextk.engine.columns import Snapshot
from nextk.engine.ranking import LazyRanking
from nextk.engine.schema import Similarity

_BLOCK = 4_096  # rows scored exactly at a time: float64 copies of them stay in the cache
_ROUNDOFF = 2.0**-24  # half the spacing of float32 numbers between 1 and 2
_LARGEST = float(np.finfo(np.float32).max)  # a reply cannot express infinity
_SMALLEST = 2.0**-126  # a product below this may underflow to zero


def ranking(snapshot: Snapshot, query: NDArray[np.float32], similarity: Similarity) -> LazyRanking:
    """Rank all live rows by their similarity to the query.

    Args:
        snapshot: The rows to search; its matrix is float32 (slots, dimension).
        query: The dense vector of the query, float32 (dimension,).
        similarity: The function that scores two vectors, as defined in protocol §5.1.

    Returns:
        The rows, best first, sorted only as far as they are read.
    """
    rows = snapshot.rows[snapshot.slots]
    if snapshot.matrix is None or not len(rows):
        return LazyRanking(rows[:0], np.empty(0, np.float32))
    score = _SCORES[similarity]
    exact = _Exact(snapshot.matrix, snapshot.slots, query.astype(np.float64), score)
    estimates, error = _estimate(snapshot, query, similarity)
    if not np.isfinite(estimates).all():  # numbers too large for float32 products
        return LazyRanking(rows, exact(np.arange(len(rows))))
    return LazyRanking(rows, estimates, error, exact)


def scores(snapshot: Snapshot, query: NDArray[np.float32], similarity: Similarity) -> NDArray[np.float32]:
    """Return the exact score of every live row, float32 (n,), in the order of `snapshot.slots`."""
    if snapshot.matrix is None:
        return np.empty(0, np.float32)
    exact = _Exact(snapshot.matrix, snapshot.slots, query.astype(np.float64), _SCORES[similarity])
    return exact(np.arange(len(snapshot.slots)))


_Score = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def _dot(vectors: NDArray[np.float64], query: NDArray[np.float64]) -> NDArray[np.float64]:
    # A sum along the last axis adds up each row in the same way, whatever its position: equal rows get equal results.
    result: NDArray[np.float64] = (vectors * query).sum(axis=1)
    return result


def _cosine(vectors: NDArray[np.float64], query: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.sqrt((vectors * vectors).sum(axis=1) * float(_dot(query[None], query)[0]))
    cosines = np.divide(_dot(vectors, query), lengths, out=np.zeros(len(vectors)), where=lengths > 0)
    scores: NDArray[np.float64] = (1 + np.clip(cosines, -1, 1)) / 2
    return scores


def _euclidean(vectors: NDArray[np.float64], query: NDArray[np.float64]) -> NDArray[np.float64]:
    apart = vectors - query
    scores: NDArray[np.float64] = 1 / (1 + (apart * apart).sum(axis=1))
    return scores


def _dot_product(vectors: NDArray[np.float64], query: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip((1 + _dot(vectors, query)) / 2, -_LARGEST, _LARGEST)


_SCORES: dict[Similarity, _Score] = {
    Similarity.COSINE: _cosine,
    Similarity.EUCLIDEAN: _euclidean,
    Similarity.DOT_PRODUCT: _dot_product,
}


class _Exact:
    """Scores single rows in float64 and rounds once, to float32."""

    def __init__(
        self, matrix: NDArray[np.float32], slots: NDArray[np.int64], query: NDArray[np.float64], score: _Score
    ) -> None:
        self._matrix = matrix
        self._slots = slots
        self._query = query
        self._score = score

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        result = np.empty(len(positions), np.float32)
        for start in range(0, len(positions), _BLOCK):
            block = self._slots[positions[start : start + _BLOCK]]
            result[start : start + _BLOCK] = self._score(self._matrix[block].astype(np.float64), self._query)
        return result


def _estimate(
    snapshot: Snapshot, query: NDArray[np.float32], similarity: Similarity
) -> tuple[NDArray[np.float64], float]:
    """Return estimated scores, float64 (n,), and an upper bound on the error of every one of them.

    A float32 dot product of d terms errs by about `d 2^-24 |q| |x|` at most, in whatever order it is added up (Higham,
    Accuracy and Stability of Numerical Algorithms, §3.1). The 8 terms that are added to `d` cover the errors of scaling
    the query to length 1 and of rounding the score itself.
    """
    assert snapshot.matrix is not None
    wide = query.astype(np.float64)
    length = float(np.sqrt(_dot(wide[None], wide)[0]))
    unit = (wide / length if length > 0 else wide).astype(np.float32)
    lengths = snapshot.lengths[snapshot.slots]
    all_live = len(snapshot.slots) == len(snapshot.matrix)
    with np.errstate(over="ignore", invalid="ignore"):
        dots = ((snapshot.matrix if all_live else snapshot.matrix[snapshot.slots]) @ unit).astype(np.float64)
    dots[~np.isfinite(dots)] = np.nan  # overflowed: no arithmetic below may turn it into a number again
    relative = 1.01 * (len(query) + 8) * _ROUNDOFF
    underflow = len(query) * _SMALLEST
    if similarity is Similarity.COSINE:
        cosines = np.divide(dots, lengths, out=np.zeros(len(dots)), where=lengths > 0)
        shortest = float(lengths.min(where=lengths > 0, initial=np.inf))
        return (1 + cosines) / 2, relative + underflow / shortest
    longest = float(lengths.max())
    if similarity is Similarity.DOT_PRODUCT:
        clipped = np.clip((1 + dots * length) / 2, -_LARGEST, _LARGEST)
        return clipped, relative * (1 + length * longest) + underflow * length
    apart = np.maximum(lengths**2 + length**2 - 2 * length * dots, 0)
    return 1 / (1 + apart), relative * (1 + 2 * length * longest) + 2 * underflow * length
