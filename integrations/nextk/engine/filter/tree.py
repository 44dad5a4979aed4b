"""A filter as a tree that knows no database.

What each node means is in protocol §7.3, §7.4 and Q11; whoever compiles a tree keeps to it. In short: a field that is
missing or `null` passes nothing but `HasField` tests. One of the wrong kind passes nothing else either, negated or
not, save that values of different kinds are unequal.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["And", "ArrayStep", "Compare", "Contains", "Glob", "HasField", "In", "Node", "Or", "Path", "Value"]


@dataclass(frozen=True, slots=True)
class ArrayStep:
    """A step into an array: the element at `position`, or, `from_end`, the one `position` before the array's length."""

    position: int
    from_end: bool = False


Path: TypeAlias = tuple[str | ArrayStep, ...]
"""The way to a field: keys of objects and places in arrays. The first step is a key."""

Value: TypeAlias = str | int | float
"""A literal. `TRUE` and `FALSE` are `True` and `False`, which equal 1 and 0 here as they do in Python."""


@dataclass(frozen=True, slots=True)
class Compare:
    """`path = value` and its kin. The value of an order comparison is never a string."""

    path: Path
    operator: Literal["=", "!=", "<", "<=", ">", ">="]
    value: Value


@dataclass(frozen=True, slots=True)
class Glob:
    """`path GLOB pattern`."""

    path: Path
    pattern: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class In:
    """`path IN (values)`; at least one value."""

    path: Path
    values: tuple[Value, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Contains:
    """`path CONTAINS value`."""

    path: Path
    value: Value
    negated: bool = False


@dataclass(frozen=True, slots=True)
class HasField:
    """`HAS FIELD path`."""

    path: Path
    negated: bool = False


@dataclass(frozen=True, slots=True)
class And:
    """All of them: two or more, none of which is an `And` itself."""

    nodes: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """Any of them: two or more, none of which is an `Or` itself."""

    nodes: "tuple[Node, ...]"


Node: TypeAlias = And | Or | Compare | Glob | In | Contains | HasField
