r"""Parse the text of a filter into a tree. The grammar is in `grammar.lark`.

Where the protocol is silent or leaves a choice, this module decides as follows:

- A field may have the name of any keyword, in any position: `in IN (1)`, `has = 1`, `HAS FIELD field`.
- A path is read as SQLite reads it: `a[#]` is the position after the last element, where there is no element, and
  `tags#-1]` is a key, which no metadata will have. A position has at most nine digits.
- A whole number is an `int` if it fits 64 bits; a larger one is refused unless it is exactly a float. Every other
  number is a `float` and must be finite.
- In a string, a backslash escapes the quote that encloses the string, and nothing else. Every other backslash, doubled
  or not, stands for itself, so a string cannot end in a backslash.
"""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from nextk.engine.filter.tree import And, ArrayStep, Compare, Contains, FieldPath, Glob, HasField, In, Node, Or
from nextk.errors import RefusedError
from nextk.extras import require

if TYPE_CHECKING:
    from lark import Lark, Token

__all__ = ["parse"]

MAX_BYTES = 8_192
MAX_DEPTH = 64  # nested parentheses, including those of IN
MAX_PREDICATES = 400  # SQLite stops at an expression 1,000 deep, and may count a chain twice
MAX_VALUES = 500  # in one IN

_INT64 = range(-(2**63), 2**63)
_STEP = re.compile(r"\.([^.\[]+)|\[(?:(#-)?0*([0-9]{1,9})|#)\]")
_STRING = re.compile(r"""'.*?(?:(?<!\\)'|\Z)|".*?(?:(?<!\\)"|\Z)""", re.DOTALL)  # the last one may be unclosed
_PREDICATES = {"EQUALITY", "ORDER", "_GLOB", "IN", "_CONTAINS", "FIELD"}
_WORDS = {
    "$END": "the end of the filter",
    "BOOLEAN": "TRUE, FALSE",
    "COMMA": "','",
    "EQUALITY": "=, !=",
    "LPAR": "'('",
    "NUMBER": "a number",
    "ORDER": "<, <=, >, >=",
    "PATH": "a field name",
    "RPAR": "')'",
    "STRING": "a quoted string",
}
_ESCAPED_QUOTE = (
    "; a backslash escapes the quote that encloses its string, so no string ends in a backslash: "
    r"find a value that does by GLOB and a class, as in path GLOB 'C:[\]'"
)


class _FilterError(Exception):
    """An error in a filter: the complaint, and the position of the character at which it was found."""

    def __init__(self, at: int | None, complaint: str) -> None:
        super().__init__(complaint)
        self.at = at or 0


@lru_cache(maxsize=256)
def parse(text: str) -> Node | None:
    """Parse a filter.

    Returns:
        The tree of the filter, or `None` if the text is blank, which filters nothing.

    Raises:
        RefusedError: The filter is malformed or too large. The status is 422 and the message begins with
            `Invalid filter. At line L:C`, with lines counted from 1 and columns from 0.
    """
    try:
        _check_size(text)
        return _read(text) if text.strip(" \t\r\n") else None
    except _FilterError as fault:
        line, column = text.count("\n", 0, fault.at) + 1, fault.at - text.rfind("\n", 0, fault.at) - 1
        message = f"Invalid filter. At line {line}:{column} {fault}"
        raise RefusedError(message, 422) from None


def _check_size(text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise _FilterError(error.start, f"token recognition error at: {text[error.start]!r}") from None
    if size > MAX_BYTES:
        raise _FilterError(0, f"the filter takes {size} bytes; the limit is {MAX_BYTES}")


def _read(text: str) -> Node:
    lark = require("lark", extra="local")
    parser: Any = _grammar().parse_interactive(text)  # the library types it only in part
    try:
        _feed(parser)
        tree: Node = parser.feed_eof()
    except lark.UnexpectedCharacters as error:
        unclosed = error.char in "'\""
        complaint = "this string is never closed" if unclosed else f"token recognition error at: {error.char!r}"
        raise _FilterError(error.pos_in_stream, complaint + _advice(text, error.pos_in_stream)) from None
    except lark.UnexpectedToken as error:
        ended = error.token.type == "$END"
        found, at = (_WORDS["$END"], len(text)) if ended else (_shown(error.token), error.token.start_pos)
        raise _FilterError(at, f"found {found}, expected {_listed(parser.accepts())}{_advice(text, at)}") from None
    return tree


def _advice(text: str, at: int | None) -> str:
    """Return advice to append to a complaint, if the last string before or at a position holds an escaped quote."""
    last = ""
    for string in _STRING.finditer(text):
        if string.start() > (at or 0):
            break
        last = string[0]
    return _ESCAPED_QUOTE if last and f"\\{last[0]}" in last else ""


def _feed(parser: Any) -> None:
    """Feed the tokens to the parser one by one, so that a filter is refused at the token that exceeds a limit."""
    depth = predicates = 0
    for token in parser.iter_parse():
        depth += (token.type == "LPAR") - (token.type == "RPAR")
        predicates += token.type in _PREDICATES
        if depth > MAX_DEPTH:
            raise _FilterError(token.start_pos, f"parentheses go deeper than {MAX_DEPTH}")
        if predicates > MAX_PREDICATES:
            raise _FilterError(token.start_pos, f"more than {MAX_PREDICATES} predicates; IN takes many values at once")


@lru_cache(maxsize=1)
def _grammar() -> "Lark":
    text = files(__package__).joinpath("grammar.lark").read_text("utf-8")
    lark = require("lark", extra="local")
    grammar: Lark = lark.Lark(text, parser="lalr", transformer=_Builder(), g_regex_flags=re.ASCII)
    return grammar


class _Builder:
    """Makes a node of each rule of the grammar. A test becomes a node once it is combined with its path."""

    def either(self, nodes: list[Node]) -> Or:
        return Or(tuple(leaf for node in nodes for leaf in (node.nodes if isinstance(node, Or) else (node,))))

    def both(self, nodes: list[Node]) -> And:
        return And(tuple(leaf for node in nodes for leaf in (node.nodes if isinstance(node, And) else (node,))))

    def predicate(self, parts: "tuple[Token, Callable[[FieldPath], Node]]") -> Node:
        field, test = parts
        return test(_path(field))

    def has_field(self, parts: list[Any]) -> HasField:
        _, negation, _, field = parts
        return HasField(_path(field), negated=bool(negation))

    def compare(self, parts: list[Any]) -> partial[Compare]:
        operator, value = parts
        return partial(Compare, operator=operator.value, value=value)

    def glob(self, parts: list[Any]) -> partial[Glob]:
        negation, pattern = parts
        return partial(Glob, pattern=pattern, negated=bool(negation))

    def one_of(self, parts: list[Any]) -> partial[In]:
        negation, keyword, *values = parts
        if len(values) > MAX_VALUES:
            raise _FilterError(keyword.start_pos, f"IN lists {len(values)} values; the limit is {MAX_VALUES}")
        return partial(In, values=tuple(values), negated=bool(negation))

    def contains(self, parts: list[Any]) -> partial[Contains]:
        negation, value = parts
        return partial(Contains, value=value, negated=bool(negation))

    def string(self, tokens: "list[Token]") -> str:
        quote = tokens[0][0]
        return tokens[0][1:-1].replace(f"\\{quote}", quote)

    def number(self, tokens: "list[Token]") -> int | float:
        value = float(tokens[0])
        if not math.isfinite(value):
            raise _FilterError(tokens[0].start_pos, f"{_shown(tokens[0])} is too large a number")
        if not tokens[0].lstrip("+-").isdecimal():
            return value
        exact = int(Decimal(tokens[0]))  # int() refuses long texts
        if exact not in _INT64 and exact != value:
            complaint = (
                f"{_shown(tokens[0])} is a whole number beyond 64 bits, which would be rounded: write it as a float"
            )
            raise _FilterError(tokens[0].start_pos, complaint)
        return exact if exact in _INT64 else value

    def boolean(self, tokens: "list[Token]") -> bool:
        return tokens[0].lower() == "true"


def _path(token: "Token") -> FieldPath:
    text, at = f".{token}", 0
    steps: list[str | ArrayStep] = []
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None:
            complaint = f"bad path {_shown(token)}: its steps look like .key, [0] or [#-1]"
            raise _FilterError((token.start_pos or 0) + at - 1, complaint)
        key, end, position = step.groups()
        steps.append(key or ArrayStep(int(position or 0), from_end=bool(end) or position is None))
        at = step.end()
    return tuple(steps)


def _shown(token: str) -> str:
    return repr(str(token) if len(token) <= 40 else f"{token[:40]}...")


def _listed(names: set[str]) -> str:
    *most, last = sorted(_WORDS.get(name, name.lstrip("_")) for name in names)
    return f"{', '.join(most)} or {last}" if most else last
