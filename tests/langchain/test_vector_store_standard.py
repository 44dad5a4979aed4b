"""LangChain's own tests of vector stores, over each kind of index and transport."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import pytest
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests
from langchain_tests.integration_tests.vectorstores import EMBEDDING_SIZE

from nextk import Index
from nextk.langchain import ResumableVectorStore
from tests.support.letter_models import Initials
from tests.support.local_server import LocalServer


class Embedded(VectorStoreIntegrationTests):
    """Over an index in this process."""

    schema: ClassVar[dict[str, Any]]
    sparse: Any = None

    @pytest.fixture
    def vectorstore(self) -> Iterator[VectorStore]:
        """An empty store."""
        with Index.embedded(**self.schema) as index:
            yield ResumableVectorStore(index, self.get_embeddings(), sparse_embedding=self.sparse)


class TestDense(Embedded):
    """The caller's model makes dense vectors."""

    schema: ClassVar = {"dimension": EMBEDDING_SIZE, "type": "dense"}


class TestHybrid(Embedded):
    """The caller's models make dense and sparse vectors."""

    schema: ClassVar = {"dimension": EMBEDDING_SIZE, "type": "hybrid"}
    sparse = Initials()


class TestHybridThatEmbeds(VectorStoreIntegrationTests):
    """The index owns both models."""

    @pytest.fixture
    def vectorstore(self) -> Iterator[VectorStore]:
        """An empty store."""
        with ResumableVectorStore.from_texts([], self.get_embeddings()) as store:
            yield store


class TestHybridThatEmbedsOverHttp(VectorStoreIntegrationTests):
    """The index owns both models, and is asked over HTTP."""

    @pytest.fixture
    async def vectorstore(self) -> AsyncIterator[VectorStore]:
        """An empty store, whose connections are closed in the event loop of the test."""
        with LocalServer() as server:
            url = server.add("i", embedding="static", sparse_embedding="bm25")
            with ResumableVectorStore(url=url, token=server.token, embedding=True) as store:
                yield store
                await store.aclose()
