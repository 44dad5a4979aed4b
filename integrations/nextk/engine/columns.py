"""The vectors of a namespace in memory, in the arrays that searches read.

A slot holds one version of a record's vectors. A slot is live if it is the current version of a record that exists, and
deleted otherwise. New versions are appended as new slots. The arrays of a snapshot are replaced rather than changed, so
a search that has taken a `Snapshot` can read it without a lock while records are written.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nextk.engine.postings import Postings
from nextk.engine.values import RowVectors

_Scalar = TypeVar("_Scalar", bound=np.generic)

_FIRST_CAPACITY = 64
_COMPACT_FROM = 1_024  # deleted slots; fewer cost less than a compaction


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The live slots of a namespace at one moment.

    Attributes:
        slots: The slots that are live and pass the filter, if there is one; int64 (n,), ascending.
        rows: The row of every slot, live or deleted; int64 (slots,).
        matrix: The dense vector of every slot, float32 (slots, dimension), or `None` if the index has no dense vectors.
        lengths: The Euclidean length of every dense vector; float64 (slots,).
        postings: The sparse vectors of every slot.
    """

    slots: NDArray[np.int64]
    rows: NDArray[np.int64]
    matrix: NDArray[np.float32] | None
    lengths: NDArray[np.float64]
    postings: Postings

    def restricted_to(self, rows: Sequence[int]) -> "Snapshot":
        """Return a snapshot of the same moment that contains only the rows that pass a filter."""
        passing = np.isin(self.rows[self.slots], np.asarray(rows, np.int64), assume_unique=True)
        return replace(self, slots=self.slots[passing])


class Columns:
    """The vectors of one namespace. The length is the number of live slots, that is, of records."""

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
        """Return the live slots as they are now."""
        return Snapshot(
            slots=np.flatnonzero(self._live[: self._count]),
            rows=self._rows[: self._count],
            matrix=None if self._matrix is None else self._matrix[: self._count],
            lengths=self._lengths[: self._count],
            postings=self._postings,
        )

    def append(self, batch: Sequence[RowVectors]) -> None:
        """Append the current vectors of rows, and mark earlier versions of these rows as deleted.

        Args:
            batch: Distinct rows with their vectors. All of them have the same kinds of vectors: those of the index.
        """
        if not batch:
            return
        rows, dense, sparse = zip(*batch, strict=True)
        vectors = None if dense[0] is None else np.stack(dense)
        first, count = self._count, self._count + len(rows)
        self._reserve(count, None if vectors is None else vectors.shape[1])  # takes the memory before anything changes
        self._rows[first:count] = rows
        if vectors is not None and self._matrix is not None:
            self._matrix[first:count] = vectors
            self._lengths[first:count] = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))
        if sparse[0] is not None:
            self._postings = self._postings.with_vectors(first, sparse)
        self._mark_deleted(row for row in rows if row <= self._newest)
        self._live[first:count] = True
        self._newest = max(self._newest, *rows)
        self._count = count
        self._compact()

    def remove(self, rows: Iterable[int]) -> None:
        """Mark rows as deleted, so that later snapshots do not contain them."""
        self._mark_deleted(rows)
        self._compact()

    def _mark_deleted(self, rows: Iterable[int]) -> None:
        numbers = np.fromiter(rows, np.int64)
        if len(numbers):
            self._live[: self._count] &= ~np.isin(self._rows[: self._count], numbers)

    def _reserve(self, count: int, dimension: int | None) -> None:
        """Make room for `count` slots in new, larger arrays. A snapshot keeps the arrays that it has."""
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
        """Remove the deleted slots once they outnumber the live ones."""
        live = np.flatnonzero(self._live[: self._count])
        deleted = self._count - len(live)
        if deleted < _COMPACT_FROM or deleted <= len(live):
            return
        self._postings = self._postings.renumbered(live, self._count)
        self._rows = self._rows[live]
        self._lengths = self._lengths[live]
        self._matrix = None if self._matrix is None else self._matrix[live]
        self._live = np.ones(len(live), np.bool_)
        self._count = len(live)


def _grown(array: NDArray[_Scalar], capacity: int) -> NDArray[_Scalar]:
    larger = np.zeros((capacity, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
