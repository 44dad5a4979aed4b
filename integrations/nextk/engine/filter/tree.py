"""The syntax tree of a filter, which does not depend on any database.

Protocol §7.3, §7.4 and Q11 define what each node means, and every compiler of a tree must follow them. In short: a
field that is missing or `null` can only pass `HasField`. A field of the wrong type passes no other test either, negated
or not, except that values of different types are unequal.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["And", "ArrayStep", "Compare", "Contains", "FieldPath", "Glob", "HasField", "In", "Node", "Or", "Value"]


@dataclass(frozen=True, slots=True)
class ArrayStep:
    """A step into an array.

    Attributes:
        position: The position of the element, counted from 0.
        from_end: Whether the position is counted back from the length of the array instead.
    """

    position: int
    from_end: bool = False


FieldPath: TypeAlias = tuple[str | ArrayStep, ...]
"""The path to a field: keys of objects and positions in arrays. The first step is a key."""

Value: TypeAlias = str | int | float
"""A literal. `TRUE` and `FALSE` become `True` and `False`, which equal 1 and 0 here as they do in Python."""


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison such as `path = value`. The value of `<`, `<=`, `>` and `>=` is never a string."""

    path: FieldPath
    operator: Literal["=", "!=", "<", "<=", ">", ">="]
    value: Value


@dataclass(frozen=True, slots=True)
class Glob:
    """`path GLOB pattern`."""

    path: FieldPath
    pattern: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class In:
    """`path IN (values)`, with at least one value."""

    path: FieldPath
    values: tuple[Value, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Contains:
    """`path CONTAINS value`."""

    path: FieldPath
    value: Value
    negated: bool = False


@dataclass(frozen=True, slots=True)
class HasField:
    """`HAS FIELD path`."""

    path: FieldPath
    negated: bool = False


@dataclass(frozen=True, slots=True)
class And:
    """A conjunction of two or more nodes, none of which is an `And` itself."""

    nodes: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """A disjunction of two or more nodes, none of which is an `Or` itself."""

    nodes: "tuple[Node, ...]"


Node: TypeAlias = And | Or | Compare | Glob | In | Contains | HasField
