"""LangChain's `SelfQueryRetriever` over the vector store, with a model whose answers are written down."""

import json
import warnings
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel

from nextk.errors import ClientError
from nextk.langchain import ResumableVectorStore, StructuredQueryTranslator
from tests.support.vector_stores import Colour

with warnings.catch_warnings():  # that this package is on its way out is no concern of this one
    warnings.simplefilter("ignore", DeprecationWarning)
    from langchain_classic.chains.query_constructor.schema import AttributeInfo
    from langchain_classic.retrievers import SelfQueryRetriever

FILMS = [
    Document("Dinosaurs break loose.", id="jp", metadata={"year": 1993, "rating": 7.7, "tags": ["sea", "ape's"]}),
    Document("Toys come alive.", id="ts", metadata={"year": 1995, "rating": 8.3, "tags": ["toys"], "seen": True}),
    Document("Three men walk into the Zone.", id="st", metadata={"year": 1979, "rating": 9.9}),
    Document("A detective gets lost in a series of dreams.", id="pa", metadata={"year": 2006, "lang": "ja"}),
    Document("A thief of dreams.", id="in", metadata={"year": 2010, "rating": 8.2, "lang": "en"}),
]
ATTRIBUTES = [
    AttributeInfo(name="year", description="The year of the film", type="integer"),
    AttributeInfo(name="rating", description="Its rating, 1 to 10", type="float"),
    AttributeInfo(name="lang", description="Its language", type="string"),
    AttributeInfo(name="tags", description="What it is about", type="list[string]"),
    AttributeInfo(name="seen", description="Whether it was seen", type="boolean"),
]


def retriever_of(
    store: ResumableVectorStore, query: str, filter: str = "NO_FILTER", limit: int | None = None, **keywords: Any
) -> SelfQueryRetriever:
    """Return a retriever whose model makes every question this query."""
    answer = {"query": query, "filter": filter} | ({} if limit is None else {"limit": limit})
    return SelfQueryRetriever.from_llm(
        FakeListChatModel(responses=[f"```json\n{json.dumps(answer)}\n```"]),
        store,
        "Summaries of films",
        ATTRIBUTES,
        structured_query_translator=StructuredQueryTranslator(),
        enable_limit=True,
        **keywords,
    )


@pytest.fixture
async def films(store: ResumableVectorStore, run: Colour) -> ResumableVectorStore:
    """A store that holds the films."""
    await run(store, "add_documents", FILMS)
    return store


CONDITIONS: dict[str, set[str]] = {
    'eq("year", 1993)': {"jp"},
    'ne("lang", "ja")': {"jp", "ts", "st", "in"},
    'and(gt("year", 1993), lte("rating", 8.3))': {"ts", "in"},
    'or(lt("year", 1980), gte("year", 2010))': {"st", "in"},
    'in("year", [1979, 2006])': {"st", "pa"},
    'nin("lang", ["ja", "en"])': {"jp", "ts", "st"},
    'contain("tags", "toys")': {"ts"},
    'not(eq("lang", "ja"))': {"jp", "ts", "st", "in"},
    'eq("seen", true)': {"ts"},
    'and(or(eq("lang", "ja"), eq("lang", "en")), not(lt("year", 2010)))': {"in"},
    'contain("tags", "ape\'s")': {"jp"},
    'eq("lang", "ja\' OR year > 0 OR lang = \'")': set(),
    "NO_FILTER": {"jp", "ts", "st", "pa", "in"},
}


class TestSelfQuery:
    """Questions that a model divides into a text and conditions."""

    @pytest.mark.parametrize("conditions", CONDITIONS)
    async def test_conditions(self, films: ResumableVectorStore, run: Colour, conditions: str) -> None:
        """The documents are those that meet the conditions, each as it was stored."""
        retriever = retriever_of(films, "films about dreams", conditions, search_kwargs={"k": 9})
        found = await run(retriever, "invoke", "any question")
        assert CONDITIONS[conditions] == {document.id for document in found}
        assert all(document in FILMS for document in found)

    @pytest.mark.parametrize("text", ["", " "])
    async def test_conditions_alone(self, films: ResumableVectorStore, run: Colour, text: str) -> None:
        """Where the model leaves no text, the conditions are met all the same."""
        found = await run(retriever_of(films, text, 'gt("year", 1994)'), "invoke", "films after 1994")
        assert {"ts", "pa", "in"} == {document.id for document in found}

    async def test_nothing_at_all(self, films: ResumableVectorStore, run: Colour) -> None:
        """A model that leaves neither text nor conditions is told so; with the question itself there is a search."""
        with pytest.raises(ClientError, match="the question is empty"):
            await run(retriever_of(films, ""), "invoke", "dreams")
        found = await run(retriever_of(films, "", use_original_query=True), "invoke", "dreams")
        assert await run(films, "similarity_search", "dreams") == found

    async def test_a_limit(self, films: ResumableVectorStore, run: Colour) -> None:
        """A number of documents that the question asks for goes before that of the retriever."""
        retriever = retriever_of(films, "dreams", 'gt("year", 1980)', 2, search_kwargs={"k": 4})
        expected = await run(films, "similarity_search", "dreams", 2, {"year": {"$gt": 1980}})
        assert expected == await run(retriever, "invoke", "two films about dreams after 1980")

    @pytest.mark.parametrize(
        ("type_", "method", "keywords"),
        [
            ("mmr", "max_marginal_relevance_search", {"k": 2, "fetch_k": 3}),
            ("similarity_score_threshold", "similarity_search_with_relevance_scores", {"score_threshold": 0.1}),
        ],
        ids=["mmr", "threshold"],
    )
    async def test_other_types_of_search(
        self, films: ResumableVectorStore, run: Colour, type_: str, method: str, keywords: dict[str, Any]
    ) -> None:
        """The filter reaches every type of search of the store."""
        retriever = retriever_of(films, "dreams", 'lt("year", 2000)', search_type=type_, search_kwargs=keywords)
        found = await run(films, method, "dreams", filter={"year": {"$lt": 2000}}, **keywords)
        expected = [each[0] if isinstance(each, tuple) else each for each in found]
        assert expected
        assert expected == await run(retriever, "invoke", "dreams before 2000")

    async def test_the_order_of_dates(self, films: ResumableVectorStore, run: Colour) -> None:
        """An order of dates, which no filter can express, is refused in words instead of finding too much."""
        with pytest.raises(ClientError, match="orders dates"):
            await run(retriever_of(films, "dreams", 'gt("year", "1994-05-01")'), "invoke", "dreams after May 1994")
