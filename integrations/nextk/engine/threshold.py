"""Hybrid search by DBSF that reads both ranked lists no deeper than the fused order needs: the threshold algorithm.

Both lists are read in order, and whatever one of them brings is scored in the other one at once. A row that neither has
brought yet scores at most the sum of what both have brought last, the threshold (Fagin, Lotem and Naor: Optimal
aggregation algorithms for middleware, 2003). So a row that scores more precedes all that are still to come.

The lists are read in chunks whose sizes depend on nothing but how much was read before. So even if the dense list is
not quite in order, the fused order does not depend on the sizes of the pages. A row that the dense list brings late may
come late, after rows of lower scores, but it comes once.
"""

import numpy as np
from numpy.typing import NDArray

from nextk.engine.columns import Snapshot
from nextk.engine.dense import ExactScores
from nextk.engine.fusion import STATISTICS_WINDOW, FrozenScale, Order
from nextk.engine.ranking import NO_ROWS, LazyRanking, Ranked, ranked

_FIRST_MATCHES = 256  # of the sparse list, which is read in much smaller chunks, because each row costs a dense score
_MATCHES_PER_ROW = 4  # so many matches are read for each row of the dense list, whose rows cost more


class ThresholdOrder:
    """The rows of a dense list, some of which are matches of a sparse list too, by the fused scores of DBSF.

    Until the dense list is read to its end, it holds 12 bytes for each row that was read but not taken, and what the
    two lists hold.

    Args:
        dense: The dense list, which has all rows. Nothing was taken from it yet.
        matches: The sparse list.
    """

    splits = True

    def __init__(self, dense: Order, matches: "SparseMatches") -> None:
        self._dense = dense
        self._matches = matches
        self._scale: FrozenScale | None = None
        self._rows_read = 0
        self._bound = np.inf  # on the contribution of a row that the dense list is still to bring
        self._exhausted = False
        self._waiting = NO_ROWS  # in order; rows that are still to come may precede them
        self._ready = NO_ROWS

    def take(self, count: int) -> Ranked:
        """Take the next `count` rows; fewer if the order is nearly exhausted, none once it is."""
        while len(self._ready) < count and not self._exhausted:
            self._release(self._read_more())
        page, self._ready = self._ready.split(count)
        if not len(self._ready):
            self._ready = NO_ROWS
        return page

    def put_back(self, rows: Ranked) -> None:
        """Return the rows that were taken last to the front of the order."""
        self._ready = rows.followed_by(self._ready)

    def _read_more(self) -> Ranked:
        """Read a chunk of one of the lists, and return those of its rows that are new with their fused scores."""
        if self._scale is not None and self._matches.left and self._matches.read < _MATCHES_PER_ROW * self._rows_read:
            return self._matches.take(self._scale)
        size = max(STATISTICS_WINDOW, self._rows_read)
        chunk = self._dense.take(size)
        if self._scale is None:
            self._scale = FrozenScale.of(chunk.scores)
        self._rows_read += len(chunk)
        shares = self._scale(chunk.scores)
        if not len(chunk):
            self._exhausted = True
        else:
            self._bound = min(self._bound, float(shares[-1]))
        return self._matches.added_to(chunk.rows, shares)

    def _release(self, fused: Ranked) -> None:
        """Let rows wait, and release those that precede all that are still to come."""
        if len(fused):
            self._waiting = ranked(*self._waiting.followed_by(fused))
        if self._exhausted:
            end = len(self._waiting)
        else:
            threshold = np.float32(self._bound + self._matches.bound)
            end = int(np.searchsorted(-self._waiting.scores, -threshold))  # equal ones may have to make way for another
        released, waiting = self._waiting.split(end)
        if len(released):
            self._ready = self._ready.followed_by(released)
            self._waiting = NO_ROWS.followed_by(waiting)  # a copy, because the rows that are released need memory


class SparseMatches:
    """The matches of a sparse list that contribute to the fused scores, which the others do not change.

    It holds 21 bytes for each of them, and no vectors: those that the namespace has by then are read. They do not
    change before the slots are numbered anew, and all matches are scored just before that.

    Args:
        snapshot: The rows to search.
        exact: Scores vectors by the dense vector of the query.
        slots: The slots of the matches, int64 (m,), ascending.
        scores: Their scores in the sparse list, float32 (m,).

    Attributes:
        read: The number of matches that were read, in the order of their scores.
        bound: What a match contributes that is still to be read, at most; 0 if there are none.
        settled: The dense score of each match, float32 (m,), once the vectors are not needed any more; `None` until
            then.
    """

    def __init__(
        self, snapshot: Snapshot, exact: ExactScores, slots: NDArray[np.int64], scores: NDArray[np.float32]
    ) -> None:
        self._scale = FrozenScale.of(_best(scores))
        contributes = self._scale(scores) > 0
        slots, scores = slots[contributes], scores[contributes]
        rows = snapshot.rows[slots]
        if bool((rows[1:] < rows[:-1]).any()):
            order = np.argsort(rows)
            rows, slots, scores = rows[order], slots[order], scores[order]
        self._rows, self._slots, self._scores = rows, slots.astype(np.int32), scores
        self._fused = np.zeros(len(rows), np.bool_)
        self._order = LazyRanking(rows, scores.copy())
        self.read = 0
        self.bound = float(self._scale(scores.max(keepdims=True))[0]) if len(scores) else 0.0
        self.settled: NDArray[np.float32] | None = None
        self._exact = exact
        self._layout = snapshot.layout
        self._owner = snapshot.owner
        owner = snapshot.owner()
        if len(rows) and (owner is None or not owner.watch(self, snapshot.layout)):
            self.settle(snapshot)

    @property
    def left(self) -> bool:
        """Whether there are matches that were not read yet."""
        return self.read < len(self._rows)

    def settle(self, snapshot: Snapshot) -> None:
        """Score all matches exactly, so that the vectors are not needed any more; see `nextk.engine.columns.Settles`.

        Args:
            snapshot: The slots as they are just before they are numbered anew.
        """
        if self.left:
            self.settled = self._exact.of(snapshot, self._slots.astype(np.int64))

    def take(self, scale: FrozenScale) -> Ranked:
        """Read the next matches, and return those that `added_to` has not brought yet, with their fused scores.

        Args:
            scale: The contributions of dense scores.
        """
        chunk = self._order.take(max(_FIRST_MATCHES, self.read))
        positions = np.searchsorted(self._rows, chunk.rows)
        positions = positions[~self._fused[positions]]
        self._fused[positions] = True
        shares = scale(self._dense_scores(positions)) + self._scale(self._scores[positions])
        self.read += len(chunk)
        self.bound = float(self._scale(chunk.scores[-1:])[0]) if self.left else 0.0
        if not self.left:
            self.settled = None
        return Ranked(self._rows[positions], shares.astype(np.float32))

    def added_to(self, rows: NDArray[np.int64], shares: NDArray[np.float64]) -> Ranked:
        """Return rows of the dense list with their fused scores, but for those that `take` has brought already.

        Args:
            rows: The rows, int64 (n,).
            shares: What the dense list contributes to each of them, float64 (n,).
        """
        positions = np.minimum(np.searchsorted(self._rows, rows), max(0, len(self._rows) - 1))
        match = self._rows[positions] == rows if len(self._rows) else np.zeros(len(rows), np.bool_)
        matching = positions[match]
        new = np.ones(len(rows), np.bool_)
        new[match] = ~self._fused[matching]
        shares[match] += self._scale(self._scores[matching])
        self._fused[matching] = True
        return Ranked(rows, shares.astype(np.float32)).where(new)

    def _dense_scores(self, positions: NDArray[np.intp]) -> NDArray[np.float32]:
        owner = self._owner()
        now = None if owner is None else owner.snapshot
        if now is not None and now.layout is self._layout:
            return self._exact.of(now, self._slots[positions].astype(np.int64))
        if self.settled is None:  # the namespace was deleted, and none of its rows is delivered any more
            return np.zeros(len(positions), np.float32)
        return self.settled[positions]


def _best(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the best 1,000 scores, or all if they are fewer, best first."""
    best = np.partition(scores, -STATISTICS_WINDOW)[-STATISTICS_WINDOW:] if len(scores) > STATISTICS_WINDOW else scores
    return np.sort(best)[::-1]
