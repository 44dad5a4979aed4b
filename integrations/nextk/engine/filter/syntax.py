r"""Reading a filter: text in, tree out. The grammar is `grammar.lark`.

Decided here, where the protocol is silent or leaves a choice:

- A field may bear the name of any keyword, in any position: `in IN (1)`, `has = 1`, `HAS FIELD field`.
- A path is read as SQLite reads one: `a[#]` is the place behind the last element, where nothing is, and `tags#-1]` is a
  key, which no metadata will have. An index has at most nine digits.
- A whole number is an `int` while 64 bits hold it; any other number is a `float`, and finite.
- `\\`, `\'` and `\"` are escapes in a string; every other backslash is itself.
"""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from nextk.engine.filter.tree import And, ArrayStep, Compare, Contains, Glob, HasField, In, Node, Or, Path
from nextk.errors import RefusedError
from nextk.extras import require

if TYPE_CHECKING:
    from lark import Lark, Token

__all__ = ["parse"]

MAX_BYTES = 8_192
MAX_DEPTH = 64  # parentheses inside each other, those of IN included
MAX_PREDICATES = 400  # SQLite stops at an expression 1,000 deep, and may count a chain twice
MAX_VALUES = 500  # in one IN

_INT64 = range(-(2**63), 2**63)
_STEP = re.compile(r"\.([^.\[]+)|\[(?:(#-)?0*([0-9]{1,9})|#)\]")
_ESCAPE = re.compile(r"""\\([\\'"])""")
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


class _FilterError(Exception):
    """What is wrong with a filter, and at which character."""

    def __init__(self, at: int | None, complaint: str) -> None:
        super().__init__(complaint)
        self.at = at or 0


@lru_cache(maxsize=256)
def parse(text: str) -> Node | None:
    """Read a filter.

    Returns:
        Its tree, or `None` if the text is blank, which filters nothing.

    Raises:
        RefusedError: 422, `Invalid filter. At line L:C ...`, with lines counted from 1 and columns from 0.
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
    parser: Any = _grammar().parse_interactive(text)  # the library leaves it half untyped
    try:
        _feed(parser)
        tree: Node = parser.feed_eof()
    except lark.UnexpectedCharacters as error:
        unclosed = error.char in "'\""
        complaint = "this string is never closed" if unclosed else f"token recognition error at: {error.char!r}"
        raise _FilterError(error.pos_in_stream, complaint) from None
    except lark.UnexpectedToken as error:
        ended = error.token.type == "$END"
        found, at = (_WORDS["$END"], len(text)) if ended else (_shown(error.token), error.token.start_pos)
        raise _FilterError(at, f"found {found}, expected {_listed(parser.accepts())}") from None
    return tree


def _feed(parser: Any) -> None:
    """Take the tokens one by one, so that a filter that goes too far is refused at the place where it does."""
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
    """What to make of each rule of the grammar. A test becomes a node when it meets its path."""

    def either(self, nodes: list[Node]) -> Or:
        return Or(tuple(leaf for node in nodes for leaf in (node.nodes if isinstance(node, Or) else (node,))))

    def both(self, nodes: list[Node]) -> And:
        return And(tuple(leaf for node in nodes for leaf in (node.nodes if isinstance(node, And) else (node,))))

    def predicate(self, parts: "tuple[Token, Callable[[Path], Node]]") -> Node:
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
        return _ESCAPE.sub(r"\1", tokens[0][1:-1])

    def number(self, tokens: "list[Token]") -> int | float:
        value = float(tokens[0])
        if not math.isfinite(value):
            raise _FilterError(tokens[0].start_pos, f"{_shown(tokens[0])} is too large a number")
        exact = int(Decimal(tokens[0])) if tokens[0].lstrip("+-").isdecimal() else None  # int() refuses long texts
        return value if exact is None or exact not in _INT64 else exact

    def boolean(self, tokens: "list[Token]") -> bool:
        return tokens[0].lower() == "true"


def _path(token: "Token") -> Path:
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
