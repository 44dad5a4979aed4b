"""Filters as dicts: each is translated exactly, or refused with words that say what to do instead.

By hand, more cases: `NEXTK_FILTER_CASES=100000 pytest --timeout 0 tests/langchain/test_filters.py -k TestMeaning`.
"""

import datetime as dt
import enum
import math
import os
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nextk import Index
from nextk.engine.filter.syntax import parse
from nextk.engine.filter.tree import Compare
from nextk.errors import ClientError
from nextk.langchain.filters import index_filter
from tests.support.dict_filter_oracle import DictFilter, conditions, filters, holds, odd_filters, rows_around, rows_for
from tests.support.odd_values import nested
from tests.support.texts import odd_texts, with_neighbours

Found: TypeAlias = Callable[[str, list[dict[str, Any]]], list[int]]

CASES = int(os.environ.get("NEXTK_FILTER_CASES", "200"))
SETTINGS = settings(max_examples=CASES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


@pytest.fixture(scope="module")
def found() -> Iterator[Found]:
    """A function that stores rows of metadata in an index and returns the positions of those that a filter finds."""
    with Index.embedded(type="dense", dimension=2) as index:

        def positions(filter: str, rows: list[dict[str, Any]]) -> list[int]:
            index.reset()
            index.upsert([(str(position), [1.0, 1.0], row) for position, row in enumerate(rows)])
            return sorted(int(match.id) for match in index.query([1.0, 1.0], top_k=1000, filter=filter))

        yield positions


def expected(filter: DictFilter, rows: list[dict[str, Any]]) -> list[int]:
    """The positions of the rows for which a filter holds."""
    return [position for position, row in enumerate(rows) if holds(filter, row)]


class TestMeaning:
    """The index finds the records that the dict means."""

    @given(conditions)
    @SETTINGS
    def test_a_condition_and_its_negation(self, found: Found, condition: Any) -> None:
        """A condition on one field, and its negation, hold for exactly the values for which they should."""
        rows = rows_around(condition)
        for each in ({"a": condition}, {"$not": {"a": condition}}):
            assert expected(each, rows) == found(index_filter(each), rows)

    @given(st.data())
    @SETTINGS
    def test_agrees(self, found: Found, data: st.DataObject) -> None:
        """A dict of the language is translated, and finds exactly the records for which it holds."""
        chosen = data.draw(filters)
        rows = data.draw(rows_for(chosen))
        assert expected(chosen, rows) == found(index_filter(chosen), rows)

    @given(st.data())
    @SETTINGS
    def test_agrees_or_is_refused(self, found: Found, data: st.DataObject) -> None:
        """A dict with values and keys that no filter may name is refused, or finds what it means."""
        chosen = data.draw(odd_filters)
        try:
            text = index_filter(chosen)
        except ClientError:
            return
        rows = data.draw(rows_for(chosen))
        assert expected(chosen, rows) == found(text, rows)

    @pytest.mark.parametrize(
        ("filter", "text"),
        [
            ({}, ""),
            ({"lang": "de"}, "lang = 'de'"),
            ({"lang": "de", "year": {"$gte": 2020, "$lt": 2024}}, "lang = 'de' AND year >= 2020 AND year < 2024"),
            ({"author.name": {"$ne": "x"}}, "author.name != 'x' OR HAS NOT FIELD author.name"),
            ({"$or": [{"a": 1}, {"b": {"$in": ["x", "y"]}}], "c": True}, "(a = 1 OR b IN ('x', 'y')) AND c = 1"),
            ({"a": {"$nin": [1, 2]}}, "a NOT IN (1, 2) OR HAS NOT FIELD a"),
            ({"tags": {"$contains": "x"}, "a": {"$exists": False}}, "tags CONTAINS 'x' AND HAS NOT FIELD a"),
            ({"a": {"$between": [1, 2.5]}}, "a >= 1 AND a <= 2.5"),
            ({"$not": {"a": {"$gt": 5}}}, "a <= 5 OR HAS NOT FIELD a"),
            ({"a": {"$not": {"$gt": 5}}}, "a <= 5 OR HAS NOT FIELD a"),
            ({"$nor": [{"a": {"$exists": True}}, {"b": {"$nin": ["x"]}}]}, "HAS NOT FIELD a AND b = 'x'"),
            ({"path": "C:\\"}, "path GLOB 'C:[\\]'"),
            ({"a": {"$nin": []}}, ""),
            ({"$not": {}}, "HAS FIELD _ AND HAS NOT FIELD _"),
        ],
        ids=str,
    )
    def test_text(self, filter: DictFilter, text: str) -> None:
        """A translated filter reads as a person would write it."""
        assert text == index_filter(filter)

    @pytest.mark.parametrize("filter", ["lang = 'de'", "", "no filter at all ("])
    def test_a_text_is_returned_as_it_is(self, filter: str) -> None:
        """A text is the index's own language, and what it says is left to the index."""
        assert filter == index_filter(filter)

    def test_lists_of_any_length(self, found: Found) -> None:
        """A list of more values than the index takes at once is divided."""
        rows = [{"a": number} for number in range(0, 1600, 100)]
        for each in ({"a": {"$in": list(range(1300))}}, {"a": {"$nin": list(range(1300))}}):
            assert expected(each, rows) == found(index_filter(each), rows)


class Colour(enum.Enum):
    """An enum whose members are no texts."""

    RED = "red"


class Language(enum.StrEnum):
    """An enum whose members are texts."""

    DE = "de"


class TestValues:
    """Values of other libraries."""

    @pytest.mark.parametrize(
        ("value", "plain"),
        [
            (Colour.RED, "red"),
            (Language.DE, "de"),
            (np.str_("de"), "de"),
            (np.int64(7), 7),
            (np.float32(0.5), 0.5),
            (np.bool_(True), True),
            (np.array(3), 3),
        ],
        ids=["enum", "str-enum", "numpy-text", "numpy-integer", "numpy-float", "numpy-boolean", "numpy-array"],
    )
    def test_scalars(self, value: Any, plain: Any) -> None:
        """Members of enums and scalars of numpy are read as their values, as those of metadata are."""
        assert index_filter({"a": plain}) == index_filter({"a": value})
        assert index_filter({"a": {"$in": [plain, "z"]}}) == index_filter({"a": {"$in": (value, "z")}})

    def test_mappings_arrays_and_keys(self) -> None:
        """Any mapping will do for a dict, an array for a list, and a member of an enum of texts for a key."""
        given: Any = MappingProxyType({Language.DE: MappingProxyType({"$in": np.array([1, 2])})})
        assert "de IN (1, 2)" == index_filter(given)
        assert index_filter({"a": {"$exists": True}}) == index_filter({"a": {"$exists": np.bool_(True)}})


class TestInjection:
    """Nothing of a key or a value is read as syntax."""

    @given(odd_texts)
    @SETTINGS
    def test_values(self, found: Found, text: str) -> None:
        """A text is found by itself alone, and left out by itself alone, whatever it holds."""
        rows = [{"a": each} for each in with_neighbours(text)]
        for each in ({"a": text}, {"a": {"$ne": text}}, {"a": {"$in": [text, "z"]}}):
            assert expected(each, rows) == found(index_filter(each), rows)

    @given(st.text("ab_.-0 ='\"()[]#$\n\\é", max_size=8) | st.sampled_from(["in", "NOT", "a OR b", "has.in", "a.not"]))
    @SETTINGS
    def test_keys(self, key: str) -> None:
        """A key is refused, or is read as the path that it is, and as nothing else."""
        try:
            text = index_filter({key: "x"})
        except ClientError:
            return
        assert Compare(tuple(key.split(".")), "=", "x") == parse(text)


class TestRefusals:
    """The error names the part of the dict and says what to do."""

    @pytest.mark.parametrize(
        ("filter", "words"),
        [
            ({"a": {"$gtt": 1}}, "filter['a']['$gtt']: there is no operator '$gtt' (did you mean $gt?)"),
            ({"a": {"$regex": "x"}}, "\"name GLOB 'a*'\""),
            ({"a": {"$all": ["x"]}}, "join several $contains"),
            ({"a": {"$or": [{"$gt": 1}]}}, "it joins whole dicts: {'$or': ["),
            ({"$an": []}, "filter['$an']: there is no operator '$an' (did you mean $and?)"),
            ({"$gt": 1}, "filter['$gt']: $gt compares a field: write {'a_field': {'$gt': ...}}"),
            ({"$exists": True}, "write {'a_field': {'$exists': ...}}"),
            ({"$and": []}, "filter['$and']=[] has to be a list of one or more dicts"),
            ({"$or": {"a": 1}}, "has to be a list of one or more dicts"),
            ({"$or": [{"a": 1}, "b = 1"]}, "has to be a list of one or more dicts"),
            ({"$not": [{"a": 1}]}, "has to be a dict; $nor takes a list of dicts"),
            ({"a": {"$not": 1}}, "write $ne for what the field does not equal"),
            ({"$or": [{"b": 1}, {"a": {"$gt": "2024"}}]}, "filter['$or'][1]['a']['$gt']='2024' is no number"),
            ({"a": {"$gt": "2024"}}, "store a number, such as a timestamp"),
            ({"a": {"$lte": True}}, "the index orders numbers alone"),
            ({"a": {"$between": ["x", 1]}}, "filter['a']['$between'][0]='x' is no number"),
            ({"a": {"$between": [1]}}, "a list of two numbers"),
            ({"a": dt.date(2024, 5, 1)}, "store a number, such as a timestamp"),
            ({"a": {"$gt": np.datetime64("2024-05-01")}}, "is no moment, of which metadata hold the timestamp"),
            ({"a": math.nan}, "filter['a']=nan has to be a finite number"),
            ({"a": {"$lt": np.float32("inf")}}, "has to be a finite number"),
            ({"a": 2**63}, "store and compare a text"),
            ({"a": {"$gt": -(2.0**63)}}, "beyond the numbers that the index compares exactly"),
            ({"a": 10**400}, "filter['a'] is a whole number beyond all floats: give a text"),
            ({"a": None}, "filter['a']=None: null equals nothing; write {'$exists': False}"),
            ({"a": {"$in": [1, None]}}, "filter['a']['$in'][1]=None"),
            ({"a": ["x"]}, "$in takes a list of values that the field may have, and $contains one element"),
            ({"a": {"$eq": {"b": 1}}}, "compare its fields one by one, by keys with dots"),
            ({"a": {"$in": "x"}}, "filter['a']['$in']='x' has to be a list"),
            ({"a": {"$in": {"x"}}}, "has to be a list"),
            ({"a": {"$exists": 1}}, "has to be True or False"),
            ({"a": {}}, "leave the key out"),
            ({"a": {"b": 1}}, "name a nested field by dots, as in {'a.b': ...}"),
            ({"a": {"$gt": 1, "b": 1}}, "mixes operators with the key 'b': write the nested field as 'a.b'"),
            ({"in": 1}, "no keyword of filters such as in or has"),
            ({"a b": 1}, "no filter can name the field 'a b'"),
            ({"tags[0]": 1}, "Store the value under such a name as well"),
            ({"é": 1}, "letters of ASCII"),
            ({1: 2}, "filter has the key 1: give the name of a field"),
            ({"a": {1: 2}}, "filter['a'] has the key 1"),
            ({"a": b"x"}, "filter['a'] is bytes; give a text"),
            ({"a": "x\0"}, "the character NUL"),
            ({"a": "\ud800"}, "lone surrogates"),
            ({"a": {"$contains": "C:\\"}}, "no filter can spell as an element of an array"),
            ({"a": {"$contains": ["x"]}}, "$contains one element"),
            (["a"], "has to be a dict such as"),
            (None, "has to be a dict such as"),
        ],
        ids=ascii,
    )
    def test_words(self, filter: Any, words: str) -> None:
        """A filter that no index can apply exactly is refused, with the name of the part and advice."""
        with pytest.raises(ClientError) as caught:
            index_filter(filter)
        assert words in str(caught.value)

    def test_a_datetime_is_its_timestamp(self) -> None:
        """It is compared as the number that is stored of it, in whichever time zone it is given."""
        moment = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
        elsewhere = moment.astimezone(dt.timezone(dt.timedelta(hours=-7)))
        expected = index_filter({"a": {"$gte": moment.timestamp(), "$nin": [moment.timestamp()]}})
        assert expected == index_filter({"a": {"$gte": moment, "$nin": [elsewhere]}})

    @pytest.mark.parametrize(
        ("filter_of", "largest", "words"),
        [
            (lambda count: {"$or": [{"a": {"$eq": number}} for number in range(count)]}, 400, "401 predicates"),
            (lambda count: {"a": "x" * (count - len("a = ''"))}, 8192, "takes 8193 bytes"),
            (
                lambda count: nested(count, lambda inner: {"b": 1, "$not": inner if inner != 1 else {"c": 2}}),
                100,
                "100 levels",
            ),
        ],
        ids=["predicates", "bytes", "nesting"],
    )
    def test_limits(self, filter_of: Callable[[int], DictFilter], largest: int, words: str) -> None:
        """The largest filter that is allowed is one that an index takes, and a larger one is refused with its size."""
        assert parse(index_filter(filter_of(largest)))
        with pytest.raises(ClientError, match=words):
            index_filter(filter_of(largest + 1))

    @pytest.mark.parametrize(
        "wrap",
        [lambda inner: {"$not": inner}, lambda inner: {"$and": [inner]}, lambda inner: {"$or": [{"b": 1}, inner]}],
        ids=["not", "and", "or"],
    )
    def test_deep_nesting(self, wrap: Callable[[Any], Any]) -> None:
        """A dict that is nested far too deeply is refused before Python runs out of its stack."""
        deep = nested(5_000, lambda inner: wrap({"b": 1} if inner == 1 else inner))
        with pytest.raises(ClientError, match="100 levels"):
            index_filter(deep)
        operators = nested(5_000, lambda inner: {"$not": {"$gt": 1} if inner == 1 else inner})
        with pytest.raises(ClientError, match="100 levels"):
            index_filter({"a": operators})

    def test_a_dict_that_holds_itself(self) -> None:
        """A dict that holds itself is refused."""
        own: DictFilter = {}
        own["$not"] = own
        with pytest.raises(ClientError, match="holds itself"):
            index_filter(own)


class TestDocumentedLimits:
    """The comparisons that neither hold nor fail, as documented."""

    @pytest.mark.parametrize("filter", [{"a": 1}, {"a": {"$gt": 1}}, {"a": {"$contains": 1}}, {"a": {"$in": ["C:\\"]}}])
    def test_null(self, found: Found, filter: DictFilter) -> None:
        """A field that is null passes neither a comparison nor its negation, and counts as present."""
        rows: list[dict[str, Any]] = [{"a": None}, {}]
        assert [] == found(index_filter(filter), rows)
        assert [1] == found(index_filter({"$not": filter}), rows)
        assert [0] == found(index_filter({"a": {"$exists": True}}), rows)

    def test_other_types(self, found: Found) -> None:
        """An order of what is no number neither holds nor fails, while an equality with it fails."""
        rows = [{"a": value} for value in ("x", [1], {"b": 1}, 1, 9)]
        assert [4] == found(index_filter({"a": {"$gt": 5}}), rows)
        assert [3] == found(index_filter({"a": {"$not": {"$gt": 5}}}), rows)
        assert [0, 1, 2, 3] == found(index_filter({"a": {"$ne": 9}}), rows)
