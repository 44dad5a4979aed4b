"""Texts written into filters: each of them names itself and nothing else, however a server reads backslashes."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.engine.filter.syntax import parse
from nextk.engine.filter.tree import And
from nextk.errors import RefusedError
from nextk.filter_text import is_balanced, quoted, quoted_patterns, verbatim
from tests.support.filter_oracle import native_glob, read_string
from tests.support.texts import odd_texts, with_neighbours

# Three readings of a string that makers of clients and servers follow.
READINGS: list[Callable[[str], str | None]] = [
    read_string,
    lambda string: string[1:-1],
    lambda string: re.sub(r"""\\([\\'"])""", r"\1", string[1:-1]),
]


@given(text=odd_texts)
def test_a_quoted_text_is_read_as_itself(text: str) -> None:
    """A text that is quoted at all means itself to every reader, also to those that double backslashes."""
    string = quoted(text)
    if string is not None:
        assert {text} == {reading(string) for reading in READINGS}


@pytest.mark.parametrize("text", ["", "a", "it's", 'say "a"', r"C:\data\a.pdf", "[*]", "é\n"])
def test_a_plain_text_is_quoted(text: str) -> None:
    """A text needs no pattern if it lacks one kind of quotes, and its backslashes stand before other letters."""
    assert quoted(text) is not None


@given(text=odd_texts)
def test_a_verbatim_pattern_matches_one_text(text: str) -> None:
    """The patterns of a text together match it and none of its neighbours, to every reader of strings."""
    strings = quoted_patterns(verbatim(text))
    for reading in READINGS:
        patterns = [reading(string) or "" for string in strings]
        matched = [other for other in with_neighbours(text) if all(native_glob(other, each) for each in patterns)]
        assert [text] == matched


@pytest.mark.parametrize(
    ("filter", "balanced"),
    [
        ("", True),
        ("a = 1", True),
        ("(a = 1) OR (b = 2)", True),
        ("a = 1) OR (b = 2", False),
        ("a = 1)", False),
        ("(a = 1", False),
        ("a = ')'", True),
        ("a = '(' OR b = \")'\"", True),
        (r"a = 'it\') OR ('", True),
        (r"a = 'C:\\') OR (b = '", True),
        (r'a = "\') OR ("', True),
        (r'a = "\"', False),
        ("a = 'b", False),
        ("a = '') OR (b = ''", False),
        ("a = " + r"\'" * 200_000, False),
    ],
)
def test_is_balanced(filter: str, balanced: bool) -> None:
    """Parentheses count outside of strings only, and strings end where the engine ends them."""
    assert balanced is is_balanced(filter)


@given(pieces=st.lists(st.sampled_from(["a=1", " OR ", " AND ", "(", ")", "a='", "'", '"', "\\", "b='x'"]), max_size=8))
def test_balanced_filters_stay_apart(pieces: list[str]) -> None:
    """A filter in parentheses beside another one is refused, or it is a part of an AND, if it is balanced."""
    text = "".join(pieces)
    if is_balanced(text):
        try:
            node = parse(f"({text}) AND (tenant = 't')")
        except RefusedError:
            return
        assert isinstance(node, And)
        assert parse("tenant = 't'") == node.nodes[-1]
