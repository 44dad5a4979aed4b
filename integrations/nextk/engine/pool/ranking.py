"""A dense ranking by a pool of candidates, which grows with the rows that are taken from it.

Codes find a pool of slots, all of them are scored exactly, and at most a quarter of them, the best, are released. If
many of these stand far back in the pool, others of their kind may stand outside of it, so fewer are released. Once
more are needed, the pool gets four times as large. Once it would hold a quarter of all rows, all rows that are left are
ranked by the exact scan.

So every row comes once, with its exact score, and the rows that are taken at once are in order. A row that no pool held
in time comes late: after rows that were taken earlier, although its score is higher.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nextk.engine import dense
from nextk.engine.columns import Snapshot
from nextk.engine.pool.codes import VisibleSlots, can_be_coded
from nextk.engine.pool.protocol import PoolCodes
from nextk.engine.ranking import ABSENT, LazyRanking, Ranked, descending, ranked
from nextk.engine.schema import Similarity

FIRST_POOL = 1_000
"""The number of candidates in the first pool of a search by good codes."""

GATHERED_PART = 16
"""If fewer than one slot in so many is visible, they are scored without a pool."""

UNCODED_PART = 16
"""If more than one slot in so many has no code, all slots are scored without a pool."""

_GROWTH = 4  # every pool is so many times as large as the one before
_RELEASED_PART = 4  # one candidate in so many is released
_SCANNED_PART = 4  # a pool that would hold more than one row in so many costs as much as the exact scan
_TAIL = 0.02  # of the rows that are released, so many may stand in the second half of the pool
_FIRST_ROWS = 100  # whether the first pool suffices for these tells how good the codebook is
_LONGEST_QUERY = 1e15


def pool_ranking(
    snapshot: Snapshot, query: NDArray[np.float32], similarity: Similarity, codes: PoolCodes
) -> "PoolRanking | LazyRanking":
    """Rank all visible rows by their similarity to the query, by a pool where that takes less time.

    Args:
        snapshot: The rows to search.
        query: The dense vector of the query, float32 (dimension,).
        similarity: The function that scores two vectors.
        codes: The codes of the slots, or of the first of them.

    Returns:
        The rows, best first, sorted only as far as they are read.
    """
    if _pool_pays(snapshot, similarity, codes) and _is_usual(query, similarity):
        return PoolRanking(snapshot, query, similarity, codes)
    return dense.ranking(snapshot, query, similarity)


def _pool_pays(snapshot: Snapshot, similarity: Similarity, codes: PoolCodes) -> bool:
    total = len(snapshot.rows)
    if not can_be_coded(snapshot, similarity) or (total - len(codes)) * UNCODED_PART > total:
        return False
    return snapshot.count * GATHERED_PART >= total and snapshot.count >= _SCANNED_PART * FIRST_POOL * codes.pool_factor


def _is_usual(query: NDArray[np.float32], similarity: Similarity) -> bool:
    """Return whether codes can tell which vectors are near to a query."""
    wide = query.astype(np.float64)
    length = float(np.sqrt(np.vecdot(wide, wide)))
    if similarity is Similarity.EUCLIDEAN:
        return length < _LONGEST_QUERY
    return 0 < length < np.inf


class PoolRanking:
    """Ranked rows that are taken from the front, a few at a time, out of a pool of candidates.

    It holds 8 bytes for each candidate, and a bit for each slot if some slots are not visible, until the exact scan. It
    holds no vectors: those that the namespace has by then are read. They do not change before the slots are numbered
    anew, and all rows are scored just before that.

    Args:
        snapshot: The rows to search.
        query: The dense vector of the query, float32 (dimension,).
        similarity: The function that scores two vectors.
        codes: The codes of the slots, or of the first of them.

    Attributes:
        settled: The exact score of every slot of the snapshot, float32 (slots,), once the vectors are not needed any
            more; `None` until then.
    """

    splits = True

    def __init__(
        self, snapshot: Snapshot, query: NDArray[np.float32], similarity: Similarity, codes: PoolCodes
    ) -> None:
        self.settled: NDArray[np.float32] | None = None
        self._query = query
        self._similarity = similarity
        self._exact = dense.ExactScores(query, similarity)
        self._codes: PoolCodes | None = codes
        self._rows = snapshot.rows
        self._visible = VisibleSlots(snapshot)
        self._layout = snapshot.layout
        self._owner = snapshot.owner
        self._first_size = FIRST_POOL * codes.pool_factor
        self._size = 0  # of the pool
        self._slots = np.empty(0, np.int32)  # those that were taken, in that order, and then the others, best first
        self._scores = np.empty(0, np.float32)
        self._taken, self._released = 0, 0  # so many of the slots
        self._scan: LazyRanking | None = None
        owner = snapshot.owner()
        if owner is None or not owner.watch(self, snapshot.layout):
            self.settle(snapshot)

    def settle(self, snapshot: Snapshot) -> None:
        """Score all slots exactly, so that the vectors are not needed any more; see `nextk.engine.columns.Settles`."""
        if self._scan is None:  # or else the scan settles what it needs itself
            self.settled = self._exact.of_all(snapshot, len(self._rows))
            self._codes = None

    def take(self, count: int) -> Ranked:
        """Take the next `count` rows; fewer if the ranking is nearly exhausted, none once it is."""
        end = self._taken + count
        while self._scan is None and self._released < end:
            self._grow(end)
        if self._scan is None:
            chosen = slice(self._taken, end)
            self._taken = end
            page = Ranked(self._rows[self._slots[chosen]], self._scores[chosen])
        else:
            page = self._scan.take(count)
            if bool((page.scores[1:] > page.scores[:-1]).any()):  # some had come from the pool, and were put back
                page = ranked(page.rows, page.scores)
        return page

    def put_back(self, rows: Ranked) -> None:
        """Return the rows that were taken last to the front of the ranking."""
        if self._scan is not None:
            self._scan.put_back(rows)
            return
        self._taken -= len(rows)
        self._order(self._slots[self._taken :], self._scores[self._taken :])

    def _grow(self, wanted: int) -> None:
        """Take a larger pool, from which `wanted` rows may be released, or begin the exact scan."""
        codes, now, former = self._codes, self._now(), self._size
        self._size = _GROWTH * former or self._first_size
        while self._size < _RELEASED_PART * wanted:
            self._size *= _GROWTH
        if codes is None or not codes.usable or now is None or _SCANNED_PART * self._size > self._visible.count:
            self._begin_scan(now)
            return
        found, coded = codes.nearest(self._query, self._size, self._visible)
        uncoded = coded + np.flatnonzero(self._visible.mask(coded)) if coded < len(self._rows) else found[:0]
        slots = np.concatenate([found, uncoded])
        is_back = np.arange(len(slots)) >= self._size // 2
        is_back[len(found) :] = False  # these are all that there are
        new = self._are_new(slots)
        slots = slots[new]
        scores = self._exact.of(now, slots)
        left, left_scores = self._slots[self._taken :], self._scores[self._taken :]
        order = self._order(np.concatenate([left, slots.astype(np.int32)]), np.concatenate([left_scores, scores]))
        is_back = np.concatenate([np.zeros(len(left), np.bool_), is_back[new]])[order]
        most = self._size // _RELEASED_PART
        self._released = self._taken + _longest_start(is_back, self._taken, most)
        if not former:
            codes.note_search(widened=self._released < min(_FIRST_ROWS, most, len(is_back)))

    def _are_new(self, slots: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each of some slots was in no pool before."""
        known = np.zeros(len(self._rows), np.bool_)
        known[self._slots] = True
        return ~known[slots]

    def _order(self, slots: NDArray[np.int32], scores: NDArray[np.float32]) -> NDArray[np.int64]:
        """Sort slots that were not taken yet and put them behind those that were; return their order."""
        order = descending(self._rows[slots], scores)
        self._slots = np.concatenate([self._slots[: self._taken], slots[order]])
        self._scores = np.concatenate([self._scores[: self._taken], scores[order]])
        return order

    def _now(self) -> Snapshot | None:
        """Return the slots as they are now, or `None` if they were numbered anew or are gone."""
        owner = self._owner()
        now = None if owner is None else owner.snapshot
        return now if now is not None and now.layout is self._layout else None

    def _begin_scan(self, now: Snapshot | None) -> None:
        """Rank all rows that were not taken yet by their exact scores."""
        left, total = self._visible.mask(), len(self._rows)
        left[self._slots[: self._taken]] = False
        if now is not None:
            assert now.matrix is not None
            snapshot = replace(
                now,
                frequencies={},
                rows=self._rows,
                visible=left,
                count=self._visible.count - self._taken,
                matrix=now.matrix.first(total),
                squares=now.squares[:total],
            )
            self._scan = dense.ranking(snapshot, self._query, self._similarity)
        elif self.settled is not None:
            self._scan = LazyRanking(self._rows, np.where(left, self.settled, ABSENT))
        else:  # the namespace was deleted, and none of its rows is delivered any more
            self._scan = LazyRanking(self._rows[:0], self._scores[:0])
        self._release()

    def _release(self) -> None:
        """Free all memory that only the pool needed."""
        self.settled = None
        self._rows, self._slots, self._scores = self._rows[:0].copy(), self._slots[:0].copy(), self._scores[:0].copy()
        self._codes = None
        del self._visible


def _longest_start(is_back: NDArray[np.bool_], taken: int, most: int) -> int:
    """Return how many candidates may be released: as many as possible, if few of them stand in the back of the pool.

    Args:
        is_back: Whether each of the candidates that were not taken, best first, stands in the back of the pool.
        taken: The number of rows that were taken, none of which counts as one that stands in the back.
        most: The largest number of rows to release, those that were taken among them.
    """
    candidates = is_back[: max(0, most - taken)]
    allowed = np.cumsum(candidates) <= _TAIL * (taken + 1 + np.arange(len(candidates)))
    good = np.flatnonzero(allowed)
    return int(good[-1]) + 1 if len(good) else 0
