"""Filter expressions in the index's language, which let through at least the records that pass.

A key or a value of the user's is copied into a filter only if it cannot be misread there: keys are plain words, numbers
are decimals without an exponent, and `nextk.filter_text` writes strings.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from nextk.filter_text import quoted, quoted_patterns

# An index takes at most 8,192 bytes, 400 predicates and 64 nested parentheses. The rest is for a filter of the user's.
MAX_BYTES = 6_144
MAX_PREDICATES = 300
MAX_DEPTH = 32

_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_STEP = re.compile(r"[A-Za-z0-9_-]+")
_KEYWORDS = {"and", "or", "not", "in", "glob", "contains", "has", "field", "true", "false"}
_UNSPELLABLE = re.compile(r"[\0\ud800-\udfff]")  # read as the end of the text, or not UTF-8


@dataclass(frozen=True, slots=True)
class FilterExpression:
    """A filter that lets through every record that passes what it stands for.

    Attributes:
        text: The filter; `""` lets everything through.
        exact: Whether the filter lets nothing else through.
        predicates: The number of predicates in the filter.
        depth: The number of nested parentheses in the filter.
        is_or: Whether the filter is joined by OR, so that it needs parentheses within an AND.
    """

    text: str
    exact: bool
    predicates: int = 1
    depth: int = 0
    is_or: bool = False


EVERYTHING = FilterExpression("", exact=True, predicates=0)
ANYTHING = FilterExpression("", exact=False, predicates=0)
NOTHING = FilterExpression("HAS FIELD _ AND HAS NOT FIELD _", exact=True, predicates=2)


def predicate(text: str, *, exact: bool, depth: int = 0) -> FilterExpression:
    """Make an expression of one predicate; `ANYTHING` if it is too large."""
    return _within_limits(FilterExpression(text, exact, depth=depth))


def any_of(parts: Iterable[FilterExpression], *, bounded: bool = True) -> FilterExpression:
    """Join parts by OR.

    Args:
        parts: The parts; of none, the expression lets nothing through.
        bounded: Whether the result is `ANYTHING` if it grows too large.
    """
    listed = list(parts)
    if not all(part.text for part in listed):
        return EVERYTHING if EVERYTHING in listed else ANYTHING
    exact = all(part.exact for part in listed)
    kept = [part for part in _distinct(listed) if part.text != NOTHING.text]
    if len(kept) < 2:
        return replace(kept[0], exact=exact) if kept else NOTHING
    depth, predicates = max(part.depth for part in kept), sum(part.predicates for part in kept)
    joined = FilterExpression(" OR ".join(part.text for part in kept), exact, predicates, depth, is_or=True)
    return _within_limits(joined) if bounded else joined


def all_of(parts: Iterable[FilterExpression], *, bounded: bool = True) -> FilterExpression:
    """Join parts by AND.

    Args:
        parts: The parts; of none, the expression lets everything through.
        bounded: Whether large parts are left out if the filter grows too large.
    """
    listed = list(parts)
    if any(part.text == NOTHING.text for part in listed):
        return NOTHING
    needed = [part for part in _distinct(listed) if part.text]
    kept = _affordable(needed) if bounded else needed
    exact = all(part.exact for part in listed) and len(kept) == len(needed)
    if len(kept) < 2:
        return replace(kept[0], exact=exact) if kept else replace(EVERYTHING, exact=exact)
    text = " AND ".join(f"({part.text})" if part.is_or else part.text for part in kept)
    return FilterExpression(
        text, exact, sum(part.predicates for part in kept), max(part.depth + part.is_or for part in kept)
    )


def _affordable(parts: list[FilterExpression]) -> list[FilterExpression]:
    """Choose the parts that fit into one AND, the small ones first. They stay in their order."""
    room, predicates, taken = MAX_BYTES, MAX_PREDICATES, set()
    for part in sorted(parts, key=_bytes):
        if _bytes(part) <= room and part.predicates <= predicates and part.depth + part.is_or <= MAX_DEPTH:
            room, predicates = room - _bytes(part), predicates - part.predicates
            taken.add(part.text)
    return [part for part in parts if part.text in taken]


def _bytes(part: FilterExpression) -> int:
    return len(part.text.encode()) + len("() AND ")


def _distinct(parts: list[FilterExpression]) -> list[FilterExpression]:
    return list({part.text: part for part in parts}.values())


def _within_limits(expression: FilterExpression) -> FilterExpression:
    fits = (
        expression.predicates <= MAX_PREDICATES
        and expression.depth <= MAX_DEPTH
        and len(expression.text.encode()) <= MAX_BYTES
    )
    return expression if fits else ANYTHING


def path_of(key: str) -> str | None:
    """Return how a filter names a key of the metadata; `None` if it cannot name the key safely.

    A dot or a bracket would lead inside a value, and a keyword would be read as syntax.
    """
    return key if _PATH.fullmatch(key) and key.lower() not in _KEYWORDS else None


def step_of(path: str, key: str) -> str | None:
    """Return how a filter names a key of the object at a path; `None` if it cannot."""
    return f"{path}.{key}" if _STEP.fullmatch(key) else None


def literal(value: str | float) -> str | None:
    """Return how a filter spells a value; `None` if it cannot.

    A whole float has all of its digits, since its shortest text may be that of another whole number.
    """
    if isinstance(value, bool | int):
        return str(int(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return f"{int(value)}.0" if value.is_integer() else format(Decimal(repr(value)), "f")
    return None if _UNSPELLABLE.search(value) else quoted(value)


def glob(path: str, pattern: str, *, exact: bool) -> FilterExpression:
    """Make an expression of a GLOB predicate, or of two if the pattern holds both kinds of quotes.

    Args:
        path: The path of the value that is matched.
        pattern: The pattern, as `quoted_patterns` takes it. A character that no filter can spell is replaced by `?`,
            which matches any character.
        exact: Whether the pattern, as given, matches nothing that it should not.
    """
    spelled = _UNSPELLABLE.sub("?", pattern)
    written = quoted_patterns(spelled)
    exact = exact and spelled == pattern and (len(written) == 1 or not _holds_star(pattern))
    return all_of(predicate(f"{path} GLOB {each}", exact=exact) for each in written)


def _holds_star(pattern: str) -> bool:
    return "*" in pattern.replace("[*]", "")
