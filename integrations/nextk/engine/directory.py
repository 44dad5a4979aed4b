"""The slot that holds the current version of each row of a namespace."""

import numpy as np
from numpy.typing import NDArray

from nextk.engine.growth import with_room

_NONE = -1  # the slot of a row that was deleted


class SlotDirectory:
    """Rows with their slots. Looking up some rows takes the logarithm of the number of all rows, for each of them."""

    def __init__(self) -> None:
        self._count = 0
        self._rows = np.empty(0, np.int64)  # ascending
        self._slots = np.empty(0, np.int32)

    def reserve(self, count: int) -> None:
        """Take the memory for so many further rows."""
        self._rows = with_room(self._rows, self._count + count)
        self._slots = with_room(self._slots, self._count + count)

    def enter(self, rows: NDArray[np.int64], first: int) -> NDArray[np.int32]:
        """Enter new versions of rows, in the slots `first`, `first + 1` and so on.

        Args:
            rows: Distinct rows, int64 (n,), in any order.
            first: The slot of the first of them.

        Returns:
            The slots of the versions that were current until now, int32 (m,).
        """
        slots = np.arange(first, first + len(rows), dtype=np.int32)
        positions, known = self._find(rows)
        former: NDArray[np.int32] = self._slots[positions[known]]
        self._slots[positions[known]] = slots[known]
        self._add(rows[~known], slots[~known])
        return np.extract(former != _NONE, former)

    def remove(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Remove rows, int64 (n,), and return the slots that were theirs, int32 (m,). Unknown rows are skipped."""
        positions, known = self._find(rows)
        former: NDArray[np.int32] = self._slots[positions[known]]
        self._slots[positions[known]] = _NONE
        return np.extract(former != _NONE, former)

    def renumber(self, live: NDArray[np.int64]) -> None:
        """Number the slots anew, and drop the rows that have none.

        Args:
            live: The slots that the rows have, int64 (n,), ascending; their positions are the new numbers.
        """
        held = self._slots[: self._count] != _NONE
        self._rows = self._rows[: self._count][held]
        self._slots = np.searchsorted(live, self._slots[: self._count][held]).astype(np.int32)
        self._count = len(self._rows)

    def _find(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return the positions of rows, int64 (n,), and whether the row is there; bool (n,)."""
        held = self._rows[: self._count]
        positions = np.searchsorted(held, rows)
        inside = positions < self._count
        known = np.zeros(len(rows), np.bool_)
        known[inside] = held[positions[inside]] == rows[inside]
        return positions, known

    def _add(self, rows: NDArray[np.int64], slots: NDArray[np.int32]) -> None:
        """Add rows that are not there yet."""
        if not len(rows):
            return
        self.reserve(len(rows))
        start, end = self._count, self._count + len(rows)
        self._rows[start:end], self._slots[start:end] = rows, slots
        self._count = end
        # New rows are greater than all others, but for records that were left out as damaged and are written anew.
        if not bool((self._rows[max(start - 1, 0) : end - 1] < self._rows[max(start, 1) : end]).all()):
            order = np.argsort(self._rows[:end])
            self._rows[:end], self._slots[:end] = self._rows[:end][order], self._slots[:end][order]
