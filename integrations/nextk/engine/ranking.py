"""A ranking that is sorted only as far as it is read.

Everything in the engine is ordered by the float32 score, highest first, and rows of equal score by their number, which
is the order of insertion.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

ABSENT = np.float32(-np.inf)
"""The score of a position that is not part of a ranking. No row has it, because scores are finite."""

_SMALLEST_CHUNK, _FIRST_CHUNK = 64, 1_024  # rows; ordering so many costs less than to find them among the others
_FIRST_PART, _LARGEST_PART = 64, 32  # of all rows, the first chunk and the largest one are at most such a part
_LOWEST = float(np.finfo(np.float32).min)


class Rescore(Protocol):
    """Scores rows of a ranking exactly.

    Attributes:
        settled: The exact score of each position, float32 (n,), if all of them were computed meanwhile, or `None`.
            Another thread may set it.
    """

    settled: NDArray[np.float32] | None

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the exact scores, float32 (m,), of positions, int64 (m,)."""
        ...


class Ranked(NamedTuple):
    """Rows, int64 (n,), best first, with their scores, float32 (n,). The length is the number of rows."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:  # the number of rows, not of fields
        return len(self.rows)

    def followed_by(self, other: "Ranked") -> "Ranked":
        """Return these rows followed by the rows of `other`."""
        if not len(self.rows):
            return other
        return Ranked(np.concatenate([self.rows, other.rows]), np.concatenate([self.scores, other.scores]))

    def where(self, chosen: NDArray[np.bool_]) -> "Ranked":
        """Return the rows that are chosen, bool (n,)."""
        return Ranked(self.rows[chosen], self.scores[chosen])

    def split(self, count: int) -> tuple["Ranked", "Ranked"]:
        """Return the first `count` rows, and the others."""
        return Ranked(self.rows[:count], self.scores[:count]), Ranked(self.rows[count:], self.scores[count:])


NO_ROWS = Ranked(np.empty(0, np.int64), np.empty(0, np.float32))


def descending(rows: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the positions of rows in order: by score, highest first, then by row.

    Each score is turned into a whole number that sorts in the opposite way, the position becomes its lower half, and
    numpy sorts such numbers several times faster than it sorts by two keys.

    Args:
        rows: The rows, distinct, int64 (n,), in any order.
        scores: The score of each row, float32 (n,), without NaN.
    """
    by_row = None if bool((rows[1:] > rows[:-1]).all()) else np.argsort(rows)
    bits = np.subtract(0, scores if by_row is None else scores[by_row], dtype=np.float32).view(np.int32)  # no -0.0
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)
    keys <<= 32
    keys |= np.arange(len(rows))
    keys.sort()
    keys &= 0xFFFFFFFF
    return keys if by_row is None else by_row[keys]


def ranked(rows: NDArray[np.int64], scores: NDArray[np.float32]) -> Ranked:
    """Sort rows by score, highest first, then by row.

    Args:
        rows: The rows, distinct, int64 (n,), in any order.
        scores: The score of each row, float32 (n,).
    """
    order = descending(rows, scores)
    return Ranked(rows[order], scores[order])


class LazyRanking:
    """Ranked rows that are taken from the front, a few at a time.

    Sorting is lazy: a partition, which takes linear time, cuts off a chunk of the best rows, and every chunk is twice
    as large as the one before. The scores that decide the cut may be estimates with a known bound on their error. In
    that case all rows that could belong to the chunk are scored exactly, and those that certainly precede all other
    rows are released in exact order.

    It holds 4 bytes for each position besides the array of rows, which it may share with others, and frees them with
    the last row.

    Args:
        rows: The row at each position, distinct, int64 (n,), in any order. It is not changed.
        scores: The score of each row, or an estimate of it; float32 (n,). `ABSENT` leaves the row at that position out.
            The ranking takes the array for itself.
        error: The largest difference between an estimate and the exact float32 score of its row.
        rescore: Returns the exact scores of positions; `None` means that the scores are exact.
    """

    splits = True

    def __init__(
        self,
        rows: NDArray[np.int64],
        scores: NDArray[np.float32],
        error: float = 0.0,
        rescore: Rescore | None = None,
    ) -> None:
        self._rows = rows
        self._scores = scores
        self._error = error
        self._rescore = rescore
        self._left = int(np.count_nonzero(scores > ABSENT))  # those that are not yet in order
        self._ready = Ranked(rows[:0], scores[:0])  # in order, not yet taken
        self._chunk = min(_FIRST_CHUNK, max(_SMALLEST_CHUNK, len(rows) // _FIRST_PART))
        self._largest_chunk = max(_FIRST_CHUNK, len(rows) // _LARGEST_PART)  # what is ready needs memory

    def take(self, count: int) -> Ranked:
        """Take the next `count` rows; fewer if the ranking is nearly exhausted, none once it is."""
        while len(self._ready) < count and self._left:
            self._order_more(count - len(self._ready))
        page, self._ready = self._ready.split(count)
        if not self._left:
            self._release()
        return page

    def put_back(self, rows: Ranked) -> None:
        """Return the rows that were taken last to the front of the ranking."""
        self._ready = rows.followed_by(self._ready)

    def _order_more(self, needed: int) -> None:
        """Order the best of the rows that are left, at least one, and add them to those that are ready."""
        if self._rescore is not None and self._rescore.settled is not None:
            self._score_all()
        size = max(needed, self._chunk)
        self._chunk = min(2 * size, self._largest_chunk)
        near, safe_from = self._cut(size)
        if self._rescore is not None and 2 * len(near) > self._left > size:  # estimates cannot tell most rows apart
            self._score_all()
            near, safe_from = self._cut(size)
        scores = self._scores[near] if self._rescore is None else self._rescore(near)
        safe = scores.astype(np.float64) >= safe_from  # in float32 the bound itself would be rounded
        positions, scores = near[safe], scores[safe]
        ready = ranked(self._rows[positions], scores)
        self._ready = self._ready.followed_by(ready) if len(self._ready) else ready
        self._scores[positions] = ABSENT
        self._left -= len(positions)

    def _cut(self, size: int) -> tuple[NDArray[np.int64], float]:
        """Choose the rows to score exactly, so that the best `size` of those that are left are among them.

        Returns:
            The positions of the rows, ascending, and the score from which a row certainly precedes all others.
        """
        if size >= self._left:
            return np.flatnonzero(self._scores > ABSENT), -np.inf
        cut = float(np.partition(self._scores, -size)[-size])
        # Every row left out has an estimate below `cut - 2 error`, so an exact score below `cut - error`.
        lowest = np.float32(max(cut - 2 * self._error, _LOWEST))
        if self._error and lowest > _LOWEST:  # it was rounded
            lowest = np.nextafter(lowest, ABSENT)
        return np.flatnonzero(self._scores >= lowest), cut - self._error

    def _score_all(self) -> None:
        """Score all rows that are left exactly, and go on without estimates."""
        assert self._rescore is not None
        left = np.flatnonzero(self._scores > ABSENT)
        self._scores[left] = self._rescore(left)
        self._error, self._rescore = 0.0, None

    def _release(self) -> None:
        """Free all memory but the rows that are ready, because an open query may outlive its last row for an hour."""
        self._rows, self._scores, self._rescore = self._rows[:0].copy(), self._scores[:0].copy(), None
        if not len(self._ready):
            self._ready = Ranked(self._ready.rows.copy(), self._ready.scores.copy())
