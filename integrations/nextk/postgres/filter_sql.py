r"""Compile the tree of a filter into a condition of PostgreSQL over a column of jsonb.

The condition is true for a match, and false or NULL for everything else. Every predicate is `column @? path`, in which
the path is a parameter: a jsonpath in strict mode that finds the field if it passes. Therefore no text of a user
becomes SQL, PostgreSQL can serve equality by a GIN index of the class `jsonb_path_ops`, and its statistics of the
column tell the planner how many rows pass, which they would not for an expression.

Strict jsonpath has nearly the semantics of the filter language: a key is only found in an object, a position only in an
array, and a comparison of different types is neither true nor false. The condition differs from plain jsonpath in these
points:

- `TRUE` and `FALSE` are 1 and 0, also where numbers are ordered.
- A number beyond 64 bits equals every number that becomes the same float, however it was spelled. All other numbers are
  compared as decimals; `nextk.postgres.metadata_text` stores them so that this is exact.
- A long `IN` is looked up in a hash table, where a chain of comparisons would be slow.
- No text in jsonb contains `\u0000`, so that no field equals a literal that does.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from operator import ge, gt, le, lt

from psycopg import sql

from nextk.engine.filter.tree import And, ArrayStep, Compare, Contains, FieldPath, Glob, HasField, In, Node, Or, Value
from nextk.postgres.fragments import Fragment, joined
from nextk.postgres.glob_regex import regex

__all__ = ["filter_fragment"]

_FEW = 16  # comparisons of one IN that are made one after the other
_INT64 = range(-(2**63), 2**63)
_NEVER = "1 == 0"
_ORDERS: Mapping[str, Callable[[float, float], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}


def filter_fragment(node: Node, column: sql.Composable) -> Fragment:
    """Compile the tree of a filter.

    Args:
        node: The tree, as `nextk.engine.filter.syntax.parse` returns it.
        column: The column of type jsonb. It may be NULL, which is a record without metadata.

    Returns:
        The condition in parentheses. It is made for WHERE: a row that does not match may give NULL.

    Raises:
        RefusedError: A pattern of `GLOB` would take PostgreSQL too long to read. The status is 422.
    """
    match node:
        case And(nodes):
            return _in_parentheses(joined(" AND ", [filter_fragment(part, column) for part in nodes]))
        case Or(nodes):
            return _in_parentheses(joined(" OR ", [filter_fragment(part, column) for part in nodes]))
        case HasField(path, negated):
            found = _found(column, _path(path))
            return Fragment(sql.SQL("({} IS NOT TRUE)").format(found.sql), found.values) if negated else found
        case In(path, values, negated) if len(values) > _FEW:
            return _looked_up(column, path, values, negated=negated)
        case _:
            return _found(column, f"{_path(node.path)}{_test(node)}")


def _in_parentheses(fragment: Fragment) -> Fragment:
    return Fragment(sql.SQL("({})").format(fragment.sql), fragment.values)


def _found(column: sql.Composable, path: str) -> Fragment:
    """Return the condition that a jsonpath finds anything."""
    return Fragment(sql.SQL("({} @? %s::jsonpath)").format(column), (path,))


def _path(path: FieldPath) -> str:
    """Return the jsonpath to a field."""
    return "strict $" + "".join(map(_step, path))


def _step(step: str | ArrayStep) -> str:
    if isinstance(step, str):
        return f".{json.dumps(step)}"
    return f"[last - {step.position - 1}]" if step.from_end else f"[{step.position}]"


def _test(node: Compare | Glob | In | Contains) -> str:
    """Return the part of a jsonpath that keeps a field, whose path it follows, if it passes a test."""
    match node:
        case Compare(_, "=" | "!=" as operator, value):
            return _kept(_any_equal([value]), negated=operator == "!=")
        case Compare(_, operator, value):
            assert not isinstance(value, str), "the grammar orders numbers alone"
            return f" ? ({_ordered(operator, value)})"
        case In(_, values, negated):
            return _kept(_any_equal(values), negated=negated)
        case Contains(_, value, negated):
            found = f"[*] ? ({_any_equal([value])})"
            return f' ? (@.type() == "array" && !exists (@{found}))' if negated else found
        case Glob(_, pattern, negated):
            expression = regex(pattern)
            matches = _NEVER if expression is None else f'@ like_regex {json.dumps(expression)} flag "s"'
            return f' ? (@.type() == "string" && !({matches}))' if negated else f" ? ({matches})"


def _kept(test: str, *, negated: bool) -> str:
    """Return the part of a jsonpath that keeps a field for which a test is true or, if negated, anything but true."""
    return f" ? (@ != null && (!({test}) || ({test}) is unknown))" if negated else f" ? ({test})"


def _any_equal(values: Sequence[Value]) -> str:
    """Return the jsonpath test that a field equals any of some literals."""
    tests = [f"@ == {text}" for value in values for text in _texts(value)]
    tests += [f"@ >= {low} && @ <= {high}" for value in values for low, high in _intervals(value)]
    return " || ".join(tests) or _NEVER


def _looked_up(column: sql.Composable, path: FieldPath, values: Sequence[Value], *, negated: bool) -> Fragment:
    """Return the condition that a field equals any of many literals or, if negated, is there and equals none."""
    texts = [text for value in values for text in _texts(value)]
    field = sql.SQL("jsonb_path_query_first({}, %s::jsonpath, '{{}}', true)").format(column)
    if negated:
        texts.append("null")
        alike = Fragment(sql.SQL("{} <> ALL (%s::jsonb[])").format(field), (_path(path), texts))
    else:
        alike = Fragment(sql.SQL("{} = ANY (%s::jsonb[])").format(field), (_path(path), texts))
    huge = [value for value in values if _intervals(value)]
    if huge:
        other = _found(column, f"{_path(path)}{_kept(_any_equal(huge), negated=negated)}")
        alike = joined(" AND " if negated else " OR ", [alike, other])
    return _in_parentheses(alike)


def _texts(value: Value) -> list[str]:
    """Return the JSON of all values that equal a literal; none if `_intervals` says it, or if jsonb holds none."""
    if isinstance(value, str):
        return [] if "\0" in value else [json.dumps(value)]
    if value in (0, 1):
        return ["1", "true"] if value else ["0", "false"]
    return [] if _intervals(value) else [_decimal(value)]


def _intervals(value: Value) -> list[tuple[str, str]]:
    """Return the interval of the numbers that equal a number beyond 64 bits; none for another literal."""
    if isinstance(value, str) or math.floor(value) in _INT64:
        return []
    low, high = _same_float(value)
    return [(str(low), str(high))]


def _same_float(value: float) -> tuple[int, int]:
    """Return the smallest and the largest whole number beyond 64 bits that become a float, which is beyond them."""
    if value < 0:
        low, high = _same_float(-value)
        return -high, -low
    exact, below, above = int(value), int(math.nextafter(value, 0.0)), math.nextafter(value, math.inf)
    low, high = (exact + below) // 2, (exact + (2 * exact - below if math.isinf(above) else int(above))) // 2
    # Either end lies halfway between two floats, and becomes the one whose last bit is 0.
    return max(low + (not _becomes(low, value)), 2**63), high - (not _becomes(high, value))


def _becomes(whole: int, value: float) -> bool:
    try:
        return float(whole) == value
    except OverflowError:
        return False


def _ordered(operator: str, value: float) -> str:
    """Return the jsonpath test that a number or a boolean compares to a literal as `<`, `<=`, `>` or `>=` says."""
    if math.floor(value) in _INT64:
        limit = _decimal(value)
    else:
        low, high = _same_float(value)
        limit = str(low if operator in {"<", ">="} else high)
    compare = _ORDERS[operator]
    booleans = " || @ == true" * compare(True, value) + " || @ == false" * compare(False, value)
    return f"@ {operator} {limit}{booleans}"


def _decimal(value: float) -> str:
    """Return a number as it is stored: a whole one in full, any other one as its shortest spelling."""
    return str(math.floor(value)) if value == math.floor(value) else repr(float(value))
