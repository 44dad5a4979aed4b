"""LangChain's own tests of retrievers, over retrievers of vector stores."""

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests

from nextk.langchain import ResumableRetriever
from nextk.langchain.store_source import VectorStoreSource
from nextk.until import Accepted
from tests.support.langchain_stores import QUESTION, opened


def even(documents: list[Document]) -> list[bool]:
    """Permit every second document."""
    return [document.metadata["place"] % 2 == 0 for document in documents]


class OverStore(RetrieversIntegrationTests):
    """LangChain's own tests, over a store."""

    kind = "memory"
    store: VectorStore

    @pytest.fixture(autouse=True)
    def keep_store(self) -> Iterator[None]:
        """Have a store at hand where LangChain asks for parameters."""
        with opened(self.kind) as store:
            type(self).store = store
            yield

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        """The retriever that is tested."""
        return ResumableRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        """The arguments that it is made with."""
        return {"source": VectorStoreSource(self.store)}

    @property
    def retriever_query_example(self) -> str:
        """The question that it is asked."""
        return QUESTION


class TestMemory(OverStore):
    """Over LangChain's store in memory."""


class TestChroma(OverStore):
    """Over Chroma."""

    kind = "chroma"


class TestFaiss(OverStore):
    """Over FAISS."""

    kind = "faiss"


class TestQdrant(OverStore):
    """Over Qdrant, with a policy."""

    kind = "qdrant"

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        """The arguments that it is made with."""
        return {**super().retriever_constructor_params, "until": Accepted(20, even)}
