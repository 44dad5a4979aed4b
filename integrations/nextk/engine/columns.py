"""A namespace in memory: the arrays that searches read.

A slot is one version of a record's vectors. Slots are only ever appended, and arrays are replaced rather than changed,
so a search that has taken a `Snapshot` may go on reading it without a lock while records are written.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nextk.engine.postings import Postings
from nextk.engine.values import SparseArrays

_Scalar = TypeVar("_Scalar", bound=np.generic)

_FIRST_CAPACITY = 64
_COMPACT_FROM = 1_024  # dead slots; fewer cost less than tidying up


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The live slots of one moment.

    Attributes:
        slots: Which slots are live (and pass the filter), ascending; int64 (n,).
        rows: The row of every slot, live or not; int64.
        matrix: The dense vector of every slot, or `None` where the index has none; float32 (slots, dimension).
        lengths: The length of every dense vector; float64 (slots,).
        postings: The sparse vectors of every slot.
    """

    slots: NDArray[np.int64]
    rows: NDArray[np.int64]
    matrix: NDArray[np.float32] | None
    lengths: NDArray[np.float64]
    postings: Postings

    def restricted_to(self, rows: Sequence[int]) -> "Snapshot":
        """The same moment, seen through a filter."""
        passing = np.isin(self.rows[self.slots], np.asarray(rows, np.int64), assume_unique=True)
        return replace(self, slots=self.slots[passing])


class Columns:
    """The vectors of one namespace."""

    def __init__(self) -> None:
        self._count = 0
        self._newest = 0  # the greatest row seen: greater ones have no earlier version
        self._rows = np.empty(_FIRST_CAPACITY, np.int64)
        self._live = np.zeros(_FIRST_CAPACITY, np.bool_)
        self._matrix: NDArray[np.float32] | None = None
        self._lengths = np.zeros(_FIRST_CAPACITY, np.float64)
        self._postings = Postings.empty()

    def __len__(self) -> int:
        return int(self._live[: self._count].sum())

    def snapshot(self) -> Snapshot:
        """The live slots as they are now."""
        return Snapshot(
            slots=np.flatnonzero(self._live[: self._count]),
            rows=self._rows[: self._count],
            matrix=None if self._matrix is None else self._matrix[: self._count],
            lengths=self._lengths[: self._count],
            postings=self._postings,
        )

    def append(
        self, rows: Sequence[int], vectors: NDArray[np.float32] | None, sparse: Sequence[SparseArrays] | None
    ) -> None:
        """Add the current vectors of some rows; earlier versions of them die.

        Args:
            rows: Distinct rows.
            vectors: Their dense vectors, float32 (n, dimension), where the index has them.
            sparse: Their sparse vectors, where the index has them.
        """
        first, count = self._count, self._count + len(rows)
        self._reserve(count, None if vectors is None else vectors.shape[1])  # takes the memory before anything changes
        self._rows[first:count] = rows
        if vectors is not None and self._matrix is not None:
            self._matrix[first:count] = vectors
            self._lengths[first:count] = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))
        if sparse is not None:
            self._postings = self._postings.with_vectors(first, sparse)
        self._mark_dead(row for row in rows if row <= self._newest)
        self._live[first:count] = True
        self._newest = max(self._newest, *rows)
        self._count = count
        self._compact()

    def kill(self, rows: Iterable[int]) -> None:
        """Take rows out of later searches."""
        self._mark_dead(rows)
        self._compact()

    def _mark_dead(self, rows: Iterable[int]) -> None:
        numbers = np.fromiter(rows, np.int64)
        if len(numbers):
            self._live[: self._count] &= ~np.isin(self._rows[: self._count], numbers)

    def _reserve(self, count: int, dimension: int | None) -> None:
        """Make room by replacing the arrays with larger ones: a snapshot keeps those it has."""
        if dimension is not None and self._matrix is None:
            self._matrix = np.empty((len(self._rows), dimension), np.float32)
        if count <= len(self._rows):
            return
        capacity = max(count, 2 * len(self._rows))
        self._rows = _grown(self._rows, capacity)
        self._live = _grown(self._live, capacity)
        self._lengths = _grown(self._lengths, capacity)
        if self._matrix is not None:
            self._matrix = _grown(self._matrix, capacity)

    def _compact(self) -> None:
        """Drop dead slots once they outnumber the live ones."""
        live = np.flatnonzero(self._live[: self._count])
        dead = self._count - len(live)
        if dead < _COMPACT_FROM or dead <= len(live):
            return
        self._postings = self._postings.moved(live, self._count)
        self._rows = self._rows[live]
        self._lengths = self._lengths[live]
        self._matrix = None if self._matrix is None else self._matrix[live]
        self._live = np.ones(len(live), np.bool_)
        self._count = len(live)


def _grown(array: NDArray[_Scalar], capacity: int) -> NDArray[_Scalar]:
    larger = np.zeros((capacity, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
