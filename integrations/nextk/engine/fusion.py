"""Hybrid search: two ranked lists become one.

The mappings are those of protocol §5.3; what differs is which list they are computed over. A *global* order maps the
full lists once, so it never depends on the sizes of the pulls. A *batch* order maps only the candidates of the pull at
hand, as the hosted service does (protocol §4.6).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nextk.engine.ranking import LazyRanking, Ranked, ranked
from nextk.types import FusionAlgorithm

_RRF_OFFSET = 60
_STATISTICS_WINDOW = 1_000  # the best rows of a list, from which its mean and deviation are taken

Mapping = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""From the scores of a list, best first, to what each of its rows contributes; float64, same shape."""


class Order(Protocol):
    """Rows best first, a few at a time.

    Attributes:
        splits: Whether two pulls give what one of their joint size gives, so that rows may be put back.
    """

    splits: bool

    def take(self, count: int) -> Ranked:
        """The next `count` rows; fewer at the end, none after it."""
        ...

    def put_back(self, rows: Ranked) -> None:
        """Return rows that were taken last; only where it `splits`."""
        ...


def reciprocal_ranks(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """RRF: `1 / (60 + rank)`, ranks from 0."""
    return 1.0 / (_RRF_OFFSET + np.arange(len(scores)))


def standard_scores(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """DBSF: where a score lies between mean - 3 and mean + 3 sample deviations, as 0..1, not clamped."""
    wide = scores.astype(np.float64)
    centre, spread = _spread(wide)
    if spread == 0:
        return np.full(len(wide), 0.5)
    return (wide - (centre - 3 * spread)) / (6 * spread)


def frozen_standard_scores(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """DBSF over a full list: the statistics come from its best rows, and no row counts as worse than an absent one."""
    wide = scores.astype(np.float64)
    centre, spread = _spread(wide[:_STATISTICS_WINDOW])
    if spread == 0:
        return np.where(wide >= centre, 0.5, 0.0)
    return np.maximum((wide - (centre - 3 * spread)) / (6 * spread), 0.0)


def _spread(scores: NDArray[np.float64]) -> tuple[float, float]:
    if len(scores) == 0 or scores[0] == scores[-1]:  # in order: all are equal, and rounding must not say otherwise
        return (float(scores[0]) if len(scores) else 0.0), 0.0
    return float(scores.mean()), float(scores.std(ddof=1))


_BATCH = {FusionAlgorithm.RRF: reciprocal_ranks, FusionAlgorithm.DBSF: standard_scores}
_GLOBAL = {FusionAlgorithm.RRF: reciprocal_ranks, FusionAlgorithm.DBSF: frozen_standard_scores}


def fuse(legs: Sequence[Ranked], mapping: Mapping) -> Ranked:
    """Add up, per row, what the legs contribute; a leg that lacks the row contributes nothing.

    Args:
        legs: Each in order, without repeats.
        mapping: What a leg's scores contribute.

    Returns:
        Every row of any leg, in order; the sums are taken in float64 and rounded once.
    """
    rows = np.concatenate([leg.rows for leg in legs])
    shares = np.concatenate([mapping(leg.scores) for leg in legs])
    distinct, positions = np.unique(rows, return_inverse=True)
    return ranked(distinct, np.bincount(positions, shares, len(distinct)).astype(np.float32))


def global_order(legs: Sequence[Ranked], algorithm: FusionAlgorithm) -> Order:
    """One order over full lists."""
    fused = fuse(legs, _GLOBAL[algorithm])
    return LazyRanking(fused.rows, fused.scores)


@dataclass(slots=True)
class _Leg:
    """One component's list: what has been read of it and not yet been returned."""

    source: LazyRanking
    waiting: Ranked

    def best(self, count: int, returned: set[int]) -> Ranked:
        """The best `count` rows that no page has returned yet."""
        while len(self.waiting) < count:
            more = self.source.take(count - len(self.waiting))
            if not len(more):
                break
            self.waiting = self.waiting.followed_by(more)
            self.drop(returned)
        return Ranked(self.waiting.rows[:count], self.waiting.scores[:count])

    def drop(self, returned: set[int]) -> None:
        """Forget rows that have been returned, through this list or another."""
        kept = np.array([row not in returned for row in self.waiting.rows.tolist()], np.bool_)
        self.waiting = Ranked(self.waiting.rows[kept], self.waiting.scores[kept])


class BatchOrder:
    """Every pull of k fuses the best k of each list that are left, returns the best k of those, and puts the rest back.

    Args:
        legs: Each component's list.
        algorithm: How to fuse.
        depth: Look at least so deep into each list; a one-shot query looks deeper than it returns.
    """

    splits = False  # the size of a pull decides how it is fused

    def __init__(self, legs: Sequence[LazyRanking], algorithm: FusionAlgorithm, depth: int = 0) -> None:
        self._legs = [_Leg(leg, Ranked(np.empty(0, np.int64), np.empty(0, np.float32))) for leg in legs]
        self._mapping = _BATCH[algorithm]
        self._depth = depth
        self._returned: set[int] = set()

    def take(self, count: int) -> Ranked:
        """The best `count` of what is left, by a fusion of their own."""
        deep = max(count, self._depth)
        fused = fuse([leg.best(deep, self._returned) for leg in self._legs], self._mapping)
        page = Ranked(fused.rows[:count], fused.scores[:count])
        self._returned.update(page.rows.tolist())
        for leg in self._legs:
            leg.drop(self._returned)
        return page

    def put_back(self, rows: Ranked) -> None:
        """Not possible: what a pull returns depends on its size."""
        raise NotImplementedError
