"""Comparisons of arrays with a number, exact also where a whole number is compared with a float.

A literal is rounded to the type of the array, in the direction in which the comparison stays true.
"""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["are_any", "integers_that", "reals_that", "same_integers", "same_reals"]

_Scalar = TypeVar("_Scalar", bound=np.generic)

_FEW = 4  # values that are compared one after the other, because that is faster than a search in them
_ORDERS: Mapping[str, tuple[Callable[[Any, Any], Any], bool]] = {
    "<": (np.less, True),
    "<=": (np.less_equal, False),
    ">": (np.greater, False),
    ">=": (np.greater_equal, True),
}
"""For each operator its function, and whether the literal is rounded upwards."""


def integers_that(operator: str, integers: NDArray[np.int64], literal: float) -> NDArray[np.bool_]:
    """Return which whole numbers compare to a literal, an `int` or a finite `float`, as `<`, `<=`, `>` or `>=` says."""
    compare, upwards = _ORDERS[operator]
    found: NDArray[np.bool_] = compare(integers, math.ceil(literal) if upwards else math.floor(literal))
    return found


def reals_that(operator: str, reals: NDArray[np.float64], literal: float) -> NDArray[np.bool_]:
    """Return which floats compare to a literal, an `int` or a finite `float`, as `<`, `<=`, `>` or `>=` says."""
    compare, upwards = _ORDERS[operator]
    found: NDArray[np.bool_] = compare(reals, _rounded(literal, upwards=upwards))
    return found


def same_integers(literals: Collection[float]) -> list[int]:
    """Return those of the literals that 64 bits hold as a whole number."""
    whole = (math.floor(literal) for literal in literals if literal == math.floor(literal))
    return [value for value in whole if -(2**63) <= value < 2**63]


def same_reals(literals: Collection[float]) -> list[float]:
    """Return those of the literals that a float holds exactly."""
    return [float(literal) for literal in literals if float(literal) == literal]


def are_any(values: NDArray[_Scalar], wanted: list[Any]) -> NDArray[np.bool_]:
    """Return which values equal any of those that are wanted; bool (n,)."""
    if len(wanted) > _FEW:
        return np.isin(values, np.array(wanted, values.dtype))
    found = np.zeros(len(values), np.bool_)
    for value in wanted:
        found |= values == value
    return found


def _rounded(literal: float, *, upwards: bool) -> float:
    """Return the float that is closest to a literal on one side of it; the literal itself if it is a float."""
    nearest = float(literal)
    if nearest == literal or (nearest > literal) == upwards:
        return nearest
    return math.nextafter(nearest, math.inf if upwards else -math.inf)
