"""The part of LlamaIndex's filters that the index applies: all of it if the filter language can say it, else less.

No comparison of the filter language is true of a missing field or of `null`, and nothing distinguishes `null` from
other values. Therefore `!=` and most negations, which hold for missing fields and `null`, cannot be narrowed down.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator

from nextk.filter_text import verbatim
from nextk.llama_index.filters.semantics import Condition, ConditionGroup
from nextk.retrievers.filter_expressions import (
    ANYTHING,
    EVERYTHING,
    NOTHING,
    FilterExpression,
    all_of,
    any_of,
    glob,
    literal,
    path_of,
    predicate,
    step_of,
)

_EXACT_BELOW = 2**53  # from here on, neighbouring integers are equal to an index that keeps doubles
_ORDERED_BELOW = 2**63  # from here on, they are equal to SQLite as well
_MAX_VALUES = 500  # in one IN predicate
_OPPOSITES = {FilterOperator.NE: FilterOperator.EQ, FilterOperator.NIN: FilterOperator.IN}
_UPPER_CASES = {"i": "[iI\u0130]", "k": "[kK\u212a]"}  # every character whose lower case is the letter


def pushed_down(part: ConditionGroup | Condition, *, negated: bool = False) -> FilterExpression:
    """Return the expression that the index applies for a filter, or for its negation."""
    if isinstance(part, Condition):
        return _condition(part, negated=negated)
    if not part.parts:
        return NOTHING if negated else EVERYTHING
    inner = negated is not (part.condition is FilterCondition.NOT)
    joined = all_of if negated is (part.condition is FilterCondition.OR) else any_of
    return joined(pushed_down(each, negated=inner) for each in part.parts)


def one_of(key: str, values: Sequence[Any]) -> FilterExpression:
    """Return the expression for records in which a key holds one of some values."""
    return _condition(Condition(key, FilterOperator.IN, list(values)), negated=False)


def _condition(condition: Condition, *, negated: bool) -> FilterExpression:
    path = path_of(condition.key)
    if condition.operator is FilterOperator.IS_EMPTY:
        return ANYTHING if path is None else _present(path) if negated else _absent(f"{path}[0]")
    operator = _OPPOSITES.get(condition.operator, condition.operator)
    negated = negated is not (operator is not condition.operator)
    if _never(operator, condition.value):
        return EVERYTHING if negated else NOTHING
    if negated or path is None:
        return ANYTHING
    expression = _EXPRESSIONS[operator](path, condition.value)
    return expression if expression.text else _present(path)


def _never(operator: FilterOperator, value: Any) -> bool:
    """Return whether a filter holds for no record and is undecided for no record."""
    match operator:
        case FilterOperator.EQ:
            return value is None
        case FilterOperator.IN:
            return isinstance(value, list) and not value
        case FilterOperator.ANY:
            return not value
        case _:
            return False


def _present(path: str) -> FilterExpression:
    return predicate(f"HAS FIELD {path}", exact=False)


def _absent(path: str) -> FilterExpression:
    return predicate(f"HAS NOT FIELD {path}", exact=False)


def _is_comparable(value: Any) -> bool:
    """Return whether an index orders a value as Python does, or at worst takes neighbours for equal; false for nan."""
    return isinstance(value, str) or bool(abs(value) < _ORDERED_BELOW)


def _is_exact(value: Any) -> bool:
    return isinstance(value, str) or bool(abs(value) < _EXACT_BELOW)


def _equal(path: str, value: Any) -> FilterExpression:
    if isinstance(value, list):
        return _equal_list(path, value)
    if not _is_comparable(value):
        return _present(path)
    spelled = literal(value)
    if spelled is None:
        return glob(path, verbatim(value), exact=True)
    return predicate(f"{path} = {spelled}", exact=_is_exact(value))


def _equal_list(path: str, values: list[Any]) -> FilterExpression:
    """Compare the length and the first 4 elements; no filter distinguishes an empty array from another value."""
    elements = [_equal(f"{path}[{position}]", value) for position, value in enumerate(values[:4])]
    return all_of([_present(path), *elements, _absent(f"{path}[{len(values)}]")])


def _ordered(sign: str) -> Callable[[str, Any], FilterExpression]:
    def expression(path: str, value: Any) -> FilterExpression:
        if isinstance(value, str):
            return glob(path, "*", exact=False)
        if isinstance(value, list) or not _is_comparable(value):
            return _present(path)
        exact = _is_exact(value)
        return predicate(f"{path} {sign if exact else sign[0] + '='} {literal(value)}", exact=exact)

    return expression


def _one_of(path: str, values: str | list[Any]) -> FilterExpression:
    if isinstance(values, str):  # the stored value is a part of this string
        return glob(path, "*", exact=False)
    if len(values) > _MAX_VALUES:
        return ANYTHING
    texts = {value: literal(value) for value in values if _is_comparable(value)}
    spelled = {value: text for value, text in texts.items() if text is not None}
    others = [_equal(path, value) for value in values if value not in spelled]
    if not spelled:
        return any_of(others)
    exact = all(map(_is_exact, spelled))
    return any_of([predicate(f"{path} IN ({', '.join(spelled.values())})", exact=exact, depth=1), *others])


def _contains(path: str, value: Any) -> FilterExpression:
    return any_of(_containing(path, value))


def _any(path: str, values: str | list[Any]) -> FilterExpression:
    return any_of([expression for value in values for expression in _containing(path, value)])


def _all(path: str, values: str | list[Any]) -> FilterExpression:
    return all_of([_contains(path, value) for value in values])


def _containing(path: str, value: Any) -> list[FilterExpression]:
    """Return expressions for arrays with an element, strings with a part, and objects with a key; one suffices."""
    if value is None or isinstance(value, list):
        return [_present(f"{path}[0]")]
    spelled = literal(value) if _is_comparable(value) else None
    if spelled is None:
        return [_present(path)]
    element = predicate(f"{path} CONTAINS {spelled}", exact=_is_exact(value))
    if not isinstance(value, str):
        return [element]
    step = step_of(path, value)
    if step is None:  # no filter distinguishes objects, which may have the key, from strings
        return [element, all_of([_present(path), _absent(f"{path}[0]")])]
    return [element, glob(path, f"*{verbatim(value)}*", exact=True), predicate(f"HAS FIELD {step}", exact=True)]


def _text(path: str, value: str) -> FilterExpression:
    return glob(path, f"*{verbatim(value)}*", exact=True)


def _text_of_any_case(path: str, value: str) -> FilterExpression:
    """Match ASCII letters in both cases and anything for other letters, whose lower case only the residual knows."""
    lowered = value.lower()
    pattern = "".join(map(_any_case, lowered))
    return glob(path, f"*{pattern}*", exact=lowered.isascii() and "i" not in lowered)


def _any_case(letter: str) -> str:
    if not letter.isascii():
        return "*"
    if letter.isalpha():
        return _UPPER_CASES.get(letter, f"[{letter}{letter.upper()}]")
    return verbatim(letter)


_EXPRESSIONS: Mapping[FilterOperator, Callable[[str, Any], FilterExpression]] = {
    FilterOperator.EQ: _equal,
    FilterOperator.GT: _ordered(">"),
    FilterOperator.GTE: _ordered(">="),
    FilterOperator.LT: _ordered("<"),
    FilterOperator.LTE: _ordered("<="),
    FilterOperator.IN: _one_of,
    FilterOperator.CONTAINS: _contains,
    FilterOperator.TEXT_MATCH: _text,
    FilterOperator.TEXT_MATCH_INSENSITIVE: _text_of_any_case,
    FilterOperator.ALL: _all,
    FilterOperator.ANY: _any,
}
