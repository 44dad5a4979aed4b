"""The vectors of a namespace in memory, in the arrays that searches read.

A slot holds one version of a record's vectors. A slot is live if it is the current version of a record that exists, and
deleted otherwise. New versions are appended as new slots, and nothing that a slot holds is ever changed. Once many
slots are deleted, the live ones are copied and numbered anew: they get a new *layout*. A search takes a `Snapshot`,
which it can read without a lock while records are written.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol
from weakref import WeakSet, ref

import numpy as np
from numpy.typing import NDArray

from nextk.engine.blocks import Blocks, Matrix, squares_of
from nextk.engine.directory import SlotDirectory
from nextk.engine.filter.store import FieldColumns
from nextk.engine.growth import with_room
from nextk.engine.postings import Postings
from nextk.engine.values import SparseRows, VectorRows

_COMPACT_FROM = 1_024  # deleted slots; fewer cost less than a compaction
_COMPACT_PART = 8  # a compaction pays if more than one slot in so many is deleted


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The slots of a namespace at one moment.

    Attributes:
        rows: The row of every slot, live or deleted; int64 (slots,).
        visible: Whether a slot is live and passes the filter, if there is one; bool (slots,). `None` if all are.
        count: The number of visible slots.
        matrix: The dense vector of every slot, or `None` if the index has no dense vectors.
        squares: The square of the Euclidean length of every dense vector; float64 (slots,), empty if there are none.
        shortest: A length that no dense vector but one of zeros falls short of.
        longest: A length that no dense vector exceeds.
        postings: The sparse vectors of every slot.
        layout: An object that two snapshots share if their slots have the same numbers.
        owner: The columns of the namespace, while they are in memory.
        frequencies: The number of visible slots that have a dimension, by dimension, as far as it was counted.
    """

    rows: NDArray[np.int64]
    visible: NDArray[np.bool_] | None
    count: int
    matrix: Matrix | None
    squares: NDArray[np.float64]
    shortest: float
    longest: float
    postings: Postings
    layout: object
    owner: "ref[Columns]"
    frequencies: dict[int, int] = field(default_factory=dict)

    def restricted_to(self, passing: NDArray[np.bool_]) -> "Snapshot":
        """Return a snapshot of the same moment in which only the slots that pass a filter are visible.

        Args:
            passing: Whether a slot passes the filter; bool (slots,), anything for those that are not live.
        """
        visible = passing if self.visible is None else passing & self.visible
        count = int(np.count_nonzero(visible))
        return replace(self, visible=visible, count=count, frequencies={})

    def visible_mask(self) -> NDArray[np.bool_]:
        """Return whether each slot is visible; bool (slots,)."""
        return np.ones(len(self.rows), np.bool_) if self.visible is None else self.visible

    def visible_rows(self) -> list[int]:
        """Return the rows of the visible slots."""
        rows: list[int] = (self.rows if self.visible is None else self.rows[self.visible]).tolist()
        return rows

    def with_rows(self, rows: Sequence[int]) -> NDArray[np.bool_]:
        """Return whether each slot holds one of the given rows; bool (slots,)."""
        return np.isin(self.rows, np.asarray(rows, np.int64))

    def slots(self) -> NDArray[np.int64]:
        """Return the visible slots, int64 (count,), ascending."""
        return np.arange(len(self.rows)) if self.visible is None else np.flatnonzero(self.visible)

    def frequency(self, dimension: int) -> int:
        """Return the number of visible slots whose sparse vector has a dimension.

        It is counted once, and kept unless it is 0, because a query may name any number of dimensions.
        """
        known = self.frequencies.get(dimension)
        if known is not None:
            return known
        containing = (slots for slots, _ in self.postings.of(dimension))
        count = sum(
            len(slots) if self.visible is None else int(np.count_nonzero(self.visible[slots])) for slots in containing
        )
        if count:
            self.frequencies[dimension] = count
        return count


class Settles(Protocol):
    """A ranking that needs the vectors of a snapshot, unless it settles what it needs them for."""

    def settle(self, snapshot: Snapshot) -> None:
        """Do everything for which the vectors are needed.

        Args:
            snapshot: A snapshot with the layout of that which is ranked, of the same moment or a later one.
        """
        ...


class Columns:
    """The vectors of one namespace. The length is the number of live slots, that is, of records.

    Attributes:
        snapshot: The slots as they are now. A write replaces it when it is done.
        fields: The metadata fields that filters have needed.
    """

    def __init__(self) -> None:
        self.fields = FieldColumns()
        self._count = 0
        self._deleted = 0
        self._directory = SlotDirectory()
        self._rows = np.empty(0, np.int64)
        self._live = np.empty(0, np.bool_)
        self._blocks: Blocks | None = None
        self._squares = np.empty(0, np.float64)
        self._shortest, self._longest = np.inf, 0.0
        self._postings = Postings.empty()
        self._layout = object()
        self._rankings: WeakSet[Settles] = WeakSet()
        self._watching = threading.Lock()
        self.snapshot = self._snapshot()

    def __len__(self) -> int:
        return self._count - self._deleted

    def reserve(self, count: int, dimension: int | None) -> None:
        """Take the memory for so many further slots. Appending them then copies nothing that is there already.

        Args:
            count: The number of slots.
            dimension: The dimension of the dense vectors; `None` if the index has none.
        """
        total = self._count + count
        if dimension is not None:
            if self._blocks is None:
                self._blocks = Blocks(dimension)
            self._blocks.reserve(count)
            self._squares = with_room(self._squares, total)
        self._rows = with_room(self._rows, total)
        self._live = with_room(self._live, total)
        self._directory.reserve(count)

    def append(self, batch: VectorRows) -> None:
        """Append the current vectors of rows, and mark earlier versions of these rows as deleted."""
        self.extend([batch])

    def extend(self, batches: Iterable[VectorRows]) -> None:
        """Append the vectors of many rows, which a search sees once all of them are there."""
        first, sparse = self._count, []
        for batch in batches:
            if len(batch):
                self._append(batch)
                sparse += [] if batch.sparse is None else [batch.sparse]
        if sparse:  # at once, because every addition builds a segment
            self._postings = self._postings.with_vectors(first, SparseRows.joined(sparse))
        self._publish()

    def watch(self, ranking: Settles, layout: object) -> bool:
        """Settle a ranking before its slots are numbered anew, unless it is gone by then.

        Args:
            ranking: The ranking.
            layout: The layout of its slots.

        Returns:
            `False` if the slots were numbered anew already, so that the ranking has to be settled by its maker.
        """
        with self._watching:
            if layout is not self._layout:
                return False
            self._rankings.add(ranking)
            return True

    def settle(self) -> None:
        """Settle the rankings that are watched, because the slots are about to be numbered anew, or forgotten.

        Afterwards no open query needs these vectors, so none keeps them in memory.
        """
        with self._watching:
            self._layout = object()
            rankings = list(self._rankings)
        for ranking in rankings:
            ranking.settle(self.snapshot)
            self._rankings.discard(ranking)

    def _append(self, batch: VectorRows) -> None:
        rows, vectors, _ = batch
        first, count = self._count, self._count + len(rows)
        self.reserve(len(rows), None if vectors is None else vectors.shape[1])  # before anything changes
        self._rows[first:count] = rows
        if vectors is not None and self._blocks is not None:
            self._blocks.append(vectors)
            self._measure(first, squares_of(vectors))
        self._mark_deleted(self._directory.enter(rows, first))
        self._live[first:count] = True
        self._count = count

    def remove(self, rows: Iterable[int]) -> None:
        """Mark rows as deleted, so that later snapshots do not contain them."""
        self._mark_deleted(self._directory.remove(np.fromiter(rows, np.int64)))
        self._publish()

    def _measure(self, first: int, squares: NDArray[np.float64]) -> None:
        self._squares[first : first + len(squares)] = squares
        self._shortest = min(self._shortest, float(np.sqrt(squares.min(where=squares > 0, initial=np.inf))))
        self._longest = max(self._longest, float(np.sqrt(squares.max(initial=0.0))))

    def _mark_deleted(self, slots: NDArray[np.int32]) -> None:
        self._live[slots] = False
        self._deleted += len(slots)

    def _publish(self) -> None:
        if self._deleted >= _COMPACT_FROM and _COMPACT_PART * self._deleted > self._count:
            self._compact()
        self.snapshot = self._snapshot()

    def _snapshot(self) -> Snapshot:
        count = self._count
        return Snapshot(
            rows=self._rows[:count],
            visible=self._live[:count].copy() if self._deleted else None,
            count=len(self),
            matrix=None if self._blocks is None else self._blocks.matrix(),
            squares=self._squares[:count],
            shortest=self._shortest,
            longest=self._longest,
            postings=self._postings,
            layout=self._layout,
            owner=ref(self),
        )

    def _compact(self) -> None:
        """Copy the live slots and number them anew, in their order."""
        self.settle()
        live = np.flatnonzero(self._live[: self._count])
        if self._blocks is not None:
            self._blocks = self._blocks.keeping(live)
            self._squares = self._squares[live]
            self._shortest, self._longest = np.inf, 0.0
            self._measure(0, self._squares)
        self._postings = self._postings.renumbered(live, self._count)
        self._directory.renumber(live)
        self.fields.keep(live)
        self._rows = self._rows[live]
        self._live = np.ones(len(live), np.bool_)
        self._count, self._deleted = len(live), 0
