r"""Compile the tree of a filter into a SQLite condition over a column of JSON text.

The condition is true for a match and false or NULL for everything else. There is no general NOT, which could turn NULL
into a match. All text of the user, including paths, is passed as parameters. The condition differs from plain SQLite in
these points:

- `json_extract` returns an array or object as JSON text, which a string could equal. Here it equals nothing.
- SQLite orders text above numbers. Here only numbers and booleans have an order.
- SQLite may round floats in JSON differently from Python. Float literals are therefore passed as JSON as well.
- `GLOB` takes time that is exponential in the number of stars. `nextk_glob` has the same meaning, but not the cost.
- The parser of SQLite overflows at about 30 nested parentheses; see `_join`.

Whole numbers are exact as long as they fit 64 bits, and floats beyond that. A stored string ends at its first `\u0000`,
because SQLite reads it that way.
"""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from nextk.engine.filter import glob
from nextk.engine.filter.tree import And, Compare, Contains, FieldPath, Glob, HasField, In, Node, Or, Value

__all__ = ["Parameter", "json_path", "read_literal", "register", "to_column", "to_sql"]

Parameter: TypeAlias = str | int | float


def register(connection: sqlite3.Connection) -> None:
    """Register the function that conditions call, once per connection and before its first condition."""
    connection.create_function("nextk_glob", 2, _glob, deterministic=True)


def to_sql(node: Node, column: str) -> tuple[str, list[Parameter]]:
    """Compile the tree of a filter.

    Args:
        node: The tree, as `nextk.engine.filter.syntax.parse` returns it.
        column: The column that contains JSON text or NULL. It is copied into the SQL, so it must be trusted.

    Returns:
        The condition in parentheses, and the values of its `?` placeholders in order.
    """
    condition = _compile(node, column)
    return f"({condition.sql})", condition.parameters


def to_column(node: Node | None, column: str) -> tuple[str, Sequence[Parameter]]:
    """Compile a filter as a column of a SELECT, which is true for a match.

    Args:
        node: The tree of the filter; `None` if there is none, so that everything matches.
        column: The column that contains JSON text or NULL; see `to_sql`.

    Returns:
        The column, and the values of its `?` placeholders in order.
    """
    if node is None:
        return "TRUE", ()
    condition, parameters = to_sql(node, column)
    # SQLite evaluates both sides of every AND and OR in a bare column. Within CASE it stops where one side decides.
    return f"CASE WHEN {condition} THEN TRUE ELSE FALSE END", parameters


def read_literal(literal: Value) -> Value:
    """Return a literal as a condition compares it: a float as SQLite reads it from JSON, anything else as it is."""
    return _read_float(literal) if isinstance(literal, float) else literal


@lru_cache(maxsize=1_024)
def _read_float(literal: float) -> float:
    with closing(sqlite3.connect(":memory:")) as connection:
        number: float
        (number,) = connection.execute("SELECT json_extract(?, '$')", (json.dumps(literal),)).fetchone()
    return number


@dataclass(frozen=True, slots=True)
class _SqlCondition:
    """SQL with its values, and the entries it takes on the stack of SQLite's parser beyond those of a predicate."""

    sql: str
    parameters: list[Parameter]
    stack: int = 0


def _compile(node: Node, column: str) -> _SqlCondition:
    match node:
        case And(nodes):
            return _join(" AND ", [_compile(part, column) for part in nodes])
        case Or(nodes):
            joined = _join(" OR ", [_compile(part, column) for part in nodes])
            return _SqlCondition(f"({joined.sql})", joined.parameters, joined.stack + 1)
        case _:
            return _SqlCondition(*_predicate(node, column))


def _join(operator: str, parts: list[_SqlCondition]) -> _SqlCondition:
    """Join two or more parts, those that take the most stack first.

    SQLite's parser has a stack of 100. `a AND (b OR (c ...` leaves three entries on it for each parenthesis, so that 33
    overflow it; `((... c) OR b) AND a` leaves one, and a filter that `syntax` accepts takes at most about half of it.
    """
    first, second, *rest = sorted(parts, key=lambda part: part.stack, reverse=True)
    ordered = [first, second, *rest]
    return _SqlCondition(
        operator.join(part.sql for part in ordered),
        [value for part in ordered for value in part.parameters],
        max(first.stack, second.stack + 2),
    )


def _predicate(node: Compare | Glob | In | Contains | HasField, column: str) -> tuple[str, list[Parameter]]:
    path = json_path(node.path)
    kind = f"json_type({column}, ?)"
    extracted = f"json_extract({column}, ?)"
    scalar = f"CASE WHEN {kind} IN ('array', 'object') THEN x'' ELSE {extracted} END"  # an empty blob equals nothing
    match node:
        case HasField(_, negated):
            return f"{kind} IS NULL" if negated else f"{kind} IS NOT NULL", [path]
        case Compare(_, "=" | "!=" as operator, value):
            mark, bound = _literal(value)
            return f"{scalar} {operator} {mark}", [path, path, bound]
        case Compare(_, operator, value):
            mark, bound = _literal(value)
            number = f"CASE WHEN {kind} IN ('integer', 'real', 'true', 'false') THEN {extracted} END"
            return f"{number} {operator} {mark}", [path, path, bound]
        case In(_, values, negated):
            marks, bounds = zip(*map(_literal, values), strict=True)
            return f"{scalar} {_not(negated)}IN ({', '.join(marks)})", [path, path, *bounds]
        case Contains(_, value, negated):
            mark, bound = _literal(value)
            found = f"EXISTS (SELECT 1 FROM json_each({column}, ?) WHERE atom = {mark})"  # noqa: S608
            return f"CASE {kind} WHEN 'array' THEN {_not(negated)}{found} END", [path, path, bound]
        case Glob(_, pattern, negated):
            text = f"CASE {kind} WHEN 'text' THEN {extracted} END"
            return f"{_not(negated)}nextk_glob(?, {text})", [pattern, path, path]


def _not(negated: bool) -> str:
    return "NOT " if negated else ""


def _literal(value: Value) -> tuple[str, Parameter]:
    return ("json_extract(?, '$')", json.dumps(value)) if isinstance(value, float) else ("?", value)


def json_path(path: FieldPath) -> str:
    """Return the path to a field as SQLite's JSON functions take it."""
    steps = (
        f'."{step}"' if isinstance(step, str) else f"[#-{step.position}]" if step.from_end else f"[{step.position}]"
        for step in path
    )
    return "$" + "".join(steps)


def _glob(pattern: str, text: str | None) -> bool | None:
    return None if text is None else glob.matcher(pattern)(text)
