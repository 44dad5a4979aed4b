"""LlamaIndex's filters: its own answers as an oracle, random filters, and random rows made after them."""

import math
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

from hypothesis import strategies as st
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

Metadata: TypeAlias = dict[str, Any]

O = FilterOperator  # noqa: E741


def one(key: str, operator: FilterOperator, value: Any = None) -> MetadataFilters:
    """A single filter."""
    return MetadataFilters(filters=[MetadataFilter(key=key, operator=operator, value=value)])


def joined(condition: str | None, *parts: MetadataFilters | MetadataFilter) -> MetadataFilters:
    """A group."""
    return MetadataFilters(filters=list(parts), condition=None if condition is None else FilterCondition(condition))


# LlamaIndex's own answer


def theirs(filters: MetadataFilters, row: Metadata) -> bool | None:
    """Whether a row passes in LlamaIndex's in-memory store; `None` if the store raises because of it."""
    try:
        return build_metadata_filter_fn(lambda _: row, filters)("x")
    except TypeError:
        return None


def meant(part: MetadataFilters | MetadataFilter, row: Metadata) -> bool | None:
    """Whether a row passes groups inside groups; `None` if that depends on filters that are undecided."""
    if isinstance(part, MetadataFilter):
        return theirs(MetadataFilters(filters=[part]), row)
    inner = [meant(each, row) for each in part.filters]
    possible = (
        {
            with_all(part.condition, [undecided if each is None else each for each in inner])
            for undecided in (False, True)
        }
        if inner
        else {True}
    )
    return possible.pop() if len(possible) == 1 else None


def with_all(condition: FilterCondition | None, verdicts: list[bool]) -> bool:
    """Verdicts as a group joins them."""
    match condition:
        case FilterCondition.OR:
            return any(verdicts)
        case FilterCondition.NOT:
            return not any(verdicts)
        case _:
            return all(verdicts)


# Random filters, and rows that are made after them

PLAIN_KEYS = ["a", "b", "k-1"]
KEYS = st.sampled_from([*PLAIN_KEYS * 5, "a.b", "a b", "in", "é", "", 'q"', "a[0]", "A"])
LETTERS = "abAB '\"\\*?[]^-.iI\u0130\u0131\u0307kK\u212a\u00df\u03a3\u03c3\u03c2é☂\n"
WORDS = [
    "a",
    "ab",
    "b c",
    "O'Brien",
    'it\'s "a"',
    "a*",
    "[a]",
    "?",
    "\\",
    "Ki",
    "is",
    "K\u212a",
    "\u0130i",
    "\u03a3\u03c2",
    "",
]
STRINGS = st.sampled_from(WORDS) | st.text(LETTERS, max_size=3)
NUMBERS = st.sampled_from(
    [0, 1, 2, -1, 0.5, 1.0, -0.0, 1e-7, 5e-324, 1e300]
    + [sign * 2**power + more for sign in (-1, 1) for power in (53, 63, 64) for more in (-1, 0, 1)]
    + [2.0**53, 2.0**63, -(2.0**63), 2.0**64, 10**400, float("nan"), float("inf"), float("-inf")]
)
asked_strings = STRINGS | STRINGS | st.text("a\0\ud800", min_size=1, max_size=2)
asked_lists = st.lists(asked_strings, max_size=3) | st.lists(NUMBERS, max_size=3)
asked_values = asked_strings | NUMBERS | asked_lists


def leaves_of(operators: list[FilterOperator], values: st.SearchStrategy[Any]) -> st.SearchStrategy[MetadataFilter]:
    """Filters of some operators. Built unchecked, so that numbers stay what they are."""
    return st.builds(
        lambda key, operator, value: MetadataFilter.model_construct(key=key, operator=operator, value=value),
        KEYS,
        st.sampled_from(operators),
        values,
    )


leaves = st.one_of(
    leaves_of([O.EQ, O.EQ, O.NE], asked_values | st.none() | st.booleans()),
    leaves_of([O.CONTAINS], asked_values | st.none() | st.booleans()),
    leaves_of([O.GT, O.GTE, O.LT, O.LTE], NUMBERS | asked_values),
    leaves_of([O.IN, O.IN, O.NIN, O.ANY, O.ALL], asked_lists | asked_lists | asked_strings),
    leaves_of([O.TEXT_MATCH, O.TEXT_MATCH_INSENSITIVE], asked_strings),
    leaves_of([O.IS_EMPTY], st.none()),
)


def groups_of(parts: st.SearchStrategy[Any], conditions: list[FilterCondition | None]) -> st.SearchStrategy[Any]:
    """Groups of up to three parts; a group of none now and then."""
    return st.builds(
        lambda filters, condition: MetadataFilters.model_construct(filters=filters, condition=condition),
        st.lists(parts, min_size=1, max_size=3) | st.lists(parts, max_size=1),
        st.sampled_from(conditions),
    )


CONDITIONS = [FilterCondition.AND, FilterCondition.OR, FilterCondition.NOT, None]
flat = groups_of(leaves, CONDITIONS)
groups: st.SearchStrategy[MetadataFilters] = st.one_of(
    leaves.map(lambda leaf: MetadataFilters(filters=[leaf])),
    groups_of(leaves, [FilterCondition.AND, FilterCondition.OR]),
    groups_of(leaves | flat, CONDITIONS),
    groups_of(flat | groups_of(leaves | flat, CONDITIONS), CONDITIONS),
)


def leaves_in(part: MetadataFilters | MetadataFilter) -> Iterator[MetadataFilter]:
    """All filters of a tree."""
    if isinstance(part, MetadataFilter):
        yield part
    else:
        for inner in part.filters:
            yield from leaves_in(inner)


def relatives(value: Any) -> Iterator[Any]:
    """A value that a filter names, values that are easily confused with it, and values in which it is looked for."""
    yield from (None, "", [], {}, 0, "a", True, value)
    if isinstance(value, list):
        yield from (
            value[1:],
            value[:1],
            [*value, "z"],
            [value],
            "".join(map(str, value)),
            dict.fromkeys(map(str, value)),
        )
        for part in value[:2]:
            yield from relatives(part)
    elif isinstance(value, str):
        yield from (f"x{value}y", value[1:], [value], ["z", value, None], [[value]], {value: None}, {f"{value}z": 1})
        yield from (
            value.upper(),
            value.lower(),
            value.swapcase(),
            re.sub(r"[\W_]", "z", value),
            re.sub(r"\W", "zz", value),
        )
        yield from (value.replace("i", "\u0130"), value.lower().replace("k", "\u212a"), value.replace("\u0307", ""))
    elif value is not None:
        yield from (-value, [value], [1, value], [[value]], {"a": value}, value == 1)
        yield from (value + 1, value - 1, math.nextafter(value, 0), float(value)) if abs(value) < 2**64 else ()


def storable(value: Any) -> bool:
    """Whether metadata can hold a value."""
    if isinstance(value, str):
        return not re.search(r"[\0\ud800-\udfff]", value)
    if isinstance(value, list | dict):
        return all(map(storable, value)) and (isinstance(value, list) or all(map(storable, value.values())))
    return value is None or -(2**63) <= value < 2**64 or (isinstance(value, float) and math.isfinite(value))


@st.composite
def searches(draw: st.DrawFn, filters: st.SearchStrategy[MetadataFilters]) -> tuple[MetadataFilters, list[Metadata]]:
    """Filters and three rows, each of which lacks a key here and there."""
    chosen = draw(filters)
    absent = object()
    rows: list[Metadata] = [{}, {}, {}]
    for leaf in leaves_in(chosen):
        held = [absent, *filter(storable, relatives(leaf.value))]
        for row in rows:
            row[leaf.key] = draw(st.sampled_from(held))
    return chosen, [{key: value for key, value in row.items() if value is not absent} for row in rows]
