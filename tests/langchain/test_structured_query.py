"""The translator for `SelfQueryRetriever`: what a model writes becomes a filter that the index takes."""

from typing import Any

import pytest
from langchain_classic.chains.query_constructor.parser import get_parser
from langchain_core.structured_query import Comparator, Comparison, Operation, Operator, StructuredQuery

from nextk.errors import ClientError
from nextk.langchain import StructuredQueryTranslator
from nextk.langchain.filters import index_filter

TRANSLATOR = StructuredQueryTranslator()


def translated(conditions: str) -> str:
    """The filters that the index is given for the conditions that a model writes."""
    parser = get_parser(
        allowed_comparators=TRANSLATOR.allowed_comparators, allowed_operators=TRANSLATOR.allowed_operators
    )
    directive: Any = parser.parse(conditions)
    query = StructuredQuery(query="films", filter=directive)
    text, arguments = TRANSLATOR.visit_structured_query(query)
    assert "films" == text
    assert {"filter"} == arguments.keys()
    return index_filter(arguments["filter"])


class TestTranslation:
    """Conditions as a model writes them, in the index's language."""

    @pytest.mark.parametrize(
        ("conditions", "text"),
        [
            ('eq("lang", "de")', "lang = 'de'"),
            ('ne("lang", "de")', "lang != 'de' OR HAS NOT FIELD lang"),
            ('and(gt("year", 1990), lte("rating", 8.5))', "year > 1990 AND rating <= 8.5"),
            ('and(gte("year", 1990), lt("year", 2000))', "year >= 1990 AND year < 2000"),
            ('or(eq("seen", true), in("lang", ["de", "fr"]))', "seen = 1 OR lang IN ('de', 'fr')"),
            ('in("lang", "de")', "lang = 'de'"),
            ('nin("lang", ["de", "fr"])', "lang NOT IN ('de', 'fr') OR HAS NOT FIELD lang"),
            ('contain("tags", "new")', "tags CONTAINS 'new'"),
            ('not(eq("lang", "de"))', "lang != 'de' OR HAS NOT FIELD lang"),
            (
                'not(eq("a", 1), gt("b", 2))',
                "(a != 1 OR HAS NOT FIELD a) AND (b <= 2 OR HAS NOT FIELD b)",
            ),
            (
                'and(or(eq("a", 1), eq("b", 2)), not(and(eq("c", 3), eq("d", 4))))',
                "(a = 1 OR b = 2) AND (c != 3 OR HAS NOT FIELD c OR d != 4 OR HAS NOT FIELD d)",
            ),
            ('eq("day", "2024-05-01")', "day = '2024-05-01'"),
            ('in("day", ["2024-05-01", "2024-05-02"])', "day IN ('2024-05-01', '2024-05-02')"),
            ('eq("at", "2024-05-01T10:30:00")', "at = '2024-05-01T10:30:00'"),
        ],
        ids=str,
    )
    def test_text(self, conditions: str, text: str) -> None:
        """Every comparator and operator that the model is told of is translated; dates are compared as texts."""
        assert text == translated(conditions)

    def test_without_conditions(self) -> None:
        """A query without conditions searches without a filter of its own."""
        assert ("films", {}) == TRANSLATOR.visit_structured_query(StructuredQuery(query="films", filter=None))

    @pytest.mark.parametrize("text", ["", " "])
    def test_conditions_alone(self, text: str) -> None:
        """The words of the conditions are searched if the model leaves no text, but not what is to be absent."""
        day = {"type": "date", "date": "2024-05-01"}
        parts = [Comparison(Comparator.EQ, "year", 1994), Comparison(Comparator.IN, "lang", ["de", "fr"])]
        without = [Comparison(Comparator.NE, "kind", "x"), Operation(Operator.NOT, [Comparison(Comparator.GT, "n", 3)])]
        conditions = Operation(Operator.AND, [*parts, Comparison(Comparator.EQ, "day", day), *without])
        translated, arguments = TRANSLATOR.visit_structured_query(StructuredQuery(query=text, filter=conditions))
        assert "year 1994 lang de fr day 2024-05-01 kind n" == translated
        assert {"filter"} == arguments.keys()

    def test_the_query_stays_as_it_is(self) -> None:
        """Translating a query does not change it, so that it can be translated again."""
        query = StructuredQuery(query="films", filter=Comparison(Comparator.IN, "lang", "de"))
        before = query.model_dump()
        assert TRANSLATOR.visit_structured_query(query) == TRANSLATOR.visit_structured_query(query)
        assert before == query.model_dump()


class TestRefusals:
    """Conditions that a model may write, but that no filter can express."""

    @pytest.mark.parametrize("comparator", ["gt", "gte", "lt", "lte"])
    @pytest.mark.parametrize("day", ["2024-05-01", "2024-05-01T10:30:00"])
    def test_the_order_of_dates(self, comparator: str, day: str) -> None:
        """An order of dates is refused, with the attribute and the advice to store a number."""
        with pytest.raises(ClientError, match=rf"{comparator}\('day', \.\.\.\) orders dates.*store a number"):
            translated(f'{comparator}("day", "{day}")')

    def test_like(self) -> None:
        """A comparator that the model was not told of is refused with those that there are."""
        with pytest.raises(ClientError, match=r"like\('name', \.\.\.\).*use one of eq, ne, gt"):
            Comparison(Comparator.LIKE, "name", "a*").accept(TRANSLATOR)

    @pytest.mark.parametrize(
        "directive",
        [
            Comparison(Comparator.EQ, "$nor", "x"),
            Comparison(Comparator.EQ, "$not", {"lang": "de"}),
            Comparison(Comparator.EQ, "a = 1 OR b", 1),
            Comparison(Comparator.EQ, "lang", {"$ne": "de"}),
            Comparison(Comparator.EQ, "lang", {"type": "date", "date": {"$ne": "de"}}),
            Operation(Operator.AND, []),
        ],
        ids=["operator", "negation", "syntax", "operator-as-value", "no-date", "of-nothing"],
    )
    def test_a_model_writes_no_operators(self, directive: Any) -> None:
        """No name and no value that a model writes is read as an operator or as syntax: the filter is refused."""
        with pytest.raises(ClientError):
            index_filter(directive.accept(TRANSLATOR))
