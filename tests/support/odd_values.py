"""Values of every kind that callers may pass by mistake, for tests of what is refused in words."""

import dataclasses
import datetime as dt
import decimal
import math
from collections.abc import Callable
from types import MappingProxyType, SimpleNamespace
from typing import Any, NoReturn

import numpy as np


class OwnError(Exception):
    """The error of a caller's own object, which may reach the caller."""


def _raise(*_: object, **__: object) -> NoReturn:
    raise OwnError


def _object(**methods: Any) -> Any:
    return type("Odd", (), methods)()


@dataclasses.dataclass
class Point:
    """An object of the caller's own."""

    x: int = 1


class Series:
    """An object like a column of a table, whose truth nobody knows."""

    shape, dtype = (2,), "int64"
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        message = "The truth value of a Series is ambiguous."
        raise ValueError(message)

    def tolist(self) -> list[int]:
        """Return the numbers."""
        return [1, 2]


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    """Return a value within so many others."""
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


def _holding_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


ODD: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "zero": lambda: 0,
    "negative": lambda: -1,
    "more than 64 bits": lambda: 2**64,
    "beyond floats": lambda: 10**400,
    "beyond decimal digits": lambda: 10**5_000,
    "float": lambda: 1.5,
    "NaN": lambda: math.nan,
    "infinity": lambda: -math.inf,
    "complex": lambda: 1j,
    "bytes": lambda: b"\xff",
    "empty": lambda: "",
    "blank": lambda: " \n",
    "surrogate": lambda: "a\ud800b",
    "NUL": lambda: "a\0b",
    "open parentheses": lambda: "(" * 5_000,
    "deep filter": lambda: "(" * 2_000 + "a = 1" + ")" * 2_000,
    "long number in a filter": lambda: "a = " + "9" * 5_000,
    "array of one number": lambda: np.array(3),
    "array of None": lambda: np.array(None, object),
    "array of objects": lambda: np.array([1, "a", None], object),
    "matrix": lambda: np.zeros((2, 2)),
    "complex array": lambda: np.array([1j, 2]),
    "masked array": lambda: np.ma.array([1.0, 2.0], mask=[True, False]),
    "records": lambda: np.zeros(2, dtype=[("a", "i4")]),
    "no time": lambda: np.datetime64("NaT"),
    "numpy bool": lambda: np.bool_(True),
    "series": Series,
    "set": lambda: {1, 2},
    "dict of objects": lambda: {"a": object()},
    "dict of a long number": lambda: {10**5_000: 1},
    "dict of a tuple": lambda: {(1, 2): 3},
    "dict of a surrogate": lambda: {"\ud800": 1},
    "list of a long number": lambda: [10**5_000],
    "list of a surrogate": lambda: ["\ud800"],
    "list of None": lambda: [None],
    "view of a dict": lambda: {"a": 1}.items(),
    "mapping": lambda: MappingProxyType({"a": 1}),
    "generator": lambda: (number for number in [1, 2]),
    "decimal": lambda: decimal.Decimal("sNaN"),
    "date": lambda: dt.date(2024, 1, 1),
    "dataclass": Point,
    "class": lambda: Point,
    "object": object,
    "deep list": lambda: nested(1_000, lambda value: [value]),
    "deep dict": lambda: nested(1_000, lambda value: {"k": value}),
    "deep tuple": lambda: nested(1_000, lambda value: (value,)),
    "dict of 300 levels": lambda: nested(300, lambda value: {"k": value}),
    "itself": _holding_itself,
    "raises when compared": lambda: _object(__eq__=_raise, __hash__=object.__hash__),
    "raises when asked for truth": lambda: _object(__bool__=_raise),
    "raises when written": lambda: _object(__repr__=_raise, __str__=_raise),
    "raises when iterated over": lambda: _object(__iter__=_raise),
    "raises when counted": lambda: _object(__index__=_raise, __float__=_raise),
    "tolist of another kind": lambda: SimpleNamespace(tolist=5),
    "tolist of None": lambda: SimpleNamespace(tolist=lambda: None),
    "sparse vector of another kind": lambda: SimpleNamespace(indices=5, values=None),
}
"""Functions that make the values, by names that are the same in every run."""
