"""Sources over LlamaIndex's vector stores keep the promises of sources, in both colours and through faults."""

from collections.abc import Collection, Iterator

import pytest
from llama_index.core import VectorStoreIndex

from nextk.llama_index import ResumableRetriever
from nextk.sessions import SearchQuery
from nextk.stores import Source
from nextk.testing import AsyncSourceCompliance, SourceCompliance
from tests.support.llama_index_stores import NODES, STORES, index_over, vector_of
from tests.support.sentence_index import QUESTION

ROWS = 9


@pytest.fixture(scope="module", params=STORES)
def over(request: pytest.FixtureRequest) -> Iterator[VectorStoreIndex]:
    """A `VectorStoreIndex` of a few nodes over each kind of store."""
    with index_over(request.param, NODES[:ROWS]) as index:
        yield index


class Stores:
    """The parts of a suite over each kind of store."""

    @pytest.fixture(autouse=True)
    def search_in(self, over: VectorStoreIndex) -> None:
        """Search in one of the stores."""
        self.index = over

    def source(self) -> Source:
        """Return a source over the store."""
        source = ResumableRetriever.from_index(self.index).source
        assert source is not None
        return source

    def query(self) -> SearchQuery:
        """Return a query with its text and its vector."""
        return SearchQuery(data=QUESTION, vector=vector_of(QUESTION))

    def expected(self) -> Collection[str]:
        """Return the ids of all nodes."""
        return [node.node_id for node in NODES[:ROWS]]


class TestStores(Stores, SourceCompliance):
    """The blocking suite."""


class TestAsyncStores(Stores, AsyncSourceCompliance):
    """The asynchronous suite."""
