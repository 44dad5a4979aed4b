"""Dense search: every row is scored, and scored exactly wherever the score decides the order.

Scores in float32 are fast, but give some rows of equal score unequal ones. Therefore they only bound the exact scores,
and every row is scored again, in float64, before its position in the order is decided. Where few rows are searched, or
all scores are needed, the rows are scored in float64 at once.

The scores are computed one vector after the other, by one thread, and equal vectors get equal scores wherever they
stand. Several searches at once share the cores of a machine better than the threads of one.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nextk.engine.columns import Snapshot
from nextk.engine.ranking import ABSENT, LazyRanking
from nextk.engine.schema import Similarity

_GATHERED_PART = 4  # if fewer than one slot in so many is searched, those are scored in float64, and no others
_ROUNDOFF = 2.0**-24  # half the spacing of float32 numbers between 1 and 2
_LARGEST = float(np.finfo(np.float32).max)  # a reply cannot express infinity
_SMALLEST = 2.0**-126  # a product below this may underflow to zero


def ranking(snapshot: Snapshot, query: NDArray[np.float32], similarity: Similarity) -> LazyRanking:
    """Rank all visible rows by their similarity to the query.

    Args:
        snapshot: The rows to search.
        query: The dense vector of the query, float32 (dimension,).
        similarity: The function that scores two vectors, as defined in protocol §5.1.

    Returns:
        The rows, best first, sorted only as far as they are read.
    """
    if snapshot.matrix is None or not snapshot.count:
        return LazyRanking(snapshot.rows[:0], np.empty(0, np.float32))
    exact = ExactScores(query, similarity)
    if _few_are_visible(snapshot):
        slots = snapshot.slots()
        return LazyRanking(snapshot.rows[slots], exact.of(snapshot, slots))
    found = estimated_scores(snapshot, query, similarity)
    if found is None:
        return LazyRanking(snapshot.rows, exact.of_all_visible(snapshot))
    return LazyRanking(snapshot.rows, *found, _Rescoring(snapshot, exact, found[0]))


def scores(
    snapshot: Snapshot, query: NDArray[np.float32], similarity: Similarity
) -> tuple[NDArray[np.int64] | None, NDArray[np.float32]]:
    """Score all visible rows exactly.

    Returns:
        The slots that were scored, if they are few: int64 (n,), ascending, and their scores, float32 (n,). Otherwise
        `None` and the score of every slot, float32 (slots,), with `ABSENT` for those that are not visible.
    """
    exact = ExactScores(query, similarity)
    if _few_are_visible(snapshot):
        slots = snapshot.slots()
        return slots, exact.of(snapshot, slots)
    return None, exact.of_all_visible(snapshot)


def estimated_scores(
    snapshot: Snapshot, query: NDArray[np.float32], similarity: Similarity
) -> tuple[NDArray[np.float32], float] | None:
    """Return the estimated score of every slot, float32 (slots,), and a bound on the error of each of them.

    Slots that are not visible have `ABSENT`. It returns `None` if all visible rows are rather scored exactly.
    """
    if snapshot.matrix is None or not snapshot.count or _few_are_visible(snapshot):
        return None
    estimates, error = _estimates(snapshot, query, similarity)
    if estimates is None:
        return None
    _leave_out_invisible(estimates, snapshot)
    return estimates, error


def _few_are_visible(snapshot: Snapshot) -> bool:
    """Return whether the visible slots are so few that no others should be scored."""
    return snapshot.count * _GATHERED_PART < len(snapshot.rows)


class ExactScores:
    """Scores vectors in float64 and rounds once, to float32.

    Args:
        query: The dense vector of the query, float32 (dimension,).
        similarity: The function that scores two vectors.
    """

    def __init__(self, query: NDArray[np.float32], similarity: Similarity) -> None:
        self._query = query.astype(np.float64)
        self._square = float(np.vecdot(self._query, self._query))
        self._product, self._score = _SCORES[similarity]

    def of(self, snapshot: Snapshot, slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores of the given slots, float32 (n,)."""
        products = np.empty(len(slots), np.float64)
        if snapshot.matrix is not None:
            for positions, vectors in snapshot.matrix.chunks_of(slots):
                products[positions] = self._product(vectors, self._query)
        return self._score(products, snapshot.squares[slots], self._square).astype(np.float32)

    def of_all_visible(self, snapshot: Snapshot) -> NDArray[np.float32]:
        """Return the score of every slot, float32 (slots,), and `ABSENT` for those that are not visible."""
        result = self.of_all(snapshot)
        _leave_out_invisible(result, snapshot)
        return result

    def of_all(self, snapshot: Snapshot, count: int | None = None) -> NDArray[np.float32]:
        """Return the score of every slot, float32 (slots,), or of the first `count` slots, float32 (count,)."""
        result = np.empty(len(snapshot.rows) if count is None else count, np.float32)
        if snapshot.matrix is not None:
            for slots, vectors in snapshot.matrix.first(len(result)).all_chunks():
                products = self._product(vectors, self._query)
                result[slots] = self._score(products, snapshot.squares[slots], self._square)
        return result


_Product = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""Returns a number for each vector, (n, dimension), from the vectors and the query. It may overwrite the vectors."""

_Score = Callable[[NDArray[np.float64], NDArray[np.float64], float], NDArray[np.float64]]
"""Returns scores, (n,), from these numbers, the squares of the lengths of the vectors, (n,), and that of the query."""


def _squared_distances(vectors: NDArray[np.float64], query: NDArray[np.float64]) -> NDArray[np.float64]:
    vectors -= query
    distances: NDArray[np.float64] = np.vecdot(vectors, vectors)
    return distances


_SCORES: dict[Similarity, tuple[_Product, _Score]] = {
    Similarity.COSINE: (np.vecdot, lambda dots, squares, square: _cosine_score(dots, squares * square)),
    Similarity.EUCLIDEAN: (_squared_distances, lambda distances, _squares, _square: _euclidean_score(distances)),
    Similarity.DOT_PRODUCT: (np.vecdot, lambda dots, _squares, _square: _dot_product_score(dots)),
}


def _cosine_score(dots: NDArray[np.float64], squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the scores for dot products and the squares of the products of both lengths; 0.5 for a vector of zeros.

    One root of both squares is exact more often than the product of two roots. So opposite vectors score 0, not 1e-16.
    """
    cosines = np.divide(dots, np.sqrt(squares), out=np.zeros(len(dots)), where=squares > 0)
    np.clip(cosines, -1, 1, out=cosines)
    cosines += 1
    cosines /= 2
    return cosines


def _euclidean_score(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the scores for squared distances."""
    result: NDArray[np.float64] = 1 / (1 + squares)
    return result


def _dot_product_score(dots: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip((1 + dots) / 2, -_LARGEST, _LARGEST)


def _estimates(
    snapshot: Snapshot, query: NDArray[np.float32], similarity: Similarity
) -> tuple[NDArray[np.float32] | None, float]:
    """Return the estimated score of every slot, float32 (slots,), and an upper bound on the error of each of them.

    There are no estimates, but `None`, if the numbers are too large for products in float32.

    A float32 dot product of d terms errs by about `d 2^-24 |q| |x|` at most, in whatever order it is added up (Higham,
    Accuracy and Stability of Numerical Algorithms, §3.1). The 16 terms that are added to `d` cover the errors of
    scaling the query to length 1 and of rounding the estimate and the score themselves.
    """
    assert snapshot.matrix is not None
    wide = query.astype(np.float64)
    length = float(np.sqrt(np.vecdot(wide, wide)))
    unit = (wide / length if length > 0 else wide).astype(np.float32)
    result = np.empty(len(snapshot.rows), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for slots, vectors in snapshot.matrix.parts():
            dots = np.vecdot(vectors, unit).astype(np.float64)
            if not np.isfinite(dots).all():
                return None, 0.0
            result[slots] = _estimate(dots, snapshot.squares[slots], length, similarity)
    relative = 1.01 * (len(query) + 16) * _ROUNDOFF
    underflow = len(query) * _SMALLEST
    if similarity is Similarity.COSINE:
        return result, relative + underflow / snapshot.shortest
    if similarity is Similarity.DOT_PRODUCT:
        return result, relative * (1 + length * snapshot.longest) + underflow * length
    return result, relative * (1 + 2 * length * snapshot.longest) + 2 * underflow * length


def _estimate(
    dots: NDArray[np.float64], squares: NDArray[np.float64], length: float, similarity: Similarity
) -> NDArray[np.float64]:
    """Return estimated scores for dot products with a query that was scaled to length 1 from the given length."""
    if similarity is Similarity.COSINE:
        return _cosine_score(dots, squares)
    if similarity is Similarity.DOT_PRODUCT:
        return _dot_product_score(dots * length)
    return _euclidean_score(np.maximum(squares + length**2 - 2 * length * dots, 0))


def _leave_out_invisible(scores: NDArray[np.float32], snapshot: Snapshot) -> None:
    if snapshot.visible is not None:
        np.copyto(scores, ABSENT, where=~snapshot.visible)


class _Rescoring:
    """Scores rows of a ranking exactly, from the vectors that the namespace holds by now.

    An open query keeps no vectors in memory while records are rewritten: nothing that a slot holds changes before the
    slots are numbered anew, and all rows of the ranking are scored just before that. If the namespace is deleted, its
    rows keep their estimates, but then none of them is delivered any more.

    Args:
        snapshot: The rows of the ranking.
        exact: Scores vectors by the query.
        estimates: The estimated score of every slot of the snapshot, float32 (slots,).

    Attributes:
        settled: The exact score of every slot of the snapshot, float32 (slots,), once the vectors are not needed any
            more; `None` until then.
    """

    def __init__(self, snapshot: Snapshot, exact: ExactScores, estimates: NDArray[np.float32]) -> None:
        self.settled: NDArray[np.float32] | None = None
        self._layout = snapshot.layout
        self._owner = snapshot.owner
        self._exact = exact
        self._estimates = estimates
        owner = snapshot.owner()
        if owner is None or not owner.watch(self, snapshot.layout):
            self.settle(snapshot)

    def settle(self, snapshot: Snapshot) -> None:
        """Score all slots exactly, so that the vectors are not needed any more; see `nextk.engine.columns.Settles`."""
        self.settled = self._exact.of_all(snapshot, len(self._estimates))

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores, float32 (n,), of slots of the snapshot, int64 (n,)."""
        owner = self._owner()
        now = None if owner is None else owner.snapshot
        if now is not None and now.layout is self._layout:
            return self._exact.of(now, positions)
        return (self._estimates if self.settled is None else self.settled)[positions]
