"""The suite for sources over stores that people have: those of LangChain and of LlamaIndex that run in this process."""

from collections.abc import Collection, Iterator
from typing import Any

import pytest

from nextk.langchain import ResumableRetriever as LangChainRetriever
from nextk.llama_index import ResumableRetriever as LlamaIndexRetriever
from nextk.sessions import SearchQuery
from nextk.stores import Source
from nextk.testing import AsyncSourceCompliance, SourceCompliance
from tests.support import langchain_stores, llama_index_stores

ROWS = 24
"""The number of rows: more than the first request brings."""
QUESTION = "what grows in the garden?"


# A retriever over LangChain's Qdrant store searches by vectors, by exclusion: see `test_qdrant`.
@pytest.fixture(scope="module", params=[kind for kind in langchain_stores.STORES if kind != "qdrant"])
def langchain_source(request: pytest.FixtureRequest) -> Iterator[Source]:
    """The source that a LangChain retriever makes of each kind of store."""
    texts, metadatas = langchain_stores.TEXTS[:ROWS], langchain_stores.METADATAS[:ROWS]
    with langchain_stores.opened(request.param, texts, metadatas) as store:
        source = LangChainRetriever.from_vectorstore(store).source
        assert source is not None
        yield source


@pytest.fixture(scope="module", params=llama_index_stores.STORES)
def llama_index_source(request: pytest.FixtureRequest) -> Iterator[Source]:
    """The source that a LlamaIndex retriever makes of a `VectorStoreIndex` over each kind of store."""
    with llama_index_stores.index_over(request.param, llama_index_stores.NODES[:ROWS]) as index:
        retriever: Any = LlamaIndexRetriever.from_index(index)
        yield retriever.source


class OverStore:
    """The parts of a suite over a store."""

    made: Source
    ids: set[str]

    def over(self, source: Source) -> None:
        """Search a source, whose store gives all rows by one call."""
        self.made = source
        self.ids = {row.id for row in source.query(self.query(), ROWS)}
        assert len(self.ids) == ROWS

    def source(self) -> Source:
        """Return the source."""
        return self.made

    def query(self) -> SearchQuery:
        """Return a query with a text, which the store embeds."""
        return SearchQuery(data=QUESTION)

    def expected(self) -> Collection[str]:
        """Return the ids of all rows."""
        return self.ids


class OverLangChain(OverStore):
    """The parts of a suite over a store of LangChain."""

    @pytest.fixture(autouse=True)
    def take(self, langchain_source: Source) -> None:
        """Search each kind of store in turn."""
        self.over(langchain_source)


class OverLlamaIndex(OverStore):
    """The parts of a suite over a store of LlamaIndex."""

    @pytest.fixture(autouse=True)
    def take(self, llama_index_source: Source) -> None:
        """Search each kind of store in turn."""
        self.over(llama_index_source)

    def query(self) -> SearchQuery:
        """Return a query with a vector, as the retriever makes it."""
        return SearchQuery(vector=llama_index_stores.vector_of(QUESTION))


class TestLangChain(OverLangChain, SourceCompliance):
    """The blocking suite over LangChain's stores."""


class TestAsyncLangChain(OverLangChain, AsyncSourceCompliance):
    """The asynchronous suite over LangChain's stores."""


class TestLlamaIndex(OverLlamaIndex, SourceCompliance):
    """The blocking suite over LlamaIndex's stores."""


class TestAsyncLlamaIndex(OverLlamaIndex, AsyncSourceCompliance):
    """The asynchronous suite over LlamaIndex's stores."""
