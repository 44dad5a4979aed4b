"""Filters as dicts evaluated in plain Python, random filters, and random metadata that are made after them.

The evaluation has three values: `None` is the answer to a comparison with a value that the comparison is not made for.
"""

import datetime as dt
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from hypothesis import strategies as st

from nextk.filter_text import quoted
from tests.support.filter_oracle import MISSING, look_up

DictFilter: TypeAlias = dict[str, Any]
Verdict: TypeAlias = bool | None


def holds(filter: DictFilter, metadata: dict[str, Any]) -> Verdict:
    """Return whether a filter holds for a record."""
    return every(_entry(key, given, metadata) for key, given in filter.items())


def _entry(key: str, given: Any, metadata: dict[str, Any]) -> Verdict:
    match key:
        case "$and":
            return every(holds(part, metadata) for part in given)
        case "$or":
            return some(holds(part, metadata) for part in given)
        case "$nor":
            return opposite(some(holds(part, metadata) for part in given))
        case "$not":
            return opposite(holds(given, metadata))
        case _:
            return _said(look_up(metadata, tuple(key.split("."))), given)


def _said(value: Any, given: Any) -> Verdict:
    conditions = given if isinstance(given, dict) else {"$eq": given}
    return every(_compared(value, name, operand) for name, operand in conditions.items())


def _compared(value: Any, name: str, operand: Any) -> Verdict:
    if name == "$not":
        return opposite(_said(value, operand))
    if name == "$exists":
        return bool((value is not MISSING) == operand)
    if name in _OPPOSITES:
        return opposite(_compared(value, _OPPOSITES[name], operand))
    if name in ("$in", "$between"):
        tests = [("$eq", each) for each in operand] if name == "$in" else zip(("$gte", "$lte"), operand, strict=True)
        return (some if name == "$in" else every)(_compared(value, *each) for each in tests)
    return False if value is MISSING else None if value is None else _TESTS[name](value, operand)


_OPPOSITES = {"$ne": "$eq", "$nin": "$in", "$not_contains": "$contains"}


def _equal(value: Any, operand: Any) -> Verdict:
    if isinstance(operand, str):
        return str(value) == operand if isinstance(value, str) else None if quoted(operand) is None else False
    return isinstance(value, int | float) and bool(value == operand)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Verdict]:
    return lambda value, operand: compare(value, operand) if isinstance(value, int | float) else None


def _contains(value: Any, operand: Any) -> Verdict:
    return any(_equal(element, operand) for element in value) if isinstance(value, list) else None


_TESTS: Mapping[str, Callable[[Any, Any], Verdict]] = {
    "$eq": _equal,
    "$gt": _ordered(operator.gt),
    "$gte": _ordered(operator.ge),
    "$lt": _ordered(operator.lt),
    "$lte": _ordered(operator.le),
    "$contains": _contains,
}


def every(verdicts: Iterable[Verdict]) -> Verdict:
    """Join verdicts by AND."""
    listed = list(verdicts)
    return False if False in listed else None if None in listed else True


def some(verdicts: Iterable[Verdict]) -> Verdict:
    """Join verdicts by OR."""
    return opposite(every(map(opposite, verdicts)))


def opposite(verdict: Verdict) -> Verdict:
    """Negate a verdict."""
    return None if verdict is None else not verdict


# Random filters

KEYS = st.sampled_from(["a", "a", "b", "k-1", "a.b", "b.a-0.c"])
WORDS = [
    "",
    "a",
    "ab",
    "1",
    "O'Brien",
    '"a"',
    "a*",
    "[a]",
    "?",
    "C:\\x",
    "é☂",
    "\U0001f600\n",
    " OR HAS FIELD a",
    "true",
]
PUZZLES = ['it\'s "a"', "C:\\", "\\\\a", "\\'", "*'\"\\", "'\" OR HAS FIELD a OR a = '\"'"]
spellable = st.sampled_from(WORDS)
texts = spellable | st.sampled_from(PUZZLES) | st.text("ab'\"\\*?[]^-é\n", max_size=4)
numbers: st.SearchStrategy[int | float] = (
    st.sampled_from([0, 1, -1, 2, 0.5, 1.0, -0.0, 1e-7, 5e-324, -1.5e15])
    | st.sampled_from([sign * 2**power + more for sign in (-1, 1) for power in (53, 62) for more in (-1, 0, 1)])
    | st.sampled_from([2.0**53, 2.0**62, -(2.0**62), 2**63 - 1, 1 - 2**63])
    | st.floats(-(2.0**62), 2.0**62)
)
scalars = texts | numbers | st.booleans()
elements = spellable | numbers | st.booleans()


def conditions_on(
    scalars: st.SearchStrategy[Any], numbers: st.SearchStrategy[Any], elements: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    """Return what is said of one field: a value, or a dict of one or more operators."""
    tests: dict[str, st.SearchStrategy[Any]] = {
        **dict.fromkeys(("$eq", "$ne"), scalars),
        **dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), numbers),
        **dict.fromkeys(("$in", "$nin"), st.lists(scalars, max_size=4)),
        **dict.fromkeys(("$contains", "$not_contains"), elements),
        "$between": st.lists(numbers, min_size=2, max_size=2),
        "$exists": st.booleans(),
    }
    one = st.sampled_from(list(tests)).flatmap(lambda name: st.fixed_dictionaries({name: tests[name]}))
    several = st.lists(one, min_size=2, max_size=3).map(lambda parts: {k: v for part in parts for k, v in part.items()})
    return st.one_of(scalars, one, one, several, st.fixed_dictionaries({"$not": one | several}))


def filters_of(fields: st.SearchStrategy[DictFilter]) -> st.SearchStrategy[DictFilter]:
    """Return filters that join fields by logical operators."""

    def joined(inner: st.SearchStrategy[DictFilter]) -> st.SearchStrategy[DictFilter]:
        many: list[Literal["$and", "$or", "$nor"]] = ["$and", "$or", "$nor"]
        return st.one_of(
            st.builds(
                lambda name, parts: {name: parts}, st.sampled_from(many), st.lists(inner, min_size=1, max_size=3)
            ),
            st.builds(lambda part: {"$not": part}, inner),
            st.builds(lambda one, other: {**one, **other}, inner, inner),
        )

    return st.recursive(fields, joined, max_leaves=5)


conditions = conditions_on(scalars, numbers, elements)
"""Conditions on one field."""

filters = filters_of(st.dictionaries(KEYS, conditions, max_size=2))
"""Filters that the index's language can express."""

odd_scalars = scalars | st.sampled_from(
    [None, 2**63, -(2**63), 10**400, math.nan, math.inf, "\0", "\ud800", b"a", dt.date(2024, 5, 1), {"b": 1}, [1], {1}]
)
odd_keys = KEYS | st.sampled_from(
    ["", "in", "a b", "a[0]", "a.", ".a", "é", "a='b' OR c", "$gt", "$nand", "$not", "A\n"]
)
odd_filters = filters_of(
    st.dictionaries(odd_keys, conditions_on(odd_scalars, odd_scalars, odd_scalars) | st.just({}), max_size=2)
)
"""Filters that the index's language may be unable to express."""


# Random metadata


def operands(filter: Any) -> Iterator[Any]:
    """Yield all the texts, numbers and booleans that a filter names."""
    if isinstance(filter, dict):
        for part in filter.values():
            yield from operands(part)
    elif isinstance(filter, list):
        for part in filter:
            yield from operands(part)
    elif isinstance(filter, str | int | float):
        yield filter


def _storable(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" not in value and "\ud800" not in value
    return isinstance(value, bool) or -(2**63) < value < 2**63


def _relatives(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, str):
        yield from (f"{value}a", value.replace("\\", "\\\\"), value.replace("*", "x"), value.upper())
        yield from (value.replace("'", "!"), value.replace('"', "!"))
    elif not isinstance(value, bool):
        yield from (value + 1, value - 1, math.nextafter(value, math.inf), str(value))


_COMMON: list[Any] = [None, True, False, 0, 1, "", "a", 0.5]


def _likely(filter: Any) -> list[Any]:
    """Return the values that a filter names, values that are easily mistaken for them, and values of every kind."""
    named = [each for value in operands(filter) if _storable(value) for each in _relatives(value) if _storable(each)]
    return [*_COMMON, *named]


def rows_around(condition: Any) -> list[dict[str, Any]]:
    """Return metadata whose field `a` has each of the values that a condition may be mistaken about, or none."""
    likely = _likely(condition)
    return [
        {},
        {"a": []},
        {"a": {"b": 1}},
        {"a": likely},
        *({"a": each} for value in likely for each in (value, [value])),
    ]


def rows_for(filter: DictFilter) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return lists of metadata whose values are those of a filter, and values that are easily mistaken for them."""
    single = st.sampled_from(_likely(filter))
    value = single | st.lists(single, max_size=3)
    nested = st.dictionaries(
        st.sampled_from(["a", "b", "a-0", "c"]), value | st.dictionaries(st.just("c"), value), max_size=2
    )
    row = st.dictionaries(st.sampled_from(["a", "b", "k-1", "a.b"]), value | nested)
    return st.lists(row, min_size=4, max_size=4)
