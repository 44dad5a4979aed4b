"""Filters evaluated in plain Python by protocol §7.3, §7.4 and Q11; random trees with their text; random metadata."""

import sqlite3
from contextlib import closing
from typing import Any, TypeAlias

from hypothesis import strategies as st

from nextk.engine.filter.tree import And, ArrayStep, Compare, Contains, FieldPath, Glob, HasField, In, Node, Or, Value

Metadata: TypeAlias = dict[str, Any] | None

MISSING = object()


def look_up(metadata: Metadata, path: FieldPath) -> object:
    """Return the value at a path, or `MISSING`."""
    value: Any = MISSING if metadata is None else metadata
    for step in path:
        if isinstance(step, str):
            value = value.get(step, MISSING) if isinstance(value, dict) else MISSING
        elif isinstance(value, list):
            position = len(value) - step.position if step.from_end else step.position
            value = value[position] if 0 <= position < len(value) else MISSING
        else:
            value = MISSING
    return value


def number(value: object) -> int | float | None:
    """A number as 64 bits hold it, booleans included; `None` for anything else."""
    if not isinstance(value, int | float):
        return None
    return value if -(2**63) <= value < 2**63 else float(value)


def equal(value: object, literal: Value) -> bool:
    """Return whether a value equals a literal."""
    if isinstance(literal, str):
        return isinstance(value, str) and value == literal
    return number(value) is not None and number(value) == number(literal)


def native_glob(text: str, pattern: str) -> bool:
    """SQLite's own GLOB."""
    with closing(sqlite3.connect(":memory:")) as opened:
        return bool(opened.execute("SELECT ? GLOB ?", (text, pattern)).fetchone()[0])


def ordered(value: object, operator: str, literal: Value) -> bool:
    """Return whether a value compares to a number as the operator says."""
    left, right = number(value), number(literal)
    if left is None or right is None:
        return False
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator]


def passes(node: Node, metadata: Metadata) -> bool:
    """Whether metadata passes a filter."""
    if isinstance(node, And | Or):
        return (all if isinstance(node, And) else any)(passes(part, metadata) for part in node.nodes)
    value = look_up(metadata, node.path)
    match node:
        case HasField(_, negated):
            return (value is not MISSING) != negated
        case _ if value is MISSING or value is None:
            return False
        case Compare(_, "=" | "!=" as operator, literal):
            return equal(value, literal) == (operator == "=")
        case Compare(_, operator, literal):
            return ordered(value, operator, literal)
        case In(_, literals, negated):
            return any(equal(value, literal) for literal in literals) != negated
        case Contains(_, literal, negated):
            return isinstance(value, list) and any(equal(element, literal) for element in value) != negated
        case Glob(_, pattern, negated):
            return isinstance(value, str) and native_glob(value, pattern) != negated


# Random metadata and trees. No NUL in a string: SQLite would end it there.

KEYS = ["a", "A", "in", "k-1#x"]
STRINGS = st.sampled_from(["", "a", "1", '["a"]', "{}"]) | st.text("ab'\"\\*é\n☂", max_size=3).filter(
    lambda text: not text.endswith("\\")  # such a text cannot be written as a string
)
INTEGERS = st.integers(-2, 2) | st.sampled_from([2**53 + 1, 2**63 - 1, -(2**63)])
FLOATS = st.sampled_from([0.0, -1.0, 0.5, 2.0**53, 2.0**63, 1e-7]) | st.floats(allow_nan=False, allow_infinity=False)
STEPS = st.sampled_from(KEYS) | st.builds(ArrayStep, st.integers(0, 2), st.booleans())

paths = st.builds(lambda key, steps: (key, *steps), st.sampled_from(KEYS), st.lists(STEPS, max_size=2))
literals: st.SearchStrategy[Value] = st.one_of(STRINGS, INTEGERS, FLOATS, st.booleans())
globs = st.text("ab]-^[*?é\n", max_size=8)

values = st.recursive(
    st.none() | literals | st.sampled_from([2**63, 2**64 - 1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=2),
    max_leaves=5,
)
odd_keys = st.sampled_from(["a.b", "a[0]", 'q"', "", "é", "$", "\\"])
metadata: st.SearchStrategy[Metadata] = st.none() | st.dictionaries(
    st.sampled_from(KEYS) | odd_keys, values, max_size=5
)


def predicates_on(paths: st.SearchStrategy[FieldPath], literals: st.SearchStrategy[Value]) -> st.SearchStrategy[Node]:
    """Predicates of all kinds on some fields, with some literals."""
    return st.one_of(
        st.builds(Compare, paths, st.sampled_from(["=", "!="]), literals),
        st.builds(Compare, paths, st.sampled_from(["<", "<=", ">", ">="]), INTEGERS | FLOATS),
        st.builds(Glob, paths, globs, st.booleans()),
        st.builds(In, paths, st.lists(literals, min_size=1, max_size=4).map(tuple), st.booleans()),
        st.builds(Contains, paths, literals, st.booleans()),
        st.builds(HasField, paths, st.booleans()),
    )


predicates = predicates_on(paths, literals)

# Few values, so that records have many of them in common.

few: st.SearchStrategy[Value] = st.sampled_from(["a", "b", "ab", "1"]) | st.sampled_from(
    [1, 0, 1.0, 0.5, True, 2**53 + 1, 2.0**53]
)
alike: st.SearchStrategy[Metadata] = st.builds(
    lambda value: {"a": value}, few | st.lists(few, max_size=2) | st.none() | st.just({})
)
tests_of_alike = predicates_on(st.just(("a",)), few)

trees: st.SearchStrategy[Node] = st.recursive(
    predicates,
    lambda inner: (
        st.lists(inner, min_size=2, max_size=3)
        .map(tuple)
        .flatmap(lambda nodes: st.sampled_from([And(nodes), Or(nodes)]))
    ),
    max_leaves=8,
)


# Trees as text


def read_string(text: str) -> str | None:
    """The value of a string by Q10, read letter by letter; `None` if the text is not exactly one string."""
    quote, value, position = text[:1], "", 1
    while position < len(text):
        if text.startswith(f"\\{quote}", position):
            value, position = value + quote, position + 2
        elif text[position] == quote:
            return value if position == len(text) - 1 else None
        else:
            value, position = value + text[position], position + 1
    return None


def written(value: Value) -> str:
    """A literal as a filter spells it."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return "'" + value.replace("'", "\\'") + "'"
    return repr(value)


def field(path: FieldPath) -> str:
    """A path as a filter spells it."""
    steps = (
        f".{step}" if isinstance(step, str) else f"[#-{step.position}]" if step.from_end else f"[{step.position}]"
        for step in path
    )
    return "".join(steps).removeprefix(".")


def spell(node: Node) -> str:
    """A tree as text."""
    match node:
        case And(nodes) | Or(nodes):
            return f" {type(node).__name__} ".join(f"({spell(part)})" for part in nodes)
        case Compare(path, operator, value):
            return f"{field(path)}{operator}{written(value)}"
        case HasField(path, negated):
            return f"has {'not ' * negated}field {field(path)}"
        case Glob(path, pattern, negated):
            return f"{field(path)} {'Not ' * negated}Glob {written(pattern)}"
        case Contains(path, value, negated):
            return f"{field(path)}\n{'NOT ' * negated}CONTAINS {written(value)}"
        case In(path, literals, negated):
            return f"{field(path)} {'not ' * negated}in({','.join(map(written, literals))})"
