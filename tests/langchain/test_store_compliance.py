"""Every kind of vector store of LangChain, as a source, keeps the promises of sources."""

from collections.abc import Collection, Iterator

import pytest
from langchain_core.vectorstores import VectorStore

from nextk.langchain.store_source import VectorStoreSource
from nextk.sessions import SearchQuery
from nextk.stores import Source
from nextk.testing import AsyncSourceCompliance, SourceCompliance
from tests.support.langchain_stores import METADATAS, QUESTION, STORES, TEXTS, opened

ROWS = 13


class Stores:
    """The parts of a suite over each kind of store in turn."""

    store: VectorStore

    @pytest.fixture(autouse=True, params=STORES)
    def open_store(self, request: pytest.FixtureRequest) -> Iterator[None]:
        """Keep a store at hand where the suite asks for a source."""
        with opened(request.param, TEXTS[:ROWS], METADATAS[:ROWS]) as self.store:
            yield

    def source(self) -> Source:
        """Return a source over the store."""
        return VectorStoreSource(self.store)

    def query(self) -> SearchQuery:
        """Return a query that every document answers."""
        return SearchQuery(data=QUESTION)

    def expected(self) -> Collection[str]:
        """Return the ids of all documents, as the store's own search finds them."""
        source = VectorStoreSource(self.store)
        return [source.id_of(document) for document in self.store.similarity_search(QUESTION, k=ROWS)]


class TestStores(Stores, SourceCompliance):
    """The blocking suite."""


class TestAsyncStores(Stores, AsyncSourceCompliance):
    """The asynchronous suite."""
