"""LlamaIndex's filters, translated: that they mean what LlamaIndex means, and that the index is told enough.

By hand, more cases: `NEXTK_FILTER_CASES=100000 pytest --timeout 0 tests/llama_index/test_filters.py -k agrees`.
"""

import itertools
import os
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, TypeAlias

import orjson
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    ExactMatchFilter,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)

from nextk import Index
from nextk.engine.filter import sql
from nextk.engine.filter.syntax import parse
from nextk.errors import ClientError
from nextk.llama_index.filters import translate
from nextk.llama_index.nodes import storable_nodes
from tests.support.llama_index_filter_oracle import (
    Metadata,
    O,
    flat,
    groups,
    joined,
    leaves,
    meant,
    one,
    searches,
    theirs,
)
from tests.support.texts import odd_texts, with_neighbours

LetThrough: TypeAlias = Callable[[str, list[Metadata]], list[int]]

CASES = int(os.environ.get("NEXTK_FILTER_CASES", "2000"))


@pytest.fixture(scope="module")
def let_through() -> Iterator[LetThrough]:
    """The places of those rows that the engine's filter lets through."""
    with closing(sqlite3.connect(":memory:")) as opened:
        sql.register(opened)

        def selected(text: str, rows: list[Metadata]) -> list[int]:
            node = parse(text)
            if node is None:
                return list(range(len(rows)))
            condition, parameters = sql.to_sql(node, "r.metadata")
            marks = ", ".join(f"({position}, ?)" for position in range(len(rows)))
            query = f"WITH r (place, metadata) AS (VALUES {marks}) SELECT place FROM r WHERE {condition}"  # noqa: S608
            stored = [orjson.dumps(row).decode() for row in rows]
            return sorted(position for (position,) in opened.execute(query, (*stored, *parameters)))

        yield selected


def check(let_through: LetThrough, filters: MetadataFilters, rows: list[Metadata]) -> None:
    """The check passes what LlamaIndex means; the index withholds none of it, and is exact if there is no check."""
    expected = [position for position, row in enumerate(rows) if meant(filters, row)]
    translation = translate(filters)
    through = let_through(translation.filter, rows)
    assert set(expected) <= set(through)
    if translation.residual is None:
        assert expected == through
    else:
        assert expected == [position for position, row in enumerate(rows) if translation.residual(row, "x")]


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(search=searches(groups))
def test_agrees_with_llama_index(let_through: LetThrough, search: tuple[MetadataFilters, list[Metadata]]) -> None:
    """Whatever is asked of whatever rows, both halves together mean what LlamaIndex means."""
    check(let_through, *search)


def test_text_of_any_case_agrees(let_through: LetThrough) -> None:
    """So they do on every short text of letters that are more, or others, in lower case."""
    rows: list[Metadata] = [{"k": text} for text in every_text("iI\u0130kK\u212a\u0307", 3)]
    for text in every_text("iKs\u0307\u0130", 2):
        check(let_through, one("k", O.TEXT_MATCH_INSENSITIVE, text), rows)


def every_text(letters: str, longest: int) -> list[str]:
    """All texts of some letters up to a length."""
    return ["".join(text) for size in range(longest + 1) for text in itertools.product(letters, repeat=size)]


@settings(max_examples=max(200, CASES // 10), deadline=None)
@given(search=searches(flat))
def test_agrees_with_the_store_itself(search: tuple[MetadataFilters, list[Metadata]]) -> None:
    """On groups that LlamaIndex takes as they are, asked as a whole, where it does not raise."""
    filters, rows = search
    residual = translate(filters, node_ids=["x"]).residual
    assert residual is not None
    for row in rows:
        assert theirs(filters, row) in (None, residual(row, "x"))


# What is pushed down

EXACT = [
    (O.EQ, "x", "k = 'x'"),
    (O.EQ, "it's", 'k = "it\'s"'),
    (O.EQ, "a\\b", "k = 'a\\b'"),
    (O.EQ, "a\\\\b\\", "k GLOB 'a[\\]\\b[\\]'"),
    (O.EQ, "\\'*", 'k GLOB "[\\]\'[*]"'),
    (O.EQ, "'\"", "k GLOB '?\"' AND k GLOB \"'?\""),
    (O.EQ, 1, "k = 1"),
    (O.EQ, 1e-7, "k = 0.0000001"),
    (O.GT, -1.5, "k > -1.5"),
    (O.GTE, 1, "k >= 1"),
    (O.LT, 1e15, "k < 1000000000000000.0"),
    (O.LTE, 0, "k <= 0"),
    (O.IN, ["a", "b", "a"], "k IN ('a', 'b')"),
    (O.IN, ["a", "b", "\\"], "k IN ('a', 'b') OR k GLOB '[\\]'"),
    (O.IN, [1, 2], "k IN (1, 2)"),
    (O.CONTAINS, 1, "k CONTAINS 1"),
    (O.CONTAINS, "x", "k CONTAINS 'x' OR k GLOB '*x*' OR HAS FIELD k.x"),
    (O.ANY, [1, 2], "k CONTAINS 1 OR k CONTAINS 2"),
    (O.ALL, [1, 2], "k CONTAINS 1 AND k CONTAINS 2"),
    (O.TEXT_MATCH, "a\\b\\", "k GLOB '*a\\b[\\]*'"),
    (O.TEXT_MATCH, "50*?[a]", "k GLOB '*50[*][?][[]a]*'"),
    (O.TEXT_MATCH_INSENSITIVE, "Go 1*", "k GLOB '*[gG][oO] 1[*]*'"),
]
NOTHING = "HAS FIELD _ AND HAS NOT FIELD _"


@pytest.mark.parametrize(("operator", "value", "text"), EXACT)
def test_exact(operator: FilterOperator, value: Any, text: str) -> None:
    """What the filter language can say needs no check; its negation, true also of `null`, is left to the check."""
    translation = translate(one("k", operator, value))
    assert (text, None) == (translation.filter, translation.residual)
    negation = translate(joined("not", one("k", operator, value)))
    assert "" == negation.filter
    assert negation.residual is not None
    assert [True, True] == [negation.residual(row, "x") for row in ({}, {"k": None})]


@pytest.mark.parametrize(
    ("operator", "value", "text"),
    [
        (O.EQ, "\0\ud800", "k GLOB '??'"),
        (O.EQ, "'\0\"", "k GLOB '??\"' AND k GLOB \"'??\""),
        (O.EQ, 2**60, f"k = {2**60}"),
        (O.EQ, 2**63, "HAS FIELD k"),
        (O.EQ, float("nan"), "HAS FIELD k"),
        (O.EQ, ["a", "b"], "HAS FIELD k AND k[0] = 'a' AND k[1] = 'b' AND HAS NOT FIELD k[2]"),
        (O.EQ, "x" * 7000, "HAS FIELD k"),
        (O.NE, "x", ""),
        (O.NIN, ["x"], ""),
        (O.GT, 2**60, f"k >= {2**60}"),
        (O.LT, float("inf"), "HAS FIELD k"),
        (O.LT, "x", "k GLOB '*'"),
        (O.IN, "xyz", "k GLOB '*'"),
        (O.IN, ["a", "\0"], "k IN ('a') OR k GLOB '?'"),
        (O.IN, list(range(501)), "HAS FIELD k"),
        (O.CONTAINS, "b c", "k CONTAINS 'b c' OR HAS FIELD k AND HAS NOT FIELD k[0]"),
        (O.CONTAINS, None, "HAS FIELD k[0]"),
        (O.CONTAINS, ["a"], "HAS FIELD k[0]"),
        (O.ANY, ["b c", "d e"], "k CONTAINS 'b c' OR HAS FIELD k AND HAS NOT FIELD k[0] OR k CONTAINS 'd e'"),
        (O.ALL, [], "HAS FIELD k"),
        (O.CONTAINS, "\\", "HAS FIELD k"),
        (O.TEXT_MATCH, "'\"", "k GLOB '*?\"*' AND k GLOB \"*'?*\""),
        (O.TEXT_MATCH_INSENSITIVE, "Kßi", "k GLOB '*[kK\u212a]*[iI\u0130]*'"),
        (O.IS_EMPTY, None, "HAS NOT FIELD k[0]"),
    ],
)
def test_weaker(operator: FilterOperator, value: Any, text: str) -> None:
    """What the filter language cannot say is narrowed down, and checked."""
    translation = translate(one("k", operator, value))
    assert text == translation.filter
    assert translation.residual is not None


@pytest.mark.parametrize(
    "key", ["a.b", "a b", "a[0]", "tags[", "", "é", "1a", "a\n", "'", 'a"', "a#", "IN", "not", "\0"]
)
def test_keys_that_are_no_words(key: str) -> None:
    """A key that would be a path, a keyword or a syntax error in a filter is left to the check."""
    translation = translate(one(key, O.EQ, 1))
    assert "" == translation.filter
    assert translation.residual is not None
    assert [True, False] == [translation.residual(row, "x") for row in ({key: 1}, {"a": {"b": 1}})]


@pytest.mark.parametrize(
    ("operator", "value"), [(O.EQ, None), (O.IN, []), (O.ANY, []), (O.ANY, "")], ids=["eq", "in", "any", "any-text"]
)
@pytest.mark.parametrize("key", ["k", "a key"])
def test_what_nothing_passes(let_through: LetThrough, operator: FilterOperator, value: Any, key: str) -> None:
    """A filter that is never true is pushed down as one, and its negation restricts nothing; neither needs a check."""
    translation = translate(joined("and", one(key, operator, value), one("b", O.NE, 1)))
    assert (NOTHING, None) == (translation.filter, translation.residual)
    assert [] == let_through(NOTHING, [{}, {"_": 1}, {"_": None}, {key: None}])
    negation = translate(joined("not", one(key, operator, value)))
    assert ("", None) == (negation.filter, negation.residual)


@pytest.mark.parametrize("condition", [*FilterCondition, None])
def test_no_filters(condition: FilterCondition | None) -> None:
    """A group without filters restricts nothing, whatever its condition; nor does none at all."""
    for filters in (None, joined(condition)):
        assert ("", None) == (translate(filters).filter, translate(filters).residual)


def test_groups_in_groups() -> None:
    """AND, OR and NOT of groups keep their order, and get parentheses where they need them."""
    either = joined("or", one("b", O.LT, 2), one("c", O.EQ, 3))
    excluded = joined("not", one("d", O.NE, 4), one("e", O.NIN, [5, 6]))
    legacy = ExactMatchFilter(key="a", value=1)
    translation = translate(joined(None, legacy, either, excluded))
    assert "a = 1 AND (b < 2 OR c = 3) AND d = 4 AND e IN (5, 6)" == translation.filter
    assert translation.residual is None
    both = joined(None, either, one("a", O.GT, 0))
    assert "d = 4 AND e IN (5, 6) OR (b < 2 OR c = 3) AND a > 0" == translate(joined("or", excluded, both)).filter


def test_an_undecided_filter() -> None:
    """A row on which LlamaIndex raises passes neither the filter nor its negation, but what is true all the same."""
    row = {"year": "2020", "lang": "de"}
    late, german = one("year", O.GT, 2000), one("lang", O.NE, "en")
    for condition, filters, expected in [
        ("and", [late], False),
        ("not", [late], False),
        ("and", [late, german], False),
        ("or", [late, german], True),
    ]:
        group = joined(condition, *filters)
        residual = translate(group, node_ids=["x"]).residual
        assert residual is not None
        assert residual(row, "x") is expected
        assert meant(group, row) is (True if expected else None)


def test_only_two_letters_become_ascii_in_lower_case() -> None:
    """The pattern for text of any case counts on it."""
    outside = (chr(point) for point in range(128, 0x110000))
    assert ["\u0130", "\u212a"] == [letter for letter in outside if any(part.isascii() for part in letter.lower())]
    assert ("i\u0307", "k") == ("\u0130".lower(), "\u212a".lower())


# What is refused

SAMPLES: list[Any] = ["", "a", 0, 1.5, True, [], ["a"], [1], [[1]], [None], {}, {"a": 1}]


@pytest.mark.parametrize("operator", list(FilterOperator))
@pytest.mark.parametrize("value", [None, "a", "", 1, 1.5, [], ["a"], [1], [1.5]], ids=repr)
def test_refuses_what_could_only_raise(operator: FilterOperator, value: Any) -> None:
    """A filter is refused if LlamaIndex raises on whatever is held under the key, and only then."""
    filters = one("k", operator, value)
    if all(theirs(filters, {"k": sample}) is None for sample in SAMPLES):
        with pytest.raises(ClientError, match=r"MetadataFilter\(key='k', operator=.* needs a .* as its value, not"):
            translate(filters)
    else:
        translate(filters)


def test_a_refusal_says_what_to_do() -> None:
    """Looking for a missing key by a comparison is a common slip."""
    with pytest.raises(ClientError, match=r"needs a number, a string or a list as its value, not NoneType; .*IS_EMPTY"):
        translate(one("k", O.GT))


@pytest.mark.parametrize(
    ("filters", "complaint"),
    [
        ({"k": 1}, "must be MetadataFilters"),
        (MetadataFilters.model_construct(filters=None, condition="and"), "must be MetadataFilters"),
        (MetadataFilters.model_construct(filters=["x"], condition="and"), "must be MetadataFilters"),
        (
            MetadataFilters.model_construct(filters=[], condition="xor"),
            "condition: 'xor' is none of 'and', 'or', 'not'",
        ),
        (MetadataFilter.model_construct(key="k", value=1, operator="~"), "'~' is none of '==', '>'"),
        (MetadataFilter.model_construct(key=1, value=1, operator=O.EQ), "the key must be a string"),
        (MetadataFilter.model_construct(key="k", value={}, operator=O.EQ), "the value must be a string"),
        (MetadataFilter.model_construct(key="k", value=[1, "a"], operator=O.IN), "the value must be a string"),
        (MetadataFilter.model_construct(key="k", value=10**5000, operator=O.IN), "needs a list as its value, not int"),
    ],
)
def test_refuses_what_llama_index_does_not_build(filters: Any, complaint: str) -> None:
    """Filters built around LlamaIndex's own checks are checked here."""
    if isinstance(filters, MetadataFilter):
        filters = MetadataFilters.model_construct(filters=[filters], condition=FilterCondition.AND)
    with pytest.raises(ClientError, match=complaint):
        translate(filters)


@pytest.mark.parametrize("ids", ["d1", [1], [None], 5, b"d1"])
@pytest.mark.parametrize("name", ["doc_ids", "node_ids"])
def test_refuses_ids_that_are_none(name: str, ids: Any) -> None:
    """One id is not a list of its letters."""
    with pytest.raises(ClientError, match=f"{name}= must be a list of strings"):
        translate(None, **{name: ids})


@pytest.mark.parametrize("ids", [["None"], ("d1", "None")])
def test_refuses_the_id_of_no_document(ids: Any) -> None:
    """`"None"` stands for every node without a source document; who wants these says so by a filter."""
    with pytest.raises(ClientError, match=r"doc_ids= holds 'None'.*MetadataFilter\(key='ref_doc_id', value='None'\)"):
        translate(None, doc_ids=ids)
    assert "ref_doc_id = 'None'" == translate(one("ref_doc_id", O.EQ, "None")).filter
    assert translate(None, doc_ids=["none", "NONE", " None"], node_ids=["None"]).residual is not None


# Limits

OWN = "x = 1 OR " * 20 + "y IN ('" + "z" * 1000 + "')"


def nested(levels: int, condition: FilterCondition) -> MetadataFilters:
    """Groups inside groups, every one with a filter of its own."""
    filters = one("k", O.EQ, 1)
    for level in range(levels - 1):
        joint = (condition, FilterCondition.AND)[level % 2]
        filters = joined(joint, filters, one("k", O.EQ, level))
    return filters


@pytest.mark.parametrize(
    "filters",
    [
        *(
            joined(condition, *(one(f"k{position}", O.EQ, position) for position in range(1000)))
            for condition in FilterCondition
        ),
        joined("and", one("k", O.EQ, "x" * 5000), one("j", O.EQ, "x" * 5000), one("i", O.EQ, 1)),
        one("k", O.IN, ["x" * 36 + str(position) for position in range(400)]),
        one("k", O.ANY, [str(position) for position in range(1000)]),
        one("k", O.ALL, [str(position) for position in range(1000)]),
        one("k", O.TEXT_MATCH_INSENSITIVE, "x" * 3000),
        one("k", O.EQ, list(range(10_000))),
        one("k" * 9000, O.EQ, 1),
        nested(64, FilterCondition.OR),
    ],
    ids=["and", "or", "not", "long", "in", "any", "all", "text", "list", "key", "deep"],
)
def test_large_filters(filters: MetadataFilters) -> None:
    """A filter too large for an index is narrowed down as far as it fits, beside one of the caller's own."""
    translation = translate(filters, doc_ids=["d" * 20 + str(position) for position in range(1000)])
    assert translation.residual is not None
    assert parse(f"({OWN}) AND ({translation.filter or 'k = 1'})") is not None


def test_the_small_parts_of_a_large_filter_are_kept() -> None:
    """Of an AND that is too large, as many parts as fit are pushed down."""
    parts = [one("k", O.EQ, "x" * 5000), one("j", O.EQ, "x" * 5000), one("tenant", O.EQ, "t1")]
    translation = translate(joined("and", *parts))
    assert f"k = '{'x' * 5000}' AND tenant = 't1'" == translation.filter
    assert translation.residual is not None
    many = [one(f"k{position}", O.EQ, 1) for position in range(1000)]
    assert 300 == translate(joined("and", *many)).filter.count("=")


@pytest.mark.parametrize("condition", [FilterCondition.OR, FilterCondition.NOT])
def test_nesting(condition: FilterCondition) -> None:
    """Groups may be nested 64 deep; what is deeper is refused, not met by a stack overflow."""
    translation = translate(nested(64, condition), node_ids=["x"])
    assert translation.residual is not None
    assert translation.residual({"k": 1}, "x") is meant(nested(64, condition), {"k": 1})
    with pytest.raises(ClientError, match="nested more than 64 deep"):
        translate(nested(65, condition))


# Ids


def test_ids(let_through: LetThrough) -> None:
    """Source documents are found in metadata as LlamaIndex writes it, records by their id; a row must meet both."""
    parents = {"n1": "d1", "n2": "d'2", "n3": "d3", "n4": None}
    found = {}
    for name, parent in parents.items():
        node = TextNode(id_=name, text="x")
        if parent:
            node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=parent)
        found[name] = storable_nodes([node])[0].metadata
    by_document = translate(None, doc_ids=["d1", "d'2"])
    listed = "(\"d'2\", 'd1')"
    assert f"ref_doc_id IN {listed} OR doc_id IN {listed} OR document_id IN {listed}" == by_document.filter
    assert by_document.residual is None
    assert [0, 1] == let_through(by_document.filter, list(found.values()))
    both = translate(one("_node_type", O.EQ, "TextNode"), doc_ids=["d1", "d'2"], node_ids=("n2", "n3"))
    assert both.residual is not None
    assert ["n2"] == [name for name, row in found.items() if both.residual(row, name)]
    assert [1] == let_through(f"({both.filter}) AND doc_id != 'd1'", list(found.values()))


@pytest.mark.parametrize("row", [{}, {"doc_id": ["d1"]}, {"doc_id": None}, {"doc_id": 1}, {"doc_id": {"d1": 1}}])
def test_rows_of_other_documents(let_through: LetThrough, row: Metadata) -> None:
    """A row that holds no id of a document is of none."""
    translation = translate(None, doc_ids=["d1"], node_ids=["x"])
    assert translation.residual is not None
    assert not translation.residual(row, "x")
    assert [1] == let_through(translation.filter, [row, {**row, "document_id": "d1"}])


@pytest.mark.parametrize("ids", [None, [], ()])
def test_no_ids(ids: Any) -> None:
    """No ids restrict nothing: LlamaIndex passes an empty list where it has none to say."""
    translation = translate(None, doc_ids=ids, node_ids=ids)
    assert ("", None) == (translation.filter, translation.residual)


# What it is safe from

HOSTILE = [
    "x' OR HAS FIELD tenant OR a = 'y",
    'x" OR HAS FIELD tenant OR a = "y',
    "x\\' OR HAS FIELD tenant OR a = \\'y",
    "x\\",
    "x') OR tenant != ('",
    "*' OR tenant GLOB '*",
    "'\" OR HAS FIELD tenant OR \"'",
    "\0' OR HAS FIELD tenant --",
    "a = 1 OR HAS FIELD tenant",
    "tenant",
    "]",
    "[",
    "[^",
    "\ud800",
    "\u2019\uff07",
]


def mine(part: MetadataFilters | MetadataFilter) -> MetadataFilters:
    """A filter beside that of a tenant."""
    return joined("and", part, one("tenant", O.EQ, "t1"))


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("operator", list(FilterOperator))
def test_no_way_out_of_a_filter(let_through: LetThrough, operator: FilterOperator, hostile: str) -> None:
    """Whatever keys and values say, the index lets no other tenant's row through, and takes them literally."""
    values: list[Any] = [hostile] if operator not in (O.IN, O.NIN, O.ANY, O.ALL) else [hostile, [hostile, "z"]]
    others: list[Metadata] = [{"tenant": "t2", "a": "y", "k": "y"}, {"tenant": "t2"}, {}]
    for value in values:
        for key in ("k", hostile):
            filters = mine(one(key, operator, value))
            translation = translate(filters)
            assert [] == let_through(translation.filter, others)
            own: list[Metadata] = [{"k": each, "tenant": "t1"} for each in ("y", "xx", ["z"], None)]
            expected = {position for position, row in enumerate(own) if meant(filters, row)}
            assert expected <= set(let_through(translation.filter, own))


@settings(max_examples=100)
@given(search=searches(groups))
def test_no_filter_loosens_its_neighbour(
    let_through: LetThrough, search: tuple[MetadataFilters, list[Metadata]]
) -> None:
    """Beside a tenant's filter, no other lets a row of anyone else through."""
    part, rows = search
    assert [] == let_through(translate(mine(part)).filter, [{**row, "tenant": "t2"} for row in rows])


@settings(max_examples=100)
@given(part=leaves, text=st.text(), key=st.text())
def test_any_text(let_through: LetThrough, part: MetadataFilter, text: str, key: str) -> None:
    """Any text at all, as key or as value, gives a filter that an index can read."""
    assume(isinstance(part.value, str))
    for filters in (
        MetadataFilter(key=key, operator=part.operator, value=text),
        MetadataFilter(key="k", operator=part.operator, value=text),
    ):
        translation = translate(mine(filters))
        assert [] == let_through(translation.filter, [{"tenant": "t2", "k": "a"}])


@pytest.fixture(scope="module")
def named() -> Iterator[Index]:
    """An index for records that bear names."""
    with Index.embedded(type="dense", dimension=1) as index:
        yield index


@given(text=odd_texts.filter(lambda text: text != "None"))  # which is the id of no source document
def test_a_text_names_itself_alone(named: Index, text: str) -> None:
    """Whatever a value holds, the index by itself finds the records that hold it, and none of a similar value."""
    names = with_neighbours(text)
    named.reset()
    named.upsert([(str(position), [1.0], {"k": each, "doc_id": each}) for position, each in enumerate(names)])
    for translation in (
        translate(one("k", O.EQ, text)),
        translate(one("k", O.IN, [text, f"{text}y"])),
        translate(joined("not", one("k", O.NE, text))),
        translate(None, doc_ids=[text]),
    ):
        assert translation.residual is None
        assert ["0"] == [match.id for match in named.query([1.0], 100, filter=translation.filter)]
    for operator in (O.NE, O.GTE, O.CONTAINS, O.TEXT_MATCH):
        check = translate(one("k", operator, text))
        matches = named.query([1.0], 100, include_metadata=True, filter=check.filter)
        kept = {match.id for match in matches if check.residual is None or check.residual(match.metadata or {}, "x")}
        assert kept == {
            str(position) for position, each in enumerate(names) if theirs(one("k", operator, text), {"k": each})
        }


# What it is


def test_later_changes_do_not_reach_it() -> None:
    """A translation keeps what it was made of, whatever becomes of the filters."""
    values = ["a"]
    filters = one("a key", O.IN, values)
    translation = translate(filters)
    assert translation.residual is not None
    values.append("b")
    assert isinstance(filters.filters[0], MetadataFilter)
    filters.filters[0].value = ["b"]
    assert [True, False] == [translation.residual({"a key": value}, "x") for value in ("a", "b")]
    assert translation != translate(filters)


@settings(max_examples=50)
@given(search=searches(groups))
def test_pickles(search: tuple[MetadataFilters, list[Metadata]]) -> None:
    """A translation comes out of a pickle as it went in."""
    filters, rows = search
    translation = translate(filters, ["d1"], ["n1"])
    copied = pickle.loads(pickle.dumps(translation))  # noqa: S301
    assert translation.filter == copied.filter
    assert translation.residual is not None
    for row in rows:
        assert translation.residual(row, "n1") == copied.residual(row, "n1")


def test_in_an_index() -> None:
    """Through an index as it is used: the filter narrows the search down, the check does the rest."""
    records: list[Metadata] = [
        {"year": 2020, "by": 'O\'Brien "x"'},
        {"year": 2021, "by": None},
        {"year": "2021"},
        {"by": 'O\'Brien _x" O_Brien "x"'},
        {"year": 1999, "by": 'O\'Brien "x"'},
    ]
    late = joined("or", one("year", O.GTE, 2020), one("by", O.TEXT_MATCH, '\'Brien "x"'))
    translation = translate(mine(late), node_ids=["0", "1", "3"])
    assert translation.residual is not None
    with Index.embedded(type="dense", dimension=1) as index:
        index.upsert([(str(position), [1.0], {**row, "tenant": "t1"}) for position, row in enumerate(records)])
        matches = index.query([1.0], top_k=10, include_metadata=True, filter=translation.filter)
    assert {"0", "1", "3", "4"} == {match.id for match in matches}
    assert {"0", "1"} == {match.id for match in matches if translation.residual(match.metadata or {}, match.id)}
