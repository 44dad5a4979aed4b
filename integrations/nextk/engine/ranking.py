"""An order that is worked out only as far as it is read.

The order of everything in the engine is: score as float32, highest first; then row, which is the order of insertion.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_FIRST_CHUNK = 64


class Ranked(NamedTuple):
    """Rows best first, int64 (n,), and their scores, float32 (n,)."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:  # the number of rows, not of fields
        return len(self.rows)

    def followed_by(self, other: "Ranked") -> "Ranked":
        """These rows, then those."""
        return Ranked(np.concatenate([self.rows, other.rows]), np.concatenate([self.scores, other.scores]))

    def split(self, count: int) -> tuple["Ranked", "Ranked"]:
        """The first `count` rows, and the others."""
        return Ranked(self.rows[:count], self.scores[:count]), Ranked(self.rows[count:], self.scores[count:])


def ranked(rows: NDArray[np.int64], scores: NDArray[np.float32]) -> Ranked:
    """Sort by the engine's order."""
    order = np.lexsort((rows, -scores))
    return Ranked(rows[order], scores[order])


class LazyRanking:
    """Rows in order, taken from the front a few at a time.

    Sorting is lazy: a chunk is cut off with a partition, in linear time, and chunks double. The scores to cut by may be
    approximate, with a known bound on their error: then the rows that could belong to the chunk are scored exactly, and
    those that surely precede all others are let go.

    Args:
        rows: int64 (n,).
        estimates: A score for each, float (n,).
        error: No estimate is further than this from its row's exact score, as float32.
        rescore: Gives the exact float32 scores of places in `rows`; `None` where the estimates are exact.
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
        self._left = np.arange(len(rows))  # places that are not yet in order
        self._ready = Ranked(rows[:0], np.empty(0, np.float32))  # in order, not yet taken
        self._chunk = _FIRST_CHUNK

    def take(self, count: int) -> Ranked:
        """The next `count` rows; fewer at the end, none after it."""
        while len(self._ready) < count and len(self._left):
            self._order_more(count - len(self._ready))
        page, self._ready = self._ready.split(count)
        if not len(self._left):
            self._release()
        return page

    def put_back(self, rows: Ranked) -> None:
        """Return rows that were taken last: they come first again."""
        self._ready = rows.followed_by(self._ready)

    def _order_more(self, needed: int) -> None:
        size = max(needed, self._chunk)
        self._chunk = 2 * size
        near, safe_from = np.ones(len(self._left), np.bool_), -np.inf
        if size < len(near):
            estimates = self._estimates[self._left]
            cut = float(np.partition(estimates, -size)[-size])
            near = estimates >= cut - 2 * self._error
            # Every row left out has an estimate below `cut - 2 error`, so an exact score below this:
            safe_from = cut - self._error
        positions = self._left[near]
        scores = self._exact(positions)
        safe = scores.astype(np.float64) >= safe_from  # in float32 the bound itself would be rounded
        self._ready = self._ready.followed_by(ranked(self._rows[positions[safe]], scores[safe]))
        near[near] = safe
        self._left = self._left[~near]

    def _release(self) -> None:
        """Let go of everything but what is ready: an open query may outlive its last row for an hour."""
        self._rows, self._estimates, self._rescore = self._rows[:0].copy(), self._estimates[:0].copy(), None
        self._left = self._left.copy()
        if not len(self._ready):
            self._ready = Ranked(self._ready.rows.copy(), self._ready.scores.copy())

    def _exact(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._estimates[positions].astype(np.float32) if self._rescore is None else self._rescore(positions)
