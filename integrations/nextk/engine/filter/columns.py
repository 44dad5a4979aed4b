"""The values of one metadata field in memory, in arrays that a filter is evaluated over.

The values are those that SQLite reads from JSON, so a test means the same here as in the condition of
`nextk.engine.filter.sql`: `TRUE` and `FALSE` are 1 and 0, a whole number beyond 64 bits is a float, and numbers are
compared exactly, also whole ones with floats.

A value belongs to a slot of the namespace; see `nextk.engine.columns`. What a slot holds never changes, so a column
only grows at its end, and is numbered anew when the slots are. Whoever changes a column holds the lock of the engine,
and whoever has taken its `FieldValues` can read these without the lock.
"""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from nextk.engine.filter.numbers import are_any, integers_that, reals_that, same_integers, same_reals
from nextk.engine.filter.tree import FieldPath, Value
from nextk.engine.growth import with_room

__all__ = ["Cells", "Field", "FieldColumn", "FieldValues"]

_Scalar = TypeVar("_Scalar", bound=np.generic)
_Mask: TypeAlias = NDArray[np.bool_]

# The kinds of values, in an order in which all that is not null comes last.
_ABSENT: Final = 0
_NULL: Final = 1
_INTEGER: Final = 2
_REAL: Final = 3
_TEXT: Final = 4
_ARRAY: Final = 5
_OBJECT: Final = 6
_BY_CLASS: Mapping[type, int] = {int: _INTEGER, float: _REAL, str: _TEXT, type(None): _NULL}
_BY_TYPE: Mapping[str | None, int] = {None: _ABSENT, "array": _ARRAY, "object": _OBJECT}

_TEXT_OVERHEAD = 100  # bytes that a distinct text takes in a dictionary and in a list, besides itself


class Field(NamedTuple):
    """The values that one column holds.

    Attributes:
        path: The path to the field.
        elements: Whether the column holds the elements of the arrays at the path, in the place of the values there.
    """

    path: FieldPath
    elements: bool = False


class Cells(NamedTuple):
    """Values of one field as they are read: three sequences of equal length.

    Attributes:
        rows: The row of each value. Only elements have several values in a row.
        types: The type of each value, as SQLite's `json_type` names it; `None` if the field is absent.
        values: The values; `None` for null, arrays and objects, and if the field is absent.
    """

    rows: Sequence[int]
    types: Sequence[str | None]
    values: Sequence[str | int | float | None]

    def ordered_by(self, order: NDArray[np.int64]) -> "Cells":
        """Return the values in another order, given as positions in the present one; int64 (n,)."""
        if np.array_equal(order, np.arange(len(order))):
            return self
        return Cells(*([column[position] for position in order.tolist()] for column in self))


@dataclass(frozen=True, slots=True)
class _TypedValues(Generic[_Scalar]):
    """The values of one type.

    Attributes:
        slots: The slot of every value; int32 (n,).
        values: The values; (n,).
        in_all: Whether `slots` are all slots, in their order.
    """

    slots: NDArray[np.int32]
    values: NDArray[_Scalar]
    in_all: bool

    def mark(self, found: _Mask, mask: _Mask) -> None:
        """Set the mask, bool (slots,), in all slots that have one of the values that were found, bool (n,)."""
        if self.in_all:
            mask |= found
        else:
            mask[self.slots[found]] = True


@dataclass(frozen=True, slots=True)
class FieldValues:
    """The values of a field in all slots that there were at one moment. They never change.

    Every method returns a mask over the slots, bool (count,).

    Attributes:
        count: The number of slots.
        kinds: The kind of the value in each slot, uint8 (count,); empty for the elements of arrays.
        integers: The whole numbers, and the booleans.
        reals: The floats.
        texts: The texts, each as its number in `distinct`.
        text_numbers: The number of each distinct text. Texts that came later may be among them.
        distinct: The distinct texts. Texts that came later may be at the end.
    """

    count: int
    kinds: NDArray[np.uint8]
    integers: _TypedValues[np.int64]
    reals: _TypedValues[np.float64]
    texts: _TypedValues[np.int32]
    text_numbers: Mapping[str, int]
    distinct: Sequence[str]

    def present(self) -> _Mask:
        """Return which slots have the field, be it null."""
        return np.not_equal(self.kinds, _ABSENT)

    def not_null(self) -> _Mask:
        """Return which slots have the field with a value that is not null."""
        return self.kinds > _NULL

    def arrays(self) -> _Mask:
        """Return which slots have an array."""
        return np.equal(self.kinds, _ARRAY)

    def strings(self) -> _Mask:
        """Return which slots have a text."""
        return np.equal(self.kinds, _TEXT)

    def equal(self, literals: Collection[Value]) -> _Mask:
        """Return which slots have a value that equals any of the literals."""
        mask = np.zeros(self.count, np.bool_)
        numbers = [literal for literal in literals if not isinstance(literal, str)]
        known = [self.text_numbers.get(literal) for literal in literals if isinstance(literal, str)]
        self.integers.mark(are_any(self.integers.values, same_integers(numbers)), mask)
        self.reals.mark(are_any(self.reals.values, same_reals(numbers)), mask)
        self.texts.mark(are_any(self.texts.values, [number for number in known if number is not None]), mask)
        return mask

    def ordered(self, operator: str, literal: float) -> _Mask:
        """Return which slots have a number or a boolean that compares to a literal as `<`, `<=`, `>` or `>=` says."""
        mask = np.zeros(self.count, np.bool_)
        self.integers.mark(integers_that(operator, self.integers.values, literal), mask)
        self.reals.mark(reals_that(operator, self.reals.values, literal), mask)
        return mask

    def matching(self, matches: Callable[[str], bool], among: _Mask, check: Callable[[], None]) -> _Mask:
        """Return which of some slots have a text that matches. Every distinct text is matched once.

        Args:
            matches: Returns whether a text matches.
            among: The slots; bool (count,).
            check: Called between the texts. Whatever it raises ends this.
        """
        wanted = np.zeros(len(self.distinct), np.bool_)
        wanted[self.texts.values[among[self.texts.slots]]] = True
        found = np.zeros(len(wanted), np.bool_)
        for number in np.flatnonzero(wanted).tolist():
            check()
            found[number] = matches(self.distinct[number])
        mask = np.zeros(self.count, np.bool_)
        self.texts.mark(found[self.texts.values], mask)
        return mask & among


class _Growing(Generic[_Scalar]):
    """An array that grows at its end. What was taken from it never changes.

    Attributes:
        array: The array, as it is now.
    """

    def __init__(self, dtype: type[_Scalar]) -> None:
        self._room = np.empty(0, dtype)
        self.array: NDArray[_Scalar] = self._room

    @property
    def nbytes(self) -> int:
        return self._room.nbytes

    def append(self, values: NDArray[_Scalar]) -> None:
        count, total = len(self.array), len(self.array) + len(values)
        self._room = with_room(self._room, total)
        self._room[count:total] = values
        self.array = self._room[:total]

    def replace(self, array: NDArray[_Scalar]) -> None:
        self._room = self.array = array


class _GrowingValues(Generic[_Scalar]):
    """The values of one type, to which values are added in the order of their slots."""

    def __init__(self, dtype: type[_Scalar]) -> None:
        self.slots = _Growing(np.int32)
        self.values = _Growing(dtype)

    @property
    def nbytes(self) -> int:
        return self.slots.nbytes + self.values.nbytes

    def append(self, slots: NDArray[np.int32], values: Sequence[Any]) -> None:
        if len(slots):
            self.slots.append(slots)
            self.values.append(np.array(values, self.values.array.dtype))

    def renumber(self, numbers: NDArray[np.int32]) -> None:
        """Give every slot a new number, and drop the values of those whose new number is -1."""
        slots = numbers[self.slots.array]
        self.slots.replace(slots[slots >= 0])
        self.values.replace(self.values.array[slots >= 0])

    def taken(self, count: int | None) -> _TypedValues[_Scalar]:
        """Return the values as they are now. If no slot has several, `count` is the number of all slots."""
        slots = self.slots.array
        return _TypedValues(slots, self.values.array, in_all=len(slots) == count)


class FieldColumn:
    """The values of one field in the slots of a namespace.

    Args:
        elements: Whether the values are the elements of arrays, so that a slot may have several.

    Attributes:
        values: The values as they are now.
    """

    def __init__(self, *, elements: bool = False) -> None:
        self._elements = elements
        self._count = 0
        self._kinds = _Growing(np.uint8)
        self._integers = _GrowingValues(np.int64)
        self._reals = _GrowingValues(np.float64)
        self._texts = _GrowingValues(np.int32)
        self._text_numbers: dict[str, int] = {}
        self._distinct: list[str] = []
        self._text_bytes = 0
        self.values = self._taken()

    def __len__(self) -> int:
        """Return the number of slots whose values the column has."""
        return self._count

    @property
    def nbytes(self) -> int:
        """The bytes that the column takes."""
        return sum(part.nbytes for part in (self._kinds, *self._by_kind().values())) + self._text_bytes

    def append(self, count: int, slots: NDArray[np.int32], cells: Cells) -> None:
        """Append the values of the slots that follow.

        Args:
            count: The number of slots.
            slots: The slot of each value; int32 (n,), ascending. The field is absent from the others.
            cells: The values.
        """
        kinds = _kinds(cells)
        if not self._elements:
            every = np.full(count, _ABSENT, np.uint8)
            every[slots - self._count] = kinds
            self._kinds.append(every)
        for kind, entries in self._by_kind().items():
            found = np.flatnonzero(kinds == kind)
            values = [cells.values[position] for position in found.tolist()]
            entries.append(slots[found], self._numbered(values) if kind == _TEXT else values)
        self._count += count
        self.values = self._taken()

    def keep(self, slots: NDArray[np.int64]) -> None:
        """Keep the values of some slots, and number these anew, in their order.

        Args:
            slots: The slots, int64 (n,), ascending. Those whose values the column does not have yet are ignored.
        """
        kept = slots[slots < self._count]
        numbers = np.full(self._count, -1, np.int32)
        numbers[kept] = np.arange(len(kept), dtype=np.int32)
        if not self._elements:
            self._kinds.replace(self._kinds.array[kept])
        for entries in self._by_kind().values():
            entries.renumber(numbers)
        self._forget_texts()
        self._count = len(kept)
        self.values = self._taken()

    def _by_kind(
        self,
    ) -> dict[int, _GrowingValues[np.int64] | _GrowingValues[np.float64] | _GrowingValues[np.int32]]:
        return {_INTEGER: self._integers, _REAL: self._reals, _TEXT: self._texts}

    def _numbered(self, texts: Sequence[Any]) -> list[int]:
        """Return the numbers of texts among the distinct ones; those that are new are added in their order."""
        for text in dict.fromkeys(texts):
            if text not in self._text_numbers:
                self._text_numbers[text] = len(self._distinct)
                self._distinct.append(text)
                self._text_bytes += sys.getsizeof(text) + _TEXT_OVERHEAD
        return [self._text_numbers[text] for text in texts]

    def _forget_texts(self) -> None:
        """Drop the distinct texts that no slot has."""
        used, numbers = np.unique(self._texts.values.array, return_inverse=True)
        self._texts.values.replace(numbers.astype(np.int32))
        texts = [self._distinct[number] for number in used.tolist()]
        self._text_numbers, self._distinct, self._text_bytes = {}, [], 0  # values that were taken keep the old ones
        self._numbered(texts)

    def _taken(self) -> FieldValues:
        every = None if self._elements else self._count
        return FieldValues(
            self._count,
            self._kinds.array,
            self._integers.taken(every),
            self._reals.taken(every),
            self._texts.taken(every),
            self._text_numbers,
            self._distinct,
        )


def _kinds(cells: Cells) -> NDArray[np.uint8]:
    """Return the kind of each value; uint8 (n,)."""
    kinds = np.array([_BY_CLASS[type(value)] for value in cells.values], np.uint8)
    for position in np.flatnonzero(kinds == _NULL).tolist():
        kinds[position] = _BY_TYPE.get(cells.types[position], _NULL)
    return kinds
