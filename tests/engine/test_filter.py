"""The filter language: what matches, what is refused and where, and that no filter costs more than it should."""

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import orjson
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextk.engine.filter import glob, sql
from nextk.engine.filter.syntax import parse
from nextk.engine.filter.tree import And, Compare, Contains, FieldPath, Glob, HasField, In, Node, Value
from nextk.errors import RefusedError
from tests.support.filter_oracle import (
    Metadata,
    alike,
    globs,
    literals,
    metadata,
    native_glob,
    passes,
    paths,
    predicates,
    read_string,
    spell,
    tests_of_alike,
    trees,
    written,
)
from tests.support.filter_ways import WAYS, FilterRunner, by_postgres
from tests.support.postgres_server import PostgresServer


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    """A database that knows the functions of the filter."""
    with closing(sqlite3.connect(":memory:")) as opened:
        sql.register(opened)
        yield opened


@pytest.fixture(scope="module", params=[*WAYS, "postgres"])
def found(request: pytest.FixtureRequest, connection: sqlite3.Connection) -> Iterator[FilterRunner]:
    """A function that returns the positions of the records that pass a filter, one for each way to evaluate it."""
    if request.param in WAYS:
        yield FilterRunner(connection, WAYS[request.param])
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with psycopg.connect(server.dsn, autocommit=True) as opened:
        yield FilterRunner(connection, by_postgres(opened))


def refusal(text: str) -> str:
    """The message with which a filter is refused, without the words that all refusals share."""
    with pytest.raises(RefusedError) as caught:
        parse(text)
    assert caught.value.status == 422
    head, _, complaint = str(caught.value).partition(" At line ")
    assert head == "Invalid filter."
    return complaint


# What matches


@pytest.mark.parametrize(
    ("text", "matching"),
    [
        ("n != 5", [1]),
        ("f != 1", []),
        ("HAS FIELD f", [0]),
        ("HAS NOT FIELD f", [1]),
        ("tags[#-1] = 'q'", [0]),
        ('tags CONTAINS "p" or n = 7', [0, 1]),
        ("tags#-1] = 'q'", []),
    ],
)
def test_conformance_fixture_f9(found: FilterRunner, text: str, matching: list[int]) -> None:
    """The filters of fixture F9 match what the protocol says."""
    assert matching == found(text, {"n": 5, "f": None, "tags": ["p", "q"]}, {"n": 7})


@pytest.mark.parametrize(
    ("text", "value", "matches"),
    [
        ("v = '1'", 1, False),
        ("v != '1'", 1, True),
        ("v = 1", "1", False),
        ("v = true", 1, True),
        ("v = 0", False, True),
        ("v < 1", False, True),
        ("v < 1", "0", False),
        ("v > 1", "9", False),
        ("v > 1", [9], False),
        ("v = '[\"a\"]'", ["a"], False),
        ("v != '[\"a\"]'", ["a"], True),
        ("v IN ('{}', 'x')", {}, False),
        ("v NOT IN ('{}', 'x')", {}, True),
        ("v NOT IN (1)", None, False),
        ("v CONTAINS 'a'", "a", False),
        ("v NOT CONTAINS 'a'", "b", False),
        ("v NOT CONTAINS 'a'", None, False),
        ("v NOT CONTAINS 'a'", [None, ["a"]], True),
        ("v CONTAINS '[]'", [[]], False),
        ("v CONTAINS TRUE", [0, 1.0], True),
        ("v GLOB '*'", "", True),
        ("v GLOB '*'", ["a"], False),
        ("v NOT GLOB 'a'", 1, False),
        ("v NOT GLOB 'a'", "A", True),
        ("v GLOB '[^a-c]?'", "dé", True),
        ("v = -1.50", -1.5, True),
        ("v = +1e2", 100, True),
        ("v = 9007199254740993", 2**53, False),
        ("v = 9007199254740992.0", 2**53, True),
        ("v = 9223372036854775807", 2**63 - 1, True),
        ("v = 18446744073709551616", 2.0**64, True),
        ("v > 9223372036854775807", 2**63, True),
        ("v = 0.30000000000000004", 0.1 + 0.2, True),
        (r"v = 'it\'s \ \d \"'", "it's \\ \\d \\\"", True),
        (r"v = 'a\\b'", r"a\\b", True),
        (r"v = 'a\\b'", r"a\b", False),
        (r"v = 'a\b'", r"a\\b", False),
        (r"v = 'it\\'s'", r"it\'s", True),
        (r"""v = "it\'s" """, r"it\'s", True),
        (r"""v = 'say \"a\"'""", r"say \"a\"", True),
        (r"""v = "say \"a\"" """, 'say "a"', True),
        (r"v GLOB '*[\]'", "C:\\", True),
        (r"v GLOB 'a\*'", "a*", False),
        (r"v GLOB 'a\*'", r"a\b", True),
        ("v = 'a \" b'", 'a " b', True),
        ('v = "it\'s"', "it's", True),
        ("v.a[0].b[#-1] = 'x'", {"a": [{"b": [1, "x"]}]}, True),
        ("v[007] = 7", [0, 1, 2, 3, 4, 5, 6, 7], True),
        ("v[#-3] = 1", [1, 2], False),
        ("HAS FIELD v[#]", [1], False),
        ("HAS FIELD v[0]", {"0": 1}, False),
        ("v.k-1.x#y = 1", {"k-1": {"x#y": 1}}, True),
        ("v.0 = 1", {"0": 1}, True),
        ("HAS FIELD v.a", {"a": {}}, True),
        ("V = 1", 1, False),
    ],
)
def test_a_predicate_matches(found: FilterRunner, text: str, value: object, matches: bool) -> None:
    """Types, paths, escapes and large numbers mean what §7.3, §7.4, Q10 and Q11 say."""
    assert matches == bool(found(text, {"v": value}))


@pytest.mark.parametrize(
    "text", ["a=1", "a!=1", "a<1", "a GLOB '*'", "a NOT GLOB 'b'", "a IN (1)", "a NOT IN (1)", "a NOT CONTAINS 1"]
)
def test_a_missing_field_matches_nothing(found: FilterRunner, text: str) -> None:
    """No metadata, no field and a null field are alike, also to a negation."""
    assert [] == found(text, None, {}, {"a": None})


def test_and_binds_tighter_than_or(found: FilterRunner) -> None:
    """`a OR b AND c` is `a OR (b AND c)`."""
    records: list[Metadata] = [{"a": a, "b": b, "c": c} for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    tight = found("a=1 OR b=1 AND c=1", *records)
    assert [3, 4, 5, 6, 7] == tight
    assert tight == found("a=1 OR (b=1 AND c=1)", *records)
    assert [3, 5, 7] == found("(a=1 OR b=1) AND c=1", *records)


@pytest.mark.parametrize(
    "keyword", ["and", "or", "not", "in", "glob", "contains", "has", "HAS", "field", "true", "FALSE", "hash", "inner"]
)
def test_a_field_may_be_named_like_a_keyword(found: FilterRunner, keyword: str) -> None:
    """Wherever a field name is expected, a keyword is one."""
    tests = ["= 1", "!= 2", ">= 1", "IN (1)", "NOT IN (2)"]
    predicates = [f"{keyword} {test}" for test in tests] + [f"HAS FIELD {keyword}", f"HAS NOT FIELD x.{keyword}"]
    assert [0] == found(" AND ".join(predicates), {keyword: 1})
    assert [0] == found(f"{keyword} NOT GLOB 'b' AND {keyword} GLOB 'a'", {keyword: "a"})
    assert [0] == found(f"{keyword} NOT CONTAINS 'b' AND {keyword} CONTAINS 'a'", {keyword: ["a"]})


@given(node=trees, records=st.lists(metadata, min_size=1, max_size=6))
def test_a_filter_agrees_with_the_oracle(found: FilterRunner, node: Node, records: list[Metadata]) -> None:
    """Written down, read, compiled and run, a filter lets through what plain Python lets through."""
    expected = [position for position, record in enumerate(records) if passes(node, record)]
    assert expected == found(spell(node), *records)


@given(node=tests_of_alike, records=st.lists(alike, min_size=6, max_size=12))
def test_a_filter_tells_records_apart(found: FilterRunner, node: Node, records: list[Metadata]) -> None:
    """Among records whose values often are equal, or equal but for their type, the right ones pass."""
    expected = [position for position, record in enumerate(records) if passes(node, record)]
    assert expected == found(spell(node), *records)


@given(node=predicates)
def test_a_predicate_survives_its_text(node: Node) -> None:
    """Reading what was written gives the same tree."""
    assert node == parse(spell(node))


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_backslash_escapes_the_enclosing_quote_alone(quote: str) -> None:
    """Every short text between quotes is the string that Q10 says, or is refused if it is not exactly one string."""
    for size in range(6):
        for letters in itertools.product("\\'\"a", repeat=size):
            string = f"{quote}{''.join(letters)}{quote}"
            value = read_string(string)
            if value is None:
                refusal(f"v = {string}")
            else:
                assert Compare(("v",), "=", value) == parse(f"v = {string}")


# Pieces of attacks: whoever fills in one value wants to reach out of its string, with the help of the others.
PIECES = st.sampled_from(["\\", "'", '"', " OR HAS FIELD u", " OR u!=", "a", " AND u=", "(", ")", "\0", "\n"])
raw_values = st.tuples(st.lists(PIECES, max_size=4).map("".join), st.sampled_from("'\"")).filter(
    lambda pair: pair[1] not in pair[0]
)


@settings(max_examples=500)
@given(values=st.lists(raw_values, min_size=2, max_size=4))
def test_raw_strings_never_name_other_values(values: list[tuple[str, str]]) -> None:
    """If each value stands as it is between quotes that it lacks, the filter names all of them, or it is refused."""
    together = " AND ".join(f"u = {quote}{text}{quote}" for text, quote in values)
    try:
        assert And(tuple(Compare(("u",), "=", text) for text, _ in values)) == parse(together)
    except RefusedError:
        assert any(text.endswith("\\") for text, _ in values)


def test_nested_joins_become_flat() -> None:
    """Parentheses that say nothing leave no trace in the tree."""
    assert parse("a=1 AND b=1 AND c=1") == parse("((a=1) AND (b=1 AND ((c=1))))")


@pytest.mark.parametrize("text", ["", "  ", "\t\r\n"])
def test_a_blank_filter_is_none(text: str) -> None:
    """A blank text filters nothing."""
    assert parse(text) is None


# What is refused

FIRST = "expected '(', HAS or a field name"
TEST = "expected <, <=, >, >=, =, !=, CONTAINS, GLOB, IN or NOT"
LITERAL = "expected TRUE, FALSE, a number or a quoted string"
MORE = "expected AND, OR or the end of the filter"
ESCAPED = (
    "; a backslash escapes the quote that encloses its string, so no string ends in a backslash: "
    r"find a value that does by GLOB and a class, as in path GLOB 'C:[\]'"
)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("n IN [5]", "1:5 token recognition error at: '['"),
        (".a = 1", "1:0 token recognition error at: '.'"),
        ("a = 1 &", "1:6 token recognition error at: '&'"),
        ("a = 1\n  AND é = 1", "2:6 token recognition error at: 'é'"),
        ("ha\u017f FIELD a", "1:2 token recognition error at: '\u017f'"),
        ("a = '\ud800'", r"1:5 token recognition error at: '\ud800'"),
        ("a = 'b", "1:4 this string is never closed"),
        ("a = \"it\\'s", "1:4 this string is never closed"),
        (r"a = 'b\'", f"1:4 this string is never closed{ESCAPED}"),
        (r"a = 'b\\'", f"1:4 this string is never closed{ESCAPED}"),
        (r'b = 1 OR a = "\"', f"1:13 this string is never closed{ESCAPED}"),
        (r"a = 'b\' AND c = 'd'", f"1:18 found 'd', {MORE}{ESCAPED}"),
        (r"a = 'b\' AND c = '&'", f"1:18 token recognition error at: '&'{ESCAPED}"),
        (r"a = 'it\'s' AND b = 'c' d", f"1:24 found 'd', {MORE}"),
        ("a = 1.", "1:5 token recognition error at: '.'"),
        ("= 1", f"1:0 found '=', {FIRST}"),
        ("a", f"1:1 found the end of the filter, {TEST}"),
        ("a\n b", f"2:1 found 'b', {TEST}"),
        ("a = \n", f"2:0 found the end of the filter, {LITERAL}"),
        ("a == 1", f"1:3 found '=', {LITERAL}"),
        ("a = b", f"1:4 found 'b', {LITERAL}"),
        ("a < 'x'", "1:4 found \"'x'\", expected a number"),
        ("a < TRUE", "1:4 found 'TRUE', expected a number"),
        ("a GLOB 1", "1:7 found '1', expected a quoted string"),
        ("a IN ()", f"1:6 found ')', {LITERAL}"),
        ("a IN (1", "1:7 found the end of the filter, expected ')' or ','"),
        ("a IN 1", "1:5 found '1', expected '('"),
        ("a NOT = 1", "1:6 found '=', expected CONTAINS, GLOB or IN"),
        ("HAS NOT a", "1:8 found 'a', expected CONTAINS, FIELD, GLOB or IN"),
        ("HAS FIELD 'a'", "1:10 found \"'a'\", expected a field name"),
        ("a = 1 b = 2", f"1:6 found 'b', {MORE}"),
        ("a = 1 ANDb = 2", f"1:6 found 'ANDb', {MORE}"),
        ("a = 1)", "1:5 found ')', expected the end of the filter"),
        ("(a = 1", "1:6 found the end of the filter, expected ')'"),
        ("NOT (a = 1)", f"1:4 found '(', {TEST}"),
        ("a = 1e999", "1:4 '1e999' is too large a number"),
        ("a IN (1, -" + "9" * 5000 + ")", f"1:9 '-{'9' * 39}...' is too large a number"),
        ("tags[] = 'p'", "1:4 bad path 'tags[]': its steps look like .key, [0] or [#-1]"),
        ("HAS FIELD tags[", "1:14 bad path 'tags[': its steps look like .key, [0] or [#-1]"),
        ("a..b = 1", "1:1 bad path 'a..b': its steps look like .key, [0] or [#-1]"),
        ("b=1 or a. = 1", "1:8 bad path 'a.': its steps look like .key, [0] or [#-1]"),
        ("a.[0] = 1", "1:1 bad path 'a.[0]': its steps look like .key, [0] or [#-1]"),
        ("a[0]b = 1", "1:4 bad path 'a[0]b': its steps look like .key, [0] or [#-1]"),
        ("a[-1] = 1", "1:1 bad path 'a[-1]': its steps look like .key, [0] or [#-1]"),
        ("a[#1] = 1", "1:1 bad path 'a[#1]': its steps look like .key, [0] or [#-1]"),
        ("a[4294967296] = 1", "1:1 bad path 'a[4294967296]': its steps look like .key, [0] or [#-1]"),
    ],
)
def test_a_refusal_says_what_and_where(text: str, complaint: str) -> None:
    """Lines count from 1 and columns from 0, and the rest says what was found and what was expected."""
    assert complaint == refusal(text)


@pytest.mark.parametrize(
    ("largest", "one_more", "complaint"),
    [
        ("a=1" + " " * 8189, "é=1" + " " * 8189, "1:0 the filter takes 8193 bytes"),
        ("(" * 64 + "a=1" + ")" * 64, "(" * 65 + "a=1" + ")" * 65, "1:64 parentheses go deeper than 64"),
        (f"a IN ({'1,' * 499}1)", f"a IN ({'1,' * 500}1)", "1:2 IN lists 501 values; the limit is 500"),
        ("a=1 OR " * 399 + "a=1", "a=1 OR " * 400 + "a=1", "1:2801 more than 400 predicates"),
        ("a=" + "0" * 8189 + "1", "(" * 8192, "1:64 parentheses go deeper than 64"),
        ("a" + ".a" * 4093 + "=1", ")" * 8192, "1:0 found ')', expected"),
    ],
)
def test_limits(found: FilterRunner, largest: str, one_more: str, complaint: str) -> None:
    """The largest filter of its kind runs, one larger is refused."""
    assert len(found(largest, {"a": 1})) <= 1
    assert refusal(one_more).startswith(complaint)


WORDS = [
    "=",
    "!=",
    "<",
    ">=",
    "AND",
    "or",
    "not",
    "in",
    "glob",
    "contains",
    "has",
    "field",
    "a",
    "a[0]",
    "1",
    "1e9",
    "'x'",
]
TOKENS = st.lists(st.sampled_from([*WORDS, *"(),.'\"[]#\\-"]), max_size=12)


@given(text=st.text() | TOKENS.map(" ".join) | TOKENS.map("".join))
def test_any_text_is_read_or_refused(found: FilterRunner, text: str) -> None:
    """A filter is run, or refused with 422, and nothing else happens."""
    try:
        readable = parse(text) is not None
    except RefusedError:
        assert refusal(text)
    else:
        assert not readable or len(found(text, {"a": [1, "x"]}, None)) <= 2


# What it may cost, and what it must not let in


DISAGREEING = """
WITH patterns (p) AS (SELECT value FROM json_each(?)), texts (t) AS (SELECT value FROM json_each(?))
SELECT p, t FROM patterns, texts WHERE (t GLOB p) IS NOT nextk_glob(p, t)
"""


def every_text(letters: str, longest: int) -> str:
    """All texts of some letters up to a length, as JSON."""
    texts = ["".join(text) for size in range(longest + 1) for text in itertools.product(letters, repeat=size)]
    return orjson.dumps(texts).decode()


@pytest.mark.parametrize(
    ("alphabet", "longest", "letters"), [("ab*?", 4, "ab"), ("[]^-b", 5, "]^-abc"), ("[*]a", 5, "]a")]
)
def test_short_globs_are_those_of_sqlite(
    connection: sqlite3.Connection, alphabet: str, longest: int, letters: str
) -> None:
    """`nextk_glob` and SQLite's own GLOB agree on every short pattern and text."""
    words = (every_text(alphabet, longest), every_text(letters, 2))
    assert [] == connection.execute(DISAGREEING, words).fetchall()


@given(pattern=globs, text=st.text("ab]-^[é\n", max_size=6))
def test_glob_is_that_of_sqlite(pattern: str, text: str) -> None:
    """`nextk_glob` and SQLite's own GLOB agree on random patterns and texts."""
    with closing(sqlite3.connect(":memory:")) as opened:
        sql.register(opened)
        statement = "SELECT :text GLOB :pattern, nextk_glob(:pattern, :text)"
        native, ours = opened.execute(statement, {"pattern": pattern, "text": text}).fetchone()
    assert native == ours


LETTERS = {"a": ["a", "?", "[ab]", "[^b]"], "b": ["b", "?", "[a-c]", "[^a]"], "\n": ["?", "[^a-c]"]}
"""For each of three characters, parts of a pattern that match it."""


@given(
    parts=st.lists(
        st.sampled_from([(letter, part) for letter, parts in LETTERS.items() for part in parts]), min_size=30
    ),
    text=st.text("ab\n", max_size=40),
    frame=st.sampled_from(["{}*", "*{}", "*{}*"]),
)
def test_long_globs_are_those_of_sqlite(parts: list[tuple[str, str]], text: str, frame: str) -> None:
    """A long pattern matches texts that it was made of, and others where SQLite's own GLOB does."""
    letters, pattern = "".join(letter for letter, _ in parts), frame.format("".join(part for _, part in parts))
    matches = glob.matcher(pattern)
    assert matches(letters)
    for other in (
        f"{text}{letters}",
        f"{letters}{text}",
        f"{text}{letters}{text}",
        f"{letters[:15]}{text}{letters[16:]}",
    ):
        assert native_glob(other, pattern) == matches(other)


@pytest.mark.parametrize(
    "pattern",
    ["*a" * 2000 + "*b", "*a*?" * 1000 + "b", "*[^b]" * 800 + "b*", "?*" * 2000 + "b"]
    + ["*" + run + "b*" for run in ("a" * 4000, "?a" * 2000, "[^b]" * 1500, "[a-z]a" * 1000)],
    ids=lambda pattern: pattern[:8],
)
def test_no_glob_is_dear(found: FilterRunner, pattern: str) -> None:
    """A pattern on which a matcher would never end that tries again, or compares all parts of a text, is answered."""
    assert [] == found(f"a GLOB '{pattern}'", {"a": "a" * 48_000})


@pytest.mark.parametrize("deep_first", [True, False])
@pytest.mark.parametrize("last", ["a CONTAINS 1.5", "a NOT GLOB 'b'", "HAS FIELD a"])
def test_the_deepest_filter_fits_into_sqlite(found: FilterRunner, last: str, deep_first: bool) -> None:
    """SQLite's parser has a small stack; the order of the parts must not decide whether a filter fits."""
    text = last
    for level in range(64):
        operator = ("AND", "OR")[level % 2]
        text = f"({text} {operator} b=1)" if deep_first else f"(b=1 {operator} {text})"
    assert [0] == found(text, {"a": [1.5], "b": 1})


@pytest.mark.parametrize("joint", ["AND", "OR"])
def test_the_bushiest_filter_fits_into_sqlite(connection: sqlite3.Connection, joint: str) -> None:
    """Where both sides of every parenthesis are as deep, the stack still suffices, also in a subquery of its own."""
    text, other = "a NOT CONTAINS 1", {"AND": "OR", "OR": "AND"}
    for _ in range(8):
        text, joint = f"({text} {joint} {text})", other[joint]
    node = parse(text)
    assert node is not None
    condition, parameters = sql.to_sql(node, "'{\"a\": [2]}'")
    assert (1,) == connection.execute(f"SELECT 1 IN (SELECT 1 WHERE {condition})", parameters).fetchone()


def test_parts_are_joined_by_what_they_need_not_by_their_depth(found: FilterRunner) -> None:
    """A chain beside each parenthesis, always a little deeper than it, does not crowd it out of the parser's stack."""

    def joined(left: str, right: str, level: int) -> str:
        return f"({left}{(' AND ', ' OR ')[level % 2]}{right})"

    text = "a NOT CONTAINS 1.5"
    for level in range(62):
        beside = "a!=2"
        for lower in range(level + 2 if level < 23 else 0):
            beside = joined("a!=2", beside, lower + level)
        text = joined(beside, text, level)
    assert [0] == found(text, {"a": [1]})


@given(path=paths, literal=literals, pattern=globs)
def test_user_text_stays_out_of_the_sql(path: FieldPath, literal: Value, pattern: str) -> None:
    """Field names, literals and patterns travel as parameters: the SQL is the same whatever they are."""
    plain: Value = 0.5 if isinstance(literal, float) else "x"
    pairs: list[tuple[Node, Node]] = [
        (Compare(path, "=", literal), Compare(("x",), "=", plain)),
        (In(path, (literal,)), In(("x",), (plain,))),
        (Contains(path, literal), Contains(("x",), plain)),
        (Glob(path, pattern), Glob(("x",), "x")),
        (HasField(path), HasField(("x",))),
    ]
    for node, same in pairs:
        assert sql.to_sql(same, "json")[0] == sql.to_sql(node, "json")[0]


@pytest.mark.parametrize("text", ["x' OR '1'='1", "'); DROP TABLE r; --", '$."a"', "?", ":a", "%s"])
def test_hostile_strings_are_only_strings(found: FilterRunner, text: str) -> None:
    """A literal that looks like SQL or a JSON path is compared, not run."""
    assert [1] == found(f"a = {written(text)}", {"a": "x"}, {"a": text}, {"b": text})


def test_deep_metadata_and_huge_arrays_are_harmless(found: FilterRunner) -> None:
    """A filter gives an answer for any JSON that was stored."""
    nested: Any = 1
    for _ in range(200):
        nested = {"a": nested}
    assert [0] == found("a" + ".a" * 199 + " = 1 AND a != 'x'", nested)
    assert [0] == found("a CONTAINS 19999 AND a[#-1] = 19999", {"a": list(range(20_000))})
    assert [0] == found("a > 1e307", {"a": 1e308})
