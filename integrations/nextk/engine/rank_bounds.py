"""The ranks of a list of which only estimated scores are known: bounds on all of them, and exact ones where needed.

Rows whose estimates differ by more than the errors of both are in the order of their estimates. So the rows are counted
by estimate, in buckets. The exact rank of a row depends on the exact scores of those rows alone that are near by.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nextk.engine.ranking import ABSENT

_BUCKETS = 32_768

Sort = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""Sorts positions of a list, int64 (n,), ascending, by their exact scores, best first."""


class RankBounds:
    """Bounds on the ranks of a list. They take 2 bytes for each position, and 256 KiB.

    Args:
        scores: The estimated score of each position, float32 (n,); `ABSENT` if it is not in the list.
        error: A bound on the error of each of them; 0 if they are exact.
    """

    def __init__(self, scores: NDArray[np.float32], error: float) -> None:
        self._buckets, self._width = _buckets_of(scores, error)
        counts = np.bincount(self._buckets, minlength=_BUCKETS + 1)
        self._above = np.append(np.cumsum(counts[::-1])[::-1][1:], 0)  # the number of rows in the buckets above each

    def __len__(self) -> int:
        return len(self._buckets)

    def absent(self) -> NDArray[np.bool_]:
        """Return whether each position is not in the list; bool (n,)."""
        return np.equal(self._buckets, 0)

    def best(self, count: int) -> NDArray[np.int64]:
        """Return positions, int64 (m,), ascending: those with the best `count` estimates, and some more."""
        first = int(np.searchsorted(-self._above, -count, side="right"))
        return np.flatnonzero(self._buckets >= max(1, first))

    def highest_shares(self, share: Callable[[NDArray[np.int64]], NDArray[np.float64]]) -> NDArray[np.float32]:
        """Return what each position contributes at most, float32 (n,), rounded; anything for those not in the list.

        Args:
            share: Returns the contributions of ranks, which are lower for higher ranks.
        """
        lowest_ranks = self._above[np.minimum(np.arange(_BUCKETS + 1) + self._width, _BUCKETS)]
        return share(lowest_ranks).astype(np.float32)[self._buckets]

    def exact(self, positions: NDArray[np.int64], most: int, sort: Sort) -> NDArray[np.int64] | None:
        """Return the exact ranks, counted from 0, of positions in the list.

        A row is in the order of buckets with all rows but those that are near by, whose buckets are at most a width
        away. The buckets that are near to some row make clusters, each of which is sorted.

        Args:
            positions: The positions, int64 (m,).
            most: The number of positions to sort at most.
            sort: Sorts positions that are near.

        Returns:
            The ranks, int64 (m,); `None` if more than `most` positions are near.
        """
        if not len(positions):
            return np.empty(0, np.int64)
        needed = np.flatnonzero(np.bincount(self._buckets[positions], minlength=1))
        lowest, highest = np.maximum(needed - self._width, 1), np.minimum(needed + self._width, _BUCKETS)
        apart = np.flatnonzero(lowest[1:] > highest[:-1])  # where one cluster ends and the next one begins
        bottoms, tops = lowest[np.append(0, apart + 1)], highest[np.append(apart, -1)]
        is_near = np.zeros(_BUCKETS + 2, np.int8)
        is_near[bottoms] = 1
        is_near[tops + 1] -= 1
        np.cumsum(is_near, out=is_near)
        near = np.flatnonzero(is_near[self._buckets])
        if len(near) > most:
            return None
        order = sort(near)
        clusters = np.searchsorted(bottoms, self._buckets[order], side="right") - 1
        if bool((clusters[1:] > clusters[:-1]).any()):  # rows near by that were not asked for need not be apart
            by_cluster = np.argsort(-clusters, kind="stable")
            order, clusters = order[by_cluster], clusters[by_cluster]
        sizes = np.bincount(clusters, minlength=len(bottoms))
        before = len(order) - np.cumsum(sizes)  # the number of rows in the clusters above each
        ranks = np.empty(len(self._buckets), np.int64)
        ranks[order] = np.arange(len(order)) - (before - self._above[tops])[clusters]
        return ranks[positions]


def _buckets_of(scores: NDArray[np.float32], error: float) -> tuple[NDArray[np.uint16], int]:
    """Sort estimated scores into buckets.

    Args:
        scores: The estimated scores, float32 (n,).
        error: A bound on the error of each of them.

    Returns:
        The bucket of each score, 1 to `_BUCKETS`, higher for higher ones, and 0 for `ABSENT`. If the buckets of two
        scores differ by more than the width, which is returned too, their exact scores are in the order of the buckets.
    """
    if float(scores.max(initial=ABSENT)) == ABSENT:
        return np.zeros(len(scores), np.uint16), 0
    absent = scores == ABSENT if float(scores.min()) == ABSENT else None
    wide = scores.astype(np.float64)
    if absent is not None:
        wide[absent] = scores.max()
    lowest, highest = float(wide.min()), float(wide.max())
    scale = (_BUCKETS - 1) / (highest - lowest) if highest > lowest else 0.0
    wide -= lowest
    wide *= scale
    buckets = wide.astype(np.uint16)
    buckets += 1
    if absent is not None:
        buckets[absent] = 0
    return buckets, min(_BUCKETS, int(np.ceil(2 * error * scale)) + 1) if error else 0
