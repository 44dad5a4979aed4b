"""Hybrid search: fuse two ranked lists, the legs, into one.

The formulas are those of protocol §5.3. The two orders differ in the lists to which they apply them. A *global* order
fuses the full lists once, so it never depends on the sizes of the pages. A *batch* order fuses only the candidates of
the current page, as the hosted service does (protocol §4.6).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from nextk.engine.ranking import ABSENT, NO_ROWS, LazyRanking, Ranked, descending, ranked
from nextk.types import FusionAlgorithm

RRF_OFFSET = 60

STATISTICS_WINDOW = 1_000
"""The number of the best rows of a full list from which its mean and deviation are taken."""

Contribution = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""Maps the scores of a leg, best first, to what each of its rows contributes to the fused score, float64 (n,)."""


class Order(Protocol):
    """Ranked rows, best first, that are taken a few at a time.

    Attributes:
        splits: Whether taking rows in two steps gives the same rows as taking them in one. Then rows may be put back.
    """

    splits: bool

    def take(self, count: int) -> Ranked:
        """Take the next `count` rows; fewer if the order is nearly exhausted, none once it is."""
        ...

    def put_back(self, rows: Ranked) -> None:
        """Return the rows that were taken last to the front. Only allowed if `splits` is true."""
        ...


def reciprocal_ranks(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the contributions of RRF (reciprocal rank fusion): `1 / (60 + rank)`, with ranks counted from 0."""
    return 1.0 / (RRF_OFFSET + np.arange(len(scores)))


def standard_scores(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the contributions of DBSF (distribution-based score fusion) for a list of candidates.

    A score that lies 3 sample deviations below the mean contributes 0, one that lies 3 above it contributes 1. The
    contribution is linear between the two and beyond them, without clamping. If all scores are equal it is 0.5.
    """
    wide = scores.astype(np.float64)
    centre, spread = _spread(wide)
    if spread == 0:
        return np.full(len(wide), 0.5)
    return (wide - (centre - 3 * spread)) / (6 * spread)


@dataclass(frozen=True, slots=True)
class FrozenScale:
    """The contributions of DBSF for a full list.

    No contribution is negative, so that no row counts as worse than an absent one.

    Attributes:
        centre: The mean of the scores of the best rows.
        spread: The deviation of them.
    """

    centre: float
    spread: float

    @classmethod
    def of(cls, best: NDArray[np.float32]) -> Self:
        """Return the scale of a list by the scores of its best `STATISTICS_WINDOW` rows, best first."""
        return cls(*_spread(best.astype(np.float64)))

    def __call__(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what rows contribute by their scores, float32 (n,), in any order."""
        wide = scores.astype(np.float64)
        if self.spread == 0:
            return np.where(wide >= self.centre, 0.5, 0.0)
        return np.maximum((wide - (self.centre - 3 * self.spread)) / (6 * self.spread), 0.0)


def _spread(scores: NDArray[np.float64]) -> tuple[float, float]:
    if len(scores) == 0 or scores[0] == scores[-1]:  # sorted, so all are equal, and rounding must not say otherwise
        return (float(scores[0]) if len(scores) else 0.0), 0.0
    return float(scores.mean()), float(scores.std(ddof=1))


_BATCH = {FusionAlgorithm.RRF: reciprocal_ranks, FusionAlgorithm.DBSF: standard_scores}


def fuse(legs: Sequence[Ranked], contribution: Contribution) -> Ranked:
    """Add up the contributions of the legs to each row. A leg that lacks the row contributes nothing.

    Args:
        legs: The ranked lists, each in order and without repeated rows.
        contribution: Returns what each row of a leg contributes.

    Returns:
        All rows of all legs, best first. The sums are taken in float64 and rounded to float32 once.
    """
    rows = np.concatenate([leg.rows for leg in legs])
    shares = np.concatenate([contribution(leg.scores) for leg in legs])
    distinct, positions = np.unique(rows, return_inverse=True)
    return ranked(distinct, np.bincount(positions, shares, len(distinct)).astype(np.float32))


def global_ranks(
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    matching: NDArray[np.int64],
    matching_scores: NDArray[np.float32],
) -> LazyRanking:
    """Fuse two full lists into one order by RRF, which does not depend on the sizes of the pages.

    The arguments are those of `fused_by_ranks`.
    """
    return LazyRanking(rows, fused_by_ranks(rows, scores, matching, matching_scores))


def fused_by_ranks(
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    matching: NDArray[np.int64],
    matching_scores: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the score of each row by RRF over two full lists, float32 (n,).

    Args:
        rows: The rows, int64 (n,), in any order.
        scores: The score of each row in the first list, float32 (n,); `ABSENT` leaves the row out of both lists.
        matching: The positions of the rows of the second list, int64 (m,).
        matching_scores: Their scores in the second list, float32 (m,).
    """
    fused = _reciprocal_ranks(rows, scores)
    fused[matching] += _reciprocal_ranks(rows[matching], matching_scores)
    rounded = fused.astype(np.float32)
    np.copyto(rounded, ABSENT, where=scores == ABSENT)
    return rounded


def _reciprocal_ranks(rows: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the contributions of RRF for a list in any order."""
    shares = np.empty(len(rows), np.float64)
    shares[descending(rows, scores)] = reciprocal_ranks(scores)
    return shares


@dataclass(slots=True)
class _Leg:
    """The ranked list of one component, and the rows that were read from it but not yet returned by any page."""

    source: LazyRanking
    waiting: Ranked = NO_ROWS
    dropped: Ranked | None = None  # the rows that were dropped since the mark

    def best(self, count: int, returned: set[int]) -> Ranked:
        """Return the best `count` rows of the list that no page has returned yet."""
        while len(self.waiting) < count:
            more = self.source.take(count - len(self.waiting))
            if not len(more):
                break
            self.waiting = self.waiting.followed_by(more)
            self.drop(returned)
        return Ranked(self.waiting.rows[:count], self.waiting.scores[:count])

    def drop(self, returned: set[int]) -> None:
        """Remove the rows that a page has returned, whichever list they came from."""
        kept = np.array([row not in returned for row in self.waiting.rows.tolist()], np.bool_)
        if self.dropped is not None:
            self.dropped = self.dropped.followed_by(self.waiting.where(~kept))
        self.waiting = self.waiting.where(kept)

    def rewind(self, returned: set[int]) -> None:
        """Let the rows wait again that were dropped since the mark, but for those that a page has returned."""
        assert self.dropped is not None, "it was marked"
        self.waiting, self.dropped = ranked(*self.waiting.followed_by(self.dropped)), NO_ROWS
        self.drop(returned)


class BatchOrder:
    """An order in which every page fuses its own candidates.

    A page of `k` rows fuses the best `k` rows that are left in each list, returns the best `k` of the fused rows, and
    puts the others back.

    Args:
        legs: The ranked list of each component.
        algorithm: The fusion algorithm.
        depth: The candidates that every page takes from each list, at least. A one-shot query takes more candidates
            than it returns.
    """

    splits = False  # the size of a page decides how it is fused

    def __init__(self, legs: Sequence[LazyRanking], algorithm: FusionAlgorithm, depth: int = 0) -> None:
        self._legs = [_Leg(leg) for leg in legs]
        self._contribution = _BATCH[algorithm]
        self._depth = depth
        self._returned: set[int] = set()
        self._since_mark: set[int] = set()  # the rows that were returned since the mark

    def take(self, count: int) -> Ranked:
        """Fuse the best candidates that are left and return the best `count` of them."""
        deep = max(count, self._depth)
        fused = fuse([leg.best(deep, self._returned) for leg in self._legs], self._contribution)
        page = Ranked(fused.rows[:count], fused.scores[:count])
        self._returned.update(page.rows.tolist())
        self._since_mark.update(page.rows.tolist())
        for leg in self._legs:
            leg.drop(self._returned)
        return page

    def put_back(self, rows: Ranked) -> None:
        """Raise `NotImplementedError`: rows cannot be put back, because the size of a page decides how it is fused."""
        raise NotImplementedError

    def mark(self) -> None:
        """Remember this position, in the place of the one that was remembered before."""
        self._since_mark.clear()
        for leg in self._legs:
            leg.dropped = NO_ROWS

    def rewind(self) -> None:
        """Return to the position that `mark` has remembered, as if nothing had been taken since."""
        self._returned -= self._since_mark
        self._since_mark.clear()
        for leg in self._legs:
            leg.rewind(self._returned)
