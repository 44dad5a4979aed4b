"""A ranking that is sorted only as far as it is read.

Everything in the engine is ordered by the float32 score, highest first, and rows of equal score by their number, which
is the order of insertion.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_FIRST_CHUNK = 64


class Ranked(NamedTuple):
    """Rows, int64 (n,), best first, with their scores, float32 (n,). The length is the number of rows."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:  # the number of rows, not of fields
        return len(self.rows)

    def followed_by(self, other: "Ranked") -> "Ranked":
        """Return these rows followed by the rows of `other`."""
        return Ranked(np.concatenate([self.rows, other.rows]), np.concatenate([self.scores, other.scores]))

    def split(self, count: int) -> tuple["Ranked", "Ranked"]:
        """Return the first `count` rows, and the others."""
        return Ranked(self.rows[:count], self.scores[:count]), Ranked(self.rows[count:], self.scores[count:])


def ranked(rows: NDArray[np.int64], scores: NDArray[np.float32]) -> Ranked:
    """Sort rows by score, highest first, then by row.

    Args:
        rows: The rows, int64 (n,), in any order.
        scores: The score of each row, float32 (n,).
    """
    order = np.lexsort((rows, -scores))
    return Ranked(rows[order], scores[order])


class LazyRanking:
    """Ranked rows that are taken from the front, a few at a time.

    Sorting is lazy: a partition, which takes linear time, cuts off a chunk of the best rows, and every chunk is twice
    as large as the one before. The scores that decide the cut may be estimates with a known bound on their error. In
    that case all rows that could belong to the chunk are scored exactly, and those that certainly precede all other
    rows are released in exact order.

    Args:
        rows: The rows, int64 (n,), in any order.
        estimates: An estimate of the score of each row, float (n,).
        error: The largest difference between an estimate and the exact float32 score of its row.
        rescore: Returns the exact float32 scores of the rows at the given positions in `rows`; `None` means that the
            estimates are exact.
    """

    splits = True

    def __init__(
        self,
        rows: NDArray[np.int64],
        estimates: NDArray[np.floating],
        error: float = 0.0,
        rescore: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None,
    ) -> None:
        self._rows = rows
        self._estimates = estimates
        self._error = error
        self._rescore = rescore
        self._unordered = np.arange(len(rows))  # positions in `rows` that are not yet in order
        self._ready = Ranked(rows[:0], np.empty(0, np.float32))  # in order, not yet taken
        self._chunk = _FIRST_CHUNK

    def take(self, count: int) -> Ranked:
        """Take the next `count` rows; fewer if the ranking is nearly exhausted, none once it is."""
        while len(self._ready) < count and len(self._unordered):
            self._order_more(count - len(self._ready))
        page, self._ready = self._ready.split(count)
        if not len(self._unordered):
            self._release()
        return page

    def put_back(self, rows: Ranked) -> None:
        """Return the rows that were taken last to the front of the ranking."""
        self._ready = rows.followed_by(self._ready)

    def _order_more(self, needed: int) -> None:
        size = max(needed, self._chunk)
        self._chunk = 2 * size
        near, safe_from = np.ones(len(self._unordered), np.bool_), -np.inf
        if size < len(near):
            estimates = self._estimates[self._unordered]
            cut = float(np.partition(estimates, -size)[-size])
            near = estimates >= cut - 2 * self._error
            # Every row left out has an estimate below `cut - 2 error`, so an exact score below this:
            safe_from = cut - self._error
        positions = self._unordered[near]
        scores = self._exact(positions)
        safe = scores.astype(np.float64) >= safe_from  # in float32 the bound itself would be rounded
        self._ready = self._ready.followed_by(ranked(self._rows[positions[safe]], scores[safe]))
        near[near] = safe
        self._unordered = self._unordered[~near]

    def _release(self) -> None:
        """Free all memory but the rows that are ready, because an open query may outlive its last row for an hour."""
        self._rows, self._estimates, self._rescore = self._rows[:0].copy(), self._estimates[:0].copy(), None
        self._unordered = self._unordered.copy()
        if not len(self._ready):
            self._ready = Ranked(self._ready.rows.copy(), self._ready.scores.copy())

    def _exact(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._estimates[positions].astype(np.float32) if self._rescore is None else self._rescore(positions)
