"""The repair of an order that is nearly right: rows are read some way ahead, and the nearest of them goes out first."""

import heapq
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["RankedRow", "ReadAhead"]


class RankedRow(NamedTuple):
    """A row of a ranked scan.

    Attributes:
        key: The key of the row, as a text.
        distance: The distance of the row to the query; NaN if it has none, as a vector of zeros has no cosine.
        values: The values of the further columns, in their order.
    """

    key: str
    distance: float
    values: tuple[object, ...] = ()


class ReadAhead:
    """Rows on their way from a scan to the caller, which are delivered once a number of rows has come after them.

    A row goes out when `size` rows have come after the last one that had to come: the nearest of all that wait. So the
    order depends on the order of the scan alone, and not on the sizes of the pages.

    Args:
        size: The number of rows that are read ahead; 0 delivers them as they come.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._arrived: deque[tuple[bool, float, int, RankedRow]] = deque()
        self._heap: list[tuple[bool, float, int, RankedRow]] = []
        self._count = 0

    def missing(self, count: int) -> int:
        """Return how many rows have to come before `count` rows can go out.

        Args:
            count: The number of rows that are to go out.
        """
        return max(0, self._size + count - len(self._arrived) - len(self._heap))

    def add(self, rows: Iterable[RankedRow]) -> None:
        """Let rows wait.

        Args:
            rows: The rows, in the order of the scan.
        """
        for row in rows:
            self._count += 1  # equal distances keep the order in which they came
            distance = row.distance
            self._arrived.append((distance != distance, distance, self._count, row))

    def take(self, count: int, *, ended: bool) -> list[RankedRow]:
        """Return rows that can go out, and let them wait no longer.

        Args:
            count: The number of rows at most.
            ended: Whether no further row will come, so that all that wait can go out.
        """
        heap, arrived = self._heap, self._arrived
        while len(heap) < self._size and arrived:
            heapq.heappush(heap, arrived.popleft())
        out = [heapq.heappushpop(heap, arrived.popleft())[-1] for _ in range(min(count, len(arrived)))]
        if ended:
            out += [heapq.heappop(heap)[-1] for _ in range(min(count - len(out), len(heap)))]
        return out
