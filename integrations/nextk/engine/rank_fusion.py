"""Hybrid search by RRF that computes no exact rank before the fused order needs it.

The rank of a row in the dense list depends on the exact scores of all rows. Estimated scores bound it, and the bounds
on the ranks in both lists bound the fused scores. Rows are fused exactly in the order of these bounds, by the exact
scores of the rows near by in the dense list, and released once no bound of another row reaches them. If that would take
the exact scores of many rows, those of all rows are computed.
"""

import numpy as np
from numpy.typing import NDArray

from nextk.engine import dense
from nextk.engine.columns import Snapshot
from nextk.engine.fusion import RRF_OFFSET, fused_by_ranks, global_ranks
from nextk.engine.rank_bounds import RankBounds
from nextk.engine.ranking import ABSENT, NO_ROWS, LazyRanking, Ranked, Rescore, descending, ranked
from nextk.engine.schema import Similarity

_SCANNED_PART = 8  # once one row in so many was scored, here and there, those who read on need most of them
_FIRST_CHUNK = 16  # rows to release; each may need the exact scores of a hundred others
_LARGEST_CHUNK, _LARGEST_PART = 1_024, 32  # or such a part of all rows, if that is more
_BEST_MATCHES = 400  # matches of the sparse list that get their exact ranks at once, which costs little
_ROUNDOFF = np.float32(2.0**-26)  # of a few numbers up to 1/30 in float32, with room to spare


def rank_fusion(
    snapshot: Snapshot,
    query: NDArray[np.float32],
    similarity: Similarity,
    matching: NDArray[np.int64],
    matching_scores: NDArray[np.float32],
) -> "LazyRanking | BoundedRanking":
    """Fuse the dense list of all visible rows and a sparse list by RRF, in exact order.

    Args:
        snapshot: The rows to search.
        query: The dense vector of the query, float32 (dimension,).
        similarity: The function that scores two dense vectors.
        matching: The slots of the matches of the sparse list, int64 (m,), ascending.
        matching_scores: Their scores in the sparse list, float32 (m,).

    Returns:
        The rows, best first, sorted only as far as they are read.
    """
    estimates = dense.estimated_scores(snapshot, query, similarity)
    if estimates is None:
        slots, scores = dense.scores(snapshot, query, similarity)
        rows = snapshot.rows if slots is None else snapshot.rows[slots]
        found = matching if slots is None else np.searchsorted(slots, matching)
        return global_ranks(rows, scores, found, matching_scores)
    exact = _ExactFusion(snapshot, dense.ExactScores(query, similarity), *estimates, matching, matching_scores)
    return BoundedRanking(snapshot.rows, exact.upper_bounds(), exact)


def _shares_of(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what rows contribute that have these ranks."""
    return np.asarray(1.0 / (RRF_OFFSET + ranks), np.float64)


class _ExactFusion:
    """Returns the exact fused scores of slots, from the vectors that the namespace holds by now.

    It holds 2 bytes for each slot, 10 for each match of the sparse list, and 512 KiB, until all slots were scored. It
    holds no vectors; see `nextk.engine.columns.Settles`.

    Args:
        snapshot: The rows to search.
        exact: Scores vectors by the dense vector of the query.
        scores: The estimated score of every slot in the dense list, float32 (slots,), and `ABSENT` for those that are
            not visible.
        error: A bound on the error of each of them.
        matching: The slots of the matches of the sparse list, int64 (m,), ascending.
        matching_scores: Their scores in that list, float32 (m,).

    Attributes:
        settled: The exact fused score of every slot, float32 (slots,), once they were all computed; `None` until then.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        exact: dense.ExactScores,
        scores: NDArray[np.float32],
        error: float,
        matching: NDArray[np.int64],
        matching_scores: NDArray[np.float32],
    ) -> None:
        self.settled: NDArray[np.float32] | None = None
        self._rows, self._layout, self._owner = snapshot.rows, snapshot.layout, snapshot.owner
        self._exact = exact
        self._matching, self._matching_scores = matching.astype(np.int32), matching_scores
        self._dense, self._sparse = RankBounds(scores, error), RankBounds(matching_scores, 0.0)
        self._scored = 0  # so many vectors so far, here and there
        owner = snapshot.owner()
        if owner is None or not owner.watch(self, snapshot.layout):
            self.settle(snapshot)

    def settle(self, snapshot: Snapshot) -> None:
        """Fuse all slots exactly, so that the vectors are not needed any more; see `nextk.engine.columns.Settles`."""
        scores = self._exact.of_all(snapshot, len(self._dense))
        np.copyto(scores, ABSENT, where=self._dense.absent())
        self.settled = fused_by_ranks(self._rows, scores, self._matching.astype(np.int64), self._matching_scores)

    def upper_bounds(self) -> NDArray[np.float32]:
        """Return what the fused score of every slot does not exceed, float32 (slots,); `ABSENT` for invisible ones."""
        bounds = self._dense.highest_shares(_shares_of)
        shares = self._sparse.highest_shares(_shares_of)
        best = self._sparse.best(_BEST_MATCHES)
        shares[best] = _shares_of(self._sparse_ranks(best))
        bounds[self._matching] += shares
        bounds += _ROUNDOFF
        np.copyto(bounds, ABSENT, where=self._dense.absent())
        return bounds

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the exact fused scores, float32 (n,), of slots of the snapshot, int64 (n,)."""
        if self.settled is None:
            owner = self._owner()
            now = None if owner is None else owner.snapshot
            if now is None:  # the namespace was deleted, and none of its rows is delivered any more
                return np.zeros(len(positions), np.float32)
            if now.layout is self._layout:
                ranks = self._dense_ranks(now, positions)
                if ranks is not None:
                    return self._fused_at(positions, ranks)
                self.settle(now)
        assert self.settled is not None, "it was settled before the slots were numbered anew"
        return self.settled[positions]

    def _fused_at(self, slots: NDArray[np.int64], dense_ranks: NDArray[np.int64]) -> NDArray[np.float32]:
        shares = _shares_of(dense_ranks)
        if len(self._matching):
            positions = np.minimum(np.searchsorted(self._matching, slots), len(self._matching) - 1)
            match = self._matching[positions] == slots
            shares[match] += _shares_of(self._sparse_ranks(positions[match]))
        return shares.astype(np.float32)

    def _dense_ranks(self, now: Snapshot, slots: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return the exact ranks of slots in the dense list, or `None` if that takes too many vectors."""

        def sort(near: NDArray[np.int64]) -> NDArray[np.int64]:
            self._scored += len(near)
            return near[descending(self._rows[near], self._exact.of(now, near))]

        return self._dense.exact(slots, len(self._dense) // _SCANNED_PART - self._scored, sort)

    def _sparse_ranks(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the exact ranks of positions in the sparse list."""

        def sort(near: NDArray[np.int64]) -> NDArray[np.int64]:
            return near[descending(self._rows[self._matching[near]], self._matching_scores[near])]

        ranks = self._sparse.exact(positions, len(self._sparse), sort)
        assert ranks is not None, "no more than all of them are to be sorted"
        return ranks


class BoundedRanking:
    """Ranked rows that are taken from the front, a few at a time, and scored in the order of bounds on their scores.

    It holds 5 bytes for each position besides the array of rows, which it may share with others, and frees them with
    the last row.

    Args:
        rows: The rows, distinct, int64 (n,).
        bounds: What the score of each position does not exceed, float32 (n,); `ABSENT` leaves it out. The ranking
            changes it.
        exact: Returns the exact scores of positions.
    """

    splits = True

    def __init__(self, rows: NDArray[np.int64], bounds: NDArray[np.float32], exact: Rescore) -> None:
        self._rows, self._bounds = rows, bounds
        self._exact: Rescore | None = exact
        self._known = np.zeros(len(rows), np.bool_)  # whether the bound is the score
        self._left = int(np.count_nonzero(bounds > ABSENT))
        self._ready = NO_ROWS
        self._chunk = _FIRST_CHUNK
        self._largest_chunk = max(_LARGEST_CHUNK, len(rows) // _LARGEST_PART)

    def take(self, count: int) -> Ranked:
        """Take the next `count` rows; fewer if the ranking is nearly exhausted, none once it is."""
        while len(self._ready) < count and self._left:
            self._order_more(count - len(self._ready))
        page, self._ready = self._ready.split(count)
        if not self._left:
            self._rows, self._bounds, self._known = (
                self._rows[:0].copy(),
                self._bounds[:0].copy(),
                self._known[:0].copy(),
            )
            self._exact = None
        return page

    def put_back(self, rows: Ranked) -> None:
        """Return the rows that were taken last to the front of the ranking."""
        self._ready = rows.followed_by(self._ready)

    def _order_more(self, needed: int) -> None:
        """Score some of the rows with the highest bounds, or order some of the rows that are left, or both."""
        self._adopt_settled()
        size = max(needed, self._chunk)
        cut = ABSENT if size >= self._left else np.partition(self._bounds, -size)[-size]
        near = np.flatnonzero(self._bounds >= cut) if cut > ABSENT else np.flatnonzero(self._bounds > ABSENT)
        if self._exact is not None:
            unknown = near[~self._known[near]]
            if len(unknown):
                self._bounds[unknown] = self._exact(unknown)
                self._known[unknown] = True
        positions = near[self._bounds[near] >= cut]  # all others have a lower bound
        if len(positions):
            self._ready = self._ready.followed_by(ranked(self._rows[positions], self._bounds[positions]))
            self._bounds[positions] = ABSENT
            self._left -= len(positions)
            self._chunk = min(2 * size, self._largest_chunk)

    def _adopt_settled(self) -> None:
        """Go on with the scores of all rows, if they were all computed."""
        if self._exact is not None and self._exact.settled is not None:
            left = self._bounds > ABSENT
            np.copyto(self._bounds, self._exact.settled, where=left)
            self._exact = None
