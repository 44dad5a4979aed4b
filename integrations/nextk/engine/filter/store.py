"""The columns that filters are evaluated over: made when a filter first needs them, kept up to date, and bounded.

A column is filled part by part, so that the lock of the engine is held for a short time only. Between two parts records
may be written. A part reads what the metadata of live slots are by then, so in the end every slot that is live has its
own metadata, and a slot that is not may seem to have none. Hence the slots that are searched have to be taken when the
columns are complete, and under the same lock. Several searches may fill one column together.

Whoever calls anything here holds the lock of the engine.
"""

import itertools
from collections.abc import Callable, Collection, Sequence
from operator import itemgetter
from typing import TypeAlias
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from nextk.engine.filter.columns import Cells, Field, FieldColumn, FieldValues

__all__ = ["FieldBudget", "FieldColumns", "ReadCells"]

ReadCells: TypeAlias = Callable[[Sequence[Field], Sequence[int]], Sequence[Cells]]
"""Reads the values of fields in rows that exist, in any order of the rows."""


class FieldColumns:
    """The columns of one namespace.

    Attributes:
        used: When each field was last used, by the clock of the `FieldBudget`.
        too_large: The fields whose values take more memory than all columns may.
    """

    __slots__ = ("__weakref__", "_columns", "too_large", "used")  # an index may have ten thousand namespaces

    def __init__(self) -> None:
        self._columns: dict[Field, FieldColumn] = {}
        self.used: dict[Field, int] = {}
        self.too_large: frozenset[Field] = frozenset()

    @property
    def nbytes(self) -> int:
        """The bytes that the columns take."""
        return sum(column.nbytes for column in self._columns.values())

    def read_part(
        self,
        fields: Collection[Field],
        rows: NDArray[np.int64],
        live: NDArray[np.bool_] | None,
        read: ReadCells,
        limit: int,
    ) -> bool:
        """Read values that the columns of some fields do not have yet.

        Args:
            fields: The fields.
            rows: The row of every slot; int64 (slots,).
            live: Whether each slot is live; bool (slots,). `None` if all are.
            read: Reads the values of rows.
            limit: The largest number of values that are read, of all fields together; one of each field in any case.

        Returns:
            Whether the columns have the values of all slots by now.
        """
        columns = {field: self._columns.setdefault(field, FieldColumn(elements=field.elements)) for field in fields}
        if not columns:
            return True
        lengths = sorted({len(column) for column in columns.values()})
        first = lengths[0]
        behind = [field for field, column in columns.items() if len(column) == first]
        end = min(first + max(1, limit // len(behind)), len(rows), *lengths[1:2])
        if first < end:
            slots = np.arange(first, end) if live is None else first + np.flatnonzero(live[first:end])
            try:
                self._extend(behind, end - first, slots, rows[slots], read)
            except BaseException:  # some of them may have grown, or one in part
                for field in behind:
                    self.drop(field)
                raise
        return all(len(column) == len(rows) for column in columns.values())

    def values(self, fields: Collection[Field]) -> dict[Field, FieldValues]:
        """Return the values of fields whose columns are complete."""
        return {field: self._columns[field].values for field in fields}

    def keep(self, slots: NDArray[np.int64]) -> None:
        """Keep the values of some slots, int64 (n,), ascending, which are numbered anew in their order."""
        for column in self._columns.values():
            column.keep(slots)

    def bytes_of(self, field: Field) -> int:
        """Return the bytes that the column of a field takes."""
        return self._columns[field].nbytes

    def drop(self, field: Field) -> int:
        """Forget the column of a field. Returns the bytes that it took. Values that were taken from it stay."""
        self.used.pop(field, None)
        column = self._columns.pop(field, None)
        return 0 if column is None else column.nbytes

    def _extend(
        self,
        fields: Sequence[Field],
        count: int,
        slots: NDArray[np.int64],
        rows: NDArray[np.int64],
        read: ReadCells,
    ) -> None:
        """Append the values of `count` slots to the columns of some fields.

        Args:
            fields: The fields.
            count: The number of slots.
            slots: Those of them that are live; int64 (n,), ascending.
            rows: The row of each of these; int64 (n,).
            read: Reads the values of rows.
        """
        by_row = np.argsort(rows)
        sorted_rows, sorted_slots = rows[by_row], slots[by_row].astype(np.int32)
        for field, cells in zip(fields, read(fields, sorted_rows.tolist()), strict=True):
            slots_of_values = sorted_slots[np.searchsorted(sorted_rows, cells.rows)]
            order = np.argsort(slots_of_values, kind="stable")
            self._columns[field].append(count, slots_of_values[order], cells.ordered_by(order))


class FieldBudget:
    """A bound on the memory that the columns of all namespaces of an index take together.

    Args:
        limit: The bound, in bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._clock = itertools.count()
        self._namespaces: WeakSet[FieldColumns] = WeakSet()

    def use(self, columns: FieldColumns, fields: Collection[Field]) -> None:
        """Note that fields are used now, and forget those that were not used for longest while the bound is exceeded.

        If the fields exceed it by themselves, the largest of them are forgotten, and are too large from now on.

        Args:
            columns: The columns of the namespace that is searched.
            fields: The fields of the filter.
        """
        if not fields:
            return
        now = next(self._clock)
        columns.used.update(dict.fromkeys(fields, now))
        self._namespaces.add(columns)
        excess = sum(each.nbytes for each in self._namespaces) - self._limit
        if excess > 0:
            others = [(used, each, field) for each in self._namespaces for field, used in each.used.items()]
            for _, each, field in sorted((other for other in others if other[0] < now), key=itemgetter(0)):
                if excess > 0:
                    excess -= each.drop(field)
        for field in sorted(fields, key=columns.bytes_of, reverse=True):
            if excess > 0:
                excess -= columns.drop(field)
                columns.too_large |= {field}
