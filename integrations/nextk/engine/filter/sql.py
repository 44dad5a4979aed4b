r"""A filter's tree as a SQLite condition over a column of JSON text, and the function that it needs.

The condition is true for a match and false or NULL for anything else; there is no general NOT that could turn a NULL
round. User text, paths included, travels as parameters. What SQLite would get wrong on its own:

- `json_extract` gives an array or object as JSON text, which a string could equal. Here it equals nothing.
- SQLite ranks text above numbers. Here only numbers and booleans are ordered.
- Floats in JSON are rounded by SQLite, which need not round as Python does, so float literals are sent as JSON as well.
- `GLOB` takes time exponential in its stars. `nextk_glob` means the same and does not.
- SQLite's parser overflows some 30 parentheses deep, see `_join`.

Whole numbers are exact while 64 bits hold them, and floats beyond that. A stored string ends at its first `\u0000`,
because SQLite reads it so.
"""

import json
import re
import sqlite3
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from nextk.engine.filter.tree import And, Compare, Contains, Glob, HasField, In, Node, Or, Path, Value

__all__ = ["Parameter", "register", "to_sql"]

Parameter: TypeAlias = str | int | float

_GLOB_STEP = re.compile(r"(?P<star>\*+)|(?P<any>\?)|\[(?P<not>\^?+)(?P<first>\]?+)(?P<set>[^\]]*+)\]|.", re.DOTALL)
_SET_STEP = re.compile(r"(.)(?:-(.))?", re.DOTALL)


def register(connection: sqlite3.Connection) -> None:
    """Give a connection the function that conditions call; once per connection, before the first of them."""
    connection.create_function("nextk_glob", 2, _glob, deterministic=True)


def to_sql(node: Node, column: str = "metadata") -> tuple[str, list[Parameter]]:
    """Compile a tree.

    Args:
        node: What `nextk.engine.filter.syntax.parse` returned.
        column: The column of JSON text or NULL, as SQL that the caller vouches for.

    Returns:
        A condition in parentheses and the values of its `?` marks, in order.
    """
    condition = _compile(node, column)
    return f"({condition.sql})", condition.parameters


@dataclass(frozen=True, slots=True)
class _Condition:
    """SQL, its values, and how many places it takes on the stack of SQLite's parser beyond those of a predicate."""

    sql: str
    parameters: list[Parameter]
    stack: int = 0


def _compile(node: Node, column: str) -> _Condition:
    match node:
        case And(nodes):
            return _join(" AND ", [_compile(part, column) for part in nodes])
        case Or(nodes):
            joined = _join(" OR ", [_compile(part, column) for part in nodes])
            return _Condition(f"({joined.sql})", joined.parameters, joined.stack + 1)
        case _:
            return _Condition(*_predicate(node, column))


def _join(operator: str, parts: list[_Condition]) -> _Condition:
    """Join two parts or more, the hungriest first.

    SQLite's parser has a stack of 100. `a AND (b OR (c ...` leaves three entries on it for each parenthesis, so that 33
    overflow it; `((... c) OR b) AND a` leaves one, and whatever `syntax` lets through takes at most about half of it.
    """
    first, second, *rest = sorted(parts, key=lambda part: part.stack, reverse=True)
    ordered = [first, second, *rest]
    return _Condition(
        operator.join(part.sql for part in ordered),
        [value for part in ordered for value in part.parameters],
        max(first.stack, second.stack + 2),
    )


def _predicate(node: Compare | Glob | In | Contains | HasField, column: str) -> tuple[str, list[Parameter]]:
    path = _json_path(node.path)
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


def _json_path(path: Path) -> str:
    steps = (
        f'."{step}"' if isinstance(step, str) else f"[#-{step.position}]" if step.from_end else f"[{step.position}]"
        for step in path
    )
    return "$" + "".join(steps)


def _glob(pattern: str, text: str | None) -> bool | None:
    if text is None:
        return None
    compiled = _glob_pattern(pattern)
    return compiled is not None and compiled.fullmatch(text) is not None


@lru_cache(maxsize=256)
def _glob_pattern(pattern: str) -> re.Pattern[str] | None:
    """Compile a GLOB pattern; `None` if an unclosed `[` keeps it from ever matching.

    What stands between two stars has a fixed length, so its first occurrence is as good as any other: an atomic group
    takes it and never comes back. The time is that of one search per star, each going on where the last one ended.
    """
    runs: list[list[str]] = [[]]
    for step in _GLOB_STEP.finditer(pattern):
        if step["star"]:
            runs.append([])
        elif step["any"]:
            runs[-1].append(".")
        elif step["set"] is not None:
            runs[-1].append(f"[{step['not']}{re.escape(step['first'])}{_set(step['set'])}]")
        elif step[0] == "[":
            return None
        else:
            runs[-1].append(re.escape(step[0]))
    head, *searches = map("".join, runs)
    if not searches:
        return re.compile(head, re.DOTALL)
    *middle, tail = searches
    found = "".join(f"(?>.*?{run})" for run in middle)
    return re.compile(f"{head}{found}.{{{len(runs[-1])},}}+(?<={tail})", re.DOTALL)


def _set(steps: str) -> str:
    """The inside of `[...]`; a range that runs backwards holds its first character only."""
    return "".join(
        re.escape(low) + (f"-{re.escape(high)}" if low <= high else "") for low, high in _SET_STEP.findall(steps)
    )
