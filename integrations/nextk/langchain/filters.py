"""Filters as dicts, in the operators of Mongo, Chroma, Pinecone and langchain-postgres, in the index's language.

A dict is translated exactly, or refused. Its negations are carried down to its comparisons, because the index's
language negates nothing else. No text of the caller is read as syntax: a key is a path of plain words, and a value is a
literal.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias

from nextk.arguments import did_you_mean, written
from nextk.errors import ClientError
from nextk.filter_text import quoted_patterns, verbatim
from nextk.langchain.documents import timestamp
from nextk.plain import FAULTS, fault_of, plain
from nextk.retrievers.filter_expressions import (
    EVERYTHING,
    NOTHING,
    FilterExpression,
    all_of,
    any_of,
    literal,
    path_of,
    step_of,
)
from nextk.types import SupportsToList

__all__ = ["index_filter"]

_MAX_BYTES = 8_192
_MAX_PREDICATES = 400
_MAX_IN = 500  # values in one IN
_MAX_LEVELS = 100  # keys and positions on the way into a filter; an index takes 64 parentheses, one for two of these
_EXACT_BELOW = 2**63  # the index keeps whole numbers in 64 bits, and compares them exactly


def index_filter(filter: str | Mapping[str, Any]) -> str:
    """Return a filter in the index's language.

    A dict such as `{"lang": "de", "year": {"$gte": 2020}}` holds for a record if each of its keys does. A key names a
    field of the metadata, with dots a nested one (`author.name`); a key that has a dot of its own, and an element of an
    array, have no name. Beside it stands a value, which the field equals, or a dict of one or more operators, all of
    which hold:

    | operator | holds if the field |
    | --- | --- |
    | `$eq`, `$ne` | equals a text, a number or a boolean; does not equal it |
    | `$in`, `$nin` | equals one of the values in a list; equals none of them |
    | `$gt`, `$gte`, `$lt`, `$lte` | is a number above, from, below or up to a given number |
    | `$between` | is a number from the first of two numbers to the second, both included |
    | `$contains`, `$not_contains` | is an array that contains a value; does not contain it |
    | `$exists` | is there, be it null (`True`); is not there (`False`) |
    | `$not` | fails to pass the operators in a dict |

    `{"$and": [...]}`, `{"$or": [...]}` and `{"$nor": [...]}` join dicts, and `{"$not": {...}}` negates one. `$ne`,
    `$nin`, `$not_contains`, `$not` and `$nor` also hold for a record that lacks the field. A boolean equals 1 or 0.

    A comparison that is not made for the value of the field neither holds nor fails, so its negation does not hold
    either: any comparison with null, an order of what is no number, `$contains` of what is no array, and an equality of
    what is no text with a text that needs GLOB (it has both kinds of quotes, or a backslash before a quote, before
    another backslash or at its end).

    Args:
        filter: A dict, or a text that is written in the index's language, which is returned as it is.

    Raises:
        ClientError: The filter is neither a text nor a dict, or the index's language cannot express the dict exactly.
            The message names the part of the dict, as in `filter['$or'][0]['year']['$gt']`, and says what to do.
    """
    if isinstance(filter, str):
        return filter
    if not isinstance(filter, Mapping):
        message = (
            f"filter={written(filter)} has to be a dict such as {{'lang': 'de', 'year': {{'$gt': 2020}}}}, or a text "
            "in the index's language such as \"lang = 'de' AND year > 2020\""
        )
        raise ClientError(message)
    expression = _filter(filter, _Name("filter"), negated=False)
    size = len(expression.text.encode())
    if size > _MAX_BYTES or expression.predicates > _MAX_PREDICATES:
        message = (
            f"the filter takes {size} bytes and {expression.predicates} predicates, and an index takes at most "
            f"{_MAX_BYTES} and {_MAX_PREDICATES}: name fewer values, or store a field that stands for many of them"
        )
        raise ClientError(message)
    return expression.text


@dataclass(frozen=True, slots=True)
class _Name:
    """The name of a part of a filter, for errors, and how deeply that part is nested."""

    text: str
    levels: int = 0

    def of(self, step: object) -> "_Name":
        """Return the name of what this part has at a key or a position."""
        return _Name(f"{self.text}[{written(step)}]", self.levels + 1)

    def require_shallow(self) -> None:
        """Refuse the whole filter if this part is nested too deeply in it."""
        if self.levels > _MAX_LEVELS:
            message = f"the filter is nested more than {_MAX_LEVELS} levels deep, or holds itself: write it with fewer"
            raise ClientError(message)

    def refuse(self, why: str) -> NoReturn:
        """Refuse this part; the reason is the end of a sentence that begins with its name."""
        message = f"{self.text}{why}"
        raise ClientError(message)


_Scalar: TypeAlias = str | int | float
_Test: TypeAlias = Callable[[str, Any, _Name, bool], FilterExpression]


def _filter(filter: Mapping[Any, Any], name: _Name, *, negated: bool) -> FilterExpression:
    """Translate a dict of fields and of logical operators, or its negation."""
    name.require_shallow()
    parts = [
        (_logical if key.startswith("$") else _field)(key, value, name.of(key), negated)
        for key, value in _items(filter, name)
    ]
    return _joined(parts, by_or=negated)


def _joined(parts: list[FilterExpression], *, by_or: bool) -> FilterExpression:
    return (any_of if by_or else all_of)(parts, bounded=False)


def _items(mapping: Mapping[Any, Any], name: _Name) -> Iterator[tuple[str, Any]]:
    """Yield the keys of a dict, as texts of no subclass, and its values."""
    for key, value in mapping.items():
        if not isinstance(key, str):
            name.refuse(f" has the key {written(key)}: give the name of a field, which is a text")
        yield str.__str__(key), value


def _logical(operator: str, given: Any, name: _Name, negated: bool) -> FilterExpression:
    """Translate `$and`, `$or`, `$nor` or `$not` with what it joins or negates."""
    if operator == "$not":
        if not isinstance(given, Mapping):
            name.refuse(f"={written(given)} has to be a dict; $nor takes a list of dicts, none of which may hold")
        return _filter(given, name, negated=not negated)
    if operator in _FIELD_OPERATORS:
        name.refuse(f": {operator} compares a field: write {{'a_field': {{{operator!r}: ...}}}}")
    if operator not in _JOINS:
        name.refuse(f": there is no operator {written(operator)}{did_you_mean(operator, [*_JOINS, '$not'], _HINTS)}")
    if not isinstance(given, list | tuple) or not given or not all(isinstance(part, Mapping) for part in given):
        name.refuse(f"={written(given)} has to be a list of one or more dicts")
    by_or, inverted = _JOINS[operator]
    negated = negated is not inverted
    parts = [_filter(part, name.of(position), negated=negated) for position, part in enumerate(given)]
    return _joined(parts, by_or=by_or is not negated)


def _field(key: str, given: Any, name: _Name, negated: bool) -> FilterExpression:
    """Translate a field and what is said of it."""
    path = _path(key, name)
    if not isinstance(given, Mapping):
        return _comparison(path, "$eq", given, name, negated)
    return _comparisons(path, given, name, negated)


def _path(key: str, name: _Name) -> str:
    """Return how a filter names a field."""
    first, *steps = key.split(".")
    path = path_of(first)
    for step in steps:
        path = None if path is None else step_of(path, step)
    if path is None:
        name.refuse(
            f": no filter can name the field {written(key)}. A name has letters of ASCII, digits, _ and -, begins with "
            "a letter or _, and is no keyword of filters such as in or has; a dot leads into an object. Store the "
            "value under such a name as well"
        )
    return path


def _comparisons(path: str, given: Mapping[Any, Any], name: _Name, negated: bool) -> FilterExpression:
    """Translate a dict of operators."""
    name.require_shallow()
    parts = []
    operators = list(_items(given, name))
    if not operators:
        name.refuse("={} says nothing of the field: leave the key out, or write {'$exists': True}")
    for operator, value in operators:
        if not operator.startswith("$"):
            _refuse_plain_key(path, operator, name, mixed=any(key.startswith("$") for key, _ in operators))
        parts.append(_comparison(path, operator, value, name.of(operator), negated))
    return _joined(parts, by_or=negated)


def _refuse_plain_key(path: str, key: str, name: _Name, *, mixed: bool) -> NoReturn:
    if mixed:
        name.refuse(f" mixes operators with the key {written(key)}: write the nested field as {path + '.' + key!r}")
    name.refuse(f" is a dict without operators: name a nested field by dots, as in {{{path + '.' + key!r}: ...}}")


def _comparison(path: str, operator: str, given: Any, name: _Name, negated: bool) -> FilterExpression:
    """Translate one operator of a field. What is negated also holds for a record without the field."""
    if operator == "$not":
        if not isinstance(given, Mapping):
            name.refuse(f"={written(given)} has to be a dict of operators: write $ne for what the field does not equal")
        return _comparisons(path, given, name, not negated)
    if operator == "$exists":
        return _exists(path, given, name, negated)
    if operator not in _OPERATORS:
        name.refuse(f": there is no operator {written(operator)}{did_you_mean(operator, _FIELD_OPERATORS, _HINTS)}")
    test, inverted = _OPERATORS[operator]
    negated = negated is not inverted
    expression = test(path, given, name, negated)
    return any_of([expression, _absent(path)], bounded=False) if negated else expression


def _exists(path: str, given: Any, name: _Name, negated: bool) -> FilterExpression:
    value = _plain(given, name)
    if not isinstance(value, bool):
        name.refuse(f"={written(given)} has to be True or False")
    return _predicate(f"HAS FIELD {path}") if value is not negated else _absent(path)


def _absent(path: str) -> FilterExpression:
    return _predicate(f"HAS NOT FIELD {path}")


def _predicate(text: str, depth: int = 0) -> FilterExpression:
    return FilterExpression(text, exact=True, depth=depth)


def _equal(path: str, given: Any, name: _Name, negated: bool) -> FilterExpression:
    return _equal_to_any(path, [_scalar(given, name)], negated)


def _one_of(path: str, given: Any, name: _Name, negated: bool) -> FilterExpression:
    return _equal_to_any(path, [_scalar(*each) for each in _elements(given, name)], negated)


def _equal_to_any(path: str, values: list[_Scalar], negated: bool) -> FilterExpression:
    """Compare a field with values; a text that no string can spell is compared by GLOB."""
    if not values:
        return EVERYTHING if negated else NOTHING
    texts = {value: literal(value) for value in values}
    spelled = list(dict.fromkeys(text for text in texts.values() if text is not None))
    chunks = [spelled[start : start + _MAX_IN] for start in range(0, len(spelled), _MAX_IN)]
    globs = [_glob(path, str(value), negated) for value, text in texts.items() if text is None]
    return _joined([*(_in(path, chunk, negated) for chunk in chunks), *globs], by_or=not negated)


def _in(path: str, spelled: list[str], negated: bool) -> FilterExpression:
    if len(spelled) == 1:
        return _predicate(f"{path} {'!=' if negated else '='} {spelled[0]}")
    return _predicate(f"{path} {'NOT IN' if negated else 'IN'} ({', '.join(spelled)})", depth=1)


def _glob(path: str, text: str, negated: bool) -> FilterExpression:
    """Compare a field with one text by the patterns that together match it and no other."""
    operator = "NOT GLOB" if negated else "GLOB"
    patterns = quoted_patterns(verbatim(text))
    return _joined([_predicate(f"{path} {operator} {pattern}") for pattern in patterns], by_or=negated)


def _ordered(sign: str, opposite: str, path: str, given: Any, name: _Name, negated: bool) -> FilterExpression:
    return _predicate(f"{path} {opposite if negated else sign} {_number(given, name)}")


def _between(path: str, given: Any, name: _Name, negated: bool) -> FilterExpression:
    bounds = [_number(*each) for each in _elements(given, name)]
    if len(bounds) != len(("low", "high")):
        name.refuse(f"={written(given)} has to be a list of two numbers, the lowest and the highest")
    signs = ("<", ">") if negated else (">=", "<=")
    tests = [_predicate(f"{path} {sign} {bound}") for sign, bound in zip(signs, bounds, strict=True)]
    return _joined(tests, by_or=negated)


def _contains(path: str, given: Any, name: _Name, negated: bool) -> FilterExpression:
    spelled = literal(_scalar(given, name))
    if spelled is None:
        name.refuse(
            f"={written(given)} is a text that no filter can spell as an element of an array: it has both kinds of "
            "quotes, or a backslash before a quote, before another backslash or at its end. Store the element in "
            "another form"
        )
    return _predicate(f"{path} {'NOT CONTAINS' if negated else 'CONTAINS'} {spelled}")


def _elements(given: Any, name: _Name) -> list[tuple[Any, _Name]]:
    """Return the elements of a list, each with its name."""
    listed = given.tolist() if isinstance(given, SupportsToList) else given
    if not isinstance(listed, list | tuple):
        name.refuse(f"={written(given)} has to be a list")
    return [(element, name.of(position)) for position, element in enumerate(listed)]


def _number(given: Any, name: _Name) -> str:
    """Return how a filter spells a number to which a field is compared in order."""
    value = _scalar(given, name)
    if isinstance(value, str | bool):
        name.refuse(f"={written(given)} is no number, and the index orders numbers alone: {_STORE_A_NUMBER}")
    return str(literal(value))


def _scalar(given: Any, name: _Name) -> _Scalar:
    """Return a value with which a field is compared."""
    value = _plain(given, name)
    if value is None:
        name.refuse("=None: null equals nothing; write {'$exists': False} for records without the field")
    if isinstance(value, list):
        name.refuse(
            f"={written(given)} has to be a text, a number or a boolean: $in takes a list of values that the field may "
            "have, and $contains one element that the array in the field has"
        )
    if isinstance(value, dict):
        name.refuse(f"={written(given)} is an object: compare its fields one by one, by keys with dots, as in 'a.b'")
    if isinstance(value, str):
        if "\0" in value:
            name.refuse(
                f"={written(given)} has the character NUL, which no filter and no metadata can hold: leave it out"
            )
    elif abs(value) >= _EXACT_BELOW:
        name.refuse(
            f"={written(given)} is beyond the numbers that the index compares exactly: store and compare a text"
        )
    scalar: _Scalar = value
    return scalar


def _plain(given: Any, name: _Name) -> Any:
    """Return a value as metadata hold it."""
    value = given.value if isinstance(given, Enum) else given
    value = timestamp(value) if isinstance(value, dt.datetime) else value
    try:
        value = value.tolist() if isinstance(value, SupportsToList) else value
        return plain(value)
    except FAULTS as error:
        if isinstance(value, dt.date | dt.time):
            name.refuse(f"={written(given)} is no moment, of which metadata hold the timestamp: {_STORE_A_NUMBER}")
        if isinstance(value, float):
            name.refuse(f"={written(given)} has to be a finite number")
        raise ClientError(fault_of(value, name.text, error)) from None


_STORE_A_NUMBER: Final = "store a number, such as a timestamp, and compare that"

_HINTS: Final[Mapping[str, str]] = {
    "$all": "join several $contains: {'$and': [{'tags': {'$contains': 'a'}}, {'tags': {'$contains': 'b'}}]}",
    "$and": "it joins whole dicts: {'$and': [{'a_field': {...}}, {'a_field': {...}}]}",
    "$or": "it joins whole dicts: {'$or': [{'a_field': {...}}, {'a_field': {...}}]}",
    "$nor": "it joins whole dicts: {'$nor': [{'a_field': {...}}, {'a_field': {...}}]}",
    **dict.fromkeys(
        ("$like", "$ilike", "$regex"), "write the whole filter as a text, which has GLOB: \"name GLOB 'a*'\""
    ),
}
"""The advice for operators that are known from elsewhere, or that stand in the wrong place."""

_JOINS: Final[Mapping[str, tuple[bool, bool]]] = {"$and": (False, False), "$or": (True, False), "$nor": (True, True)}
"""The logical operators: whether they join by OR, and whether they negate the whole."""

_OPERATORS: Final[Mapping[str, tuple[_Test, bool]]] = {
    "$eq": (_equal, False),
    "$ne": (_equal, True),
    "$gt": (partial(_ordered, ">", "<="), False),
    "$gte": (partial(_ordered, ">=", "<"), False),
    "$lt": (partial(_ordered, "<", ">="), False),
    "$lte": (partial(_ordered, "<=", ">"), False),
    "$in": (_one_of, False),
    "$nin": (_one_of, True),
    "$between": (_between, False),
    "$contains": (_contains, False),
    "$not_contains": (_contains, True),
}

_FIELD_OPERATORS: Final = [*_OPERATORS, "$exists", "$not"]
