"""Filters as conditions of PostgreSQL: what the shared table in `tests.engine.test_filter` does not hold."""

from collections.abc import Iterator
from functools import partial

import orjson
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from nextk.engine.filter import glob
from nextk.engine.filter.tree import Compare, Contains, FieldPath, Glob, HasField, In, Node, Value
from nextk.errors import RefusedError
from nextk.postgres.filter_sql import filter_fragment
from nextk.postgres.metadata_text import refuse_nul, to_jsonb
from tests.support.filter_oracle import globs, literals, metadata, passes, paths
from tests.support.postgres_server import PostgresServer

COLUMN = sql.SQL("metadata")


@pytest.fixture(scope="module")
def connection(postgres_server: PostgresServer) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    """A connection to the server."""
    with psycopg.connect(postgres_server.dsn, autocommit=True) as opened:
        yield opened


def passing(connection: "psycopg.Connection[tuple[object, ...]]", node: Node, values: list[object]) -> list[object]:
    """The values of the field `v` that pass, each stored as the engine stores metadata."""
    condition, parameters = filter_fragment(node, COLUMN)
    rows = [to_jsonb(orjson.dumps({"v": value}).decode()) for value in values]
    query = sql.SQL("SELECT position FROM unnest(%s::jsonb[]) WITH ORDINALITY r (metadata, position) WHERE {}")
    found = connection.execute(query.format(condition), (rows, *parameters)).fetchall()
    return [values[int(str(position)) - 1] for (position,) in sorted(found)]


EDGES = [
    float(2**power + offset) for power in (53, 54, 57, 60, 62, 63, 64, 70) for offset in (-(2**12), -512, 0, 512, 2**12)
]
WHOLE = st.sampled_from([0, 1, 2**53 + 1, 2**62 - 1, 2**63 - 1, -(2**63)]) | st.integers(2**63 - 5, 2**63 + 2**13)
STORED = st.sampled_from([*EDGES, *(-edge for edge in EDGES)]) | WHOLE | st.integers(2**64 - 2**13, 2**64 - 1)
LITERALS = st.sampled_from(
    [*EDGES, *(-edge for edge in EDGES), 1.7976931348623157e308, -1.7976931348623157e308, 0.5]
) | WHOLE.filter(lambda number: number < 2**63)


@given(
    stored=st.lists(STORED | st.booleans() | st.floats(allow_nan=False, allow_infinity=False), min_size=5, max_size=20),
    literals=st.lists(LITERALS, min_size=1, max_size=20),
    operator=st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
    negated=st.booleans(),
)
def test_large_numbers_are_compared_as_64_bits_hold_them(
    connection: "psycopg.Connection[tuple[object, ...]]",
    stored: list[object],
    literals: list[float],
    operator: str,
    negated: bool,
) -> None:
    """Whole numbers are exact within 64 bits and floats beyond them, whichever of the two the literal is."""
    nodes: list[Node] = [
        Compare(("v",), operator, literals[0]),  # type: ignore[arg-type]
        In(("v",), tuple(literals), negated),
    ]
    for node in nodes:
        assert [value for value in stored if passes(node, {"v": value})] == passing(connection, node, stored)


@pytest.mark.parametrize("negated", [False, True])
@pytest.mark.parametrize("count", [1, 16, 17, 500])
def test_any_number_of_literals(
    connection: "psycopg.Connection[tuple[object, ...]]", count: int, *, negated: bool
) -> None:
    """`IN` means one thing, be its literals compared one by one or looked up in a table."""
    wanted: list[Value] = ["x\0", 2.0**64, 1, "a"]
    wanted += [f"b{number}" for number in range(496)]
    node = In(("v",), tuple(wanted[:count]), negated)
    stored: list[object] = [
        "a",
        "b9",
        "b495",
        "c",
        1,
        True,
        1.0,
        2,
        2**64 - 1,
        2.0**64,
        2.0**65,
        None,
        ["a"],
        {},
        "1",
        "",
    ]
    assert [value for value in stored if passes(node, {"v": value})] == passing(connection, node, stored)


SPECIAL = st.text("ab.*+?()[]{}|^$\\/-~#&'\"% \t\n\x01é☂😀", max_size=6)


@given(pattern=st.lists(SPECIAL | st.sampled_from(["*", "?", "[a-c]", "[^é]"]), max_size=4).map("".join), text=SPECIAL)
def test_glob_is_that_of_the_embedded_engine(
    connection: "psycopg.Connection[tuple[object, ...]]", pattern: str, text: str
) -> None:
    """No character of a pattern means to PostgreSQL what it does not mean to GLOB."""
    texts: list[object] = [text, pattern, "", "a", "a\n", "☂b"]
    matches = glob.matcher(pattern)
    expected = [value for value in texts if matches(str(value))]
    assert expected == passing(connection, Glob(("v",), pattern), texts)
    rest = [value for value in texts if not matches(str(value))]
    assert rest == passing(connection, Glob(("v",), pattern, negated=True), texts)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a\0", []),
        ("[\0]", []),
        ("[\0-b]", ["a"]),
        ("[^\0]", ["a", "c"]),
        ("[^\0-b]", ["c"]),
        ("*[^\0]", ["a", "c", "ac"]),
        ("[a", []),
    ],
)
def test_patterns_with_a_character_that_is_never_stored(
    connection: "psycopg.Connection[tuple[object, ...]]", pattern: str, found: list[object]
) -> None:
    """U+0000 in a pattern matches nothing, and what stands beside it in a class still matches."""
    texts: list[object] = ["a", "c", "ac"]
    assert found == passing(connection, Glob(("v",), pattern), texts)
    assert len(texts) - len(found) == len(passing(connection, Glob(("v",), pattern, negated=True), texts))


@pytest.mark.parametrize("operator", ["=", "!="])
def test_a_literal_that_is_never_stored(connection: "psycopg.Connection[tuple[object, ...]]", operator: str) -> None:
    """No text equals one that contains U+0000, and every text is unequal to it."""
    node = Compare(("v",), operator, "a\0")  # type: ignore[arg-type]
    assert (["a", 1] if operator == "!=" else []) == passing(connection, node, ["a", 1, None])
    assert [] == passing(connection, Contains(("v",), "\0"), [["a", ""]])


def test_a_pattern_that_postgres_would_read_for_too_long_is_refused() -> None:
    """Hundreds of classes over hundreds of characters are refused in words, with 422, and half as many are not."""
    classes = [f"[^{chr(0x4E00 + number)}]" for number in range(300)]
    with pytest.raises(RefusedError, match=r"300 classes .* over 300 different characters.*joined by AND") as caught:
        filter_fragment(Glob(("v",), "".join(classes)), COLUMN)
    assert caught.value.status == 422
    filter_fragment(Glob(("v",), "".join(classes[:150])), COLUMN)
    filter_fragment(Glob(("v",), "[aA][bB]*" * 900), COLUMN)


@given(path=paths, literal=literals, pattern=globs, many=st.integers(17, 40))
def test_text_of_users_stays_out_of_the_sql(path: FieldPath, literal: Value, pattern: str, many: int) -> None:
    """Field names, literals and patterns travel as parameters: the SQL depends on the kinds of the predicates alone."""
    plain: Value = "x"
    pairs: list[tuple[Node, Node]] = [
        (Compare(path, "=", literal), Compare(("x",), "=", plain)),
        (Compare(path, "!=", literal), Compare(("x",), "=", plain)),
        (In(path, (literal,)), In(("x",), (plain,))),
        (In(path, (str(literal),) * many), In(("x",), (plain,) * 17)),
        (Contains(path, literal), Contains(("x",), plain)),
        (Glob(path, pattern), Glob(("x",), "x")),
        (HasField(path), HasField(("x",))),
    ]
    for node, other in pairs:
        assert filter_fragment(other, COLUMN).sql == filter_fragment(node, COLUMN).sql


@pytest.mark.parametrize("key", ['"', "'", "\\", '") || (1 == 1', "%s", "a b", "☂", "0", "-1", "$", "@", "*"])
def test_a_key_is_a_key(connection: "psycopg.Connection[tuple[object, ...]]", key: str) -> None:
    """Whatever a key contains, it names the field of that name alone."""
    here: list[object] = [{key: 1}, {"other": 1}, [1], 1]
    assert [{key: 1}] == passing(connection, Compare(("v", key), "=", 1), here)
    assert [{key: 1}] == passing(connection, HasField(("v", key)), here)


@pytest.mark.parametrize(
    "node",
    [
        Compare(("group",), "=", "x"),
        Compare(("a", "b"), "=", 7),
        In(("group",), ("x", "y")),
        Contains(("tags",), "x"),
    ],
)
def test_equality_is_served_by_an_index(
    connection: "psycopg.Connection[tuple[object, ...]]", postgres_schema: str, node: Node
) -> None:
    """PostgreSQL can look up equality, a short `IN` and `CONTAINS` in an index of the class `jsonb_path_ops`."""
    schema = sql.Identifier(postgres_schema)
    connection.execute(sql.SQL("CREATE SCHEMA {0} CREATE TABLE records (metadata jsonb)").format(schema))
    connection.execute(sql.SQL("CREATE INDEX ON {0}.records USING gin (metadata jsonb_path_ops)").format(schema))
    condition, parameters = filter_fragment(node, COLUMN)
    explain = sql.SQL("EXPLAIN SELECT FROM {0}.records WHERE {1}").format(schema, condition)
    with connection.transaction():
        connection.execute("SET LOCAL enable_seqscan = off")
        plan = "\n".join(str(line) for (line,) in connection.execute(explain, parameters))
    assert "records_metadata_idx" in plan


@given(record=metadata.filter(lambda record: record is not None))
def test_metadata_come_back_as_they_were(
    connection: "psycopg.Connection[tuple[object, ...]]", record: dict[str, object]
) -> None:
    """Metadata that were stored are equal to those that were given, and no float has become another number."""
    text = to_jsonb(orjson.dumps(record).decode())
    ((stored,),) = connection.execute("SELECT %s::jsonb::text", (text,)).fetchall()
    assert record == orjson.loads(str(stored))


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (4.611686018427388e18, "4611686018427387904.0"),
        (-1e16, "-10000000000000000.0"),
        (1e15, "1000000000000000.0"),
        ("4.6e+18", '"4.6e+18"'),
        (['\\"1e+17', 1e17], '["\\\\\\"1e+17",100000000000000000.0]'),
        (1e170, "1e+170"),
    ],
)
def test_large_floats_are_spelled_in_full(given: object, stored: str) -> None:
    """A float whose shortest spelling is another whole number is written out, and no text is changed."""
    assert f'{{"v":{stored}}}' == to_jsonb(orjson.dumps({"v": given}).decode())


@pytest.mark.parametrize("record", [{"v": "a\0b"}, {"\0": 1}, {"v": [{"w": "\\\0"}]}])
def test_the_character_that_postgres_cannot_store_is_refused(record: dict[str, object]) -> None:
    """Metadata with U+0000 in a text or a key are refused in words, with 422."""
    for check in (partial(to_jsonb, orjson.dumps(record).decode()), partial(refuse_nul, "a\0", "metadata")):
        with pytest.raises(RefusedError, match=r"Invalid metadata: .*U\+0000") as caught:
            check()
        assert caught.value.status == 422


def test_the_escape_of_that_character_is_only_text() -> None:
    """A backslash before `u0000` is stored like any other text."""
    text = orjson.dumps({"v": "\\u0000"}).decode()
    assert text == to_jsonb(text)
    refuse_nul("\\u0000", "data")
