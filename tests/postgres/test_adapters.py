"""Retrievers of both frameworks, and sessions in pages, over an index on PostgreSQL that embeds text."""

from collections.abc import Iterator
from typing import Any

import pytest

from nextk import Index
from nextk.langchain import ResumableRetriever as LangChainRetriever
from nextk.llama_index import ResumableRetriever as LlamaIndexRetriever
from nextk.types import Data, FusionAlgorithm, QueryMode
from tests.support.postgres_indexes import ids
from tests.support.sentence_index import QUESTION, TEXTS, sentences


@pytest.fixture(scope="module")
def indexes(shared_schema: tuple[str, str]) -> Iterator[tuple[Index, Index]]:
    """The sentences in an embedded index, and in one on PostgreSQL."""
    dsn, schema = shared_schema
    models: dict[str, Any] = {"embedding": "static", "sparse_embedding": "bm25"}
    with sentences(TEXTS) as embedded, Index.postgres(dsn, name="sentences", schema=schema, **models) as index:
        index.upsert([Data(f"t{place}", text, {"place": place}) for place, text in enumerate(TEXTS)])
        yield embedded, index


@pytest.mark.parametrize("mode", list(QueryMode))
@pytest.mark.parametrize("algorithm", list(FusionAlgorithm))
@pytest.mark.parametrize("filter", ["", "place >= 20 AND place < 50"])
def test_the_order_is_that_of_the_embedded_engine(
    indexes: tuple[Index, Index], mode: QueryMode, algorithm: FusionAlgorithm, filter: str
) -> None:
    """A search by text brings the same records in the same order, whichever engine has the index."""
    arguments: dict[str, Any] = {"query_mode": mode, "fusion_algorithm": algorithm, "filter": filter}
    expected, found = (ids(index.query(data=QUESTION, top_k=100, **arguments)) for index in indexes)
    assert expected == found


def test_langchain(indexes: tuple[Index, Index]) -> None:
    """The retriever of LangChain answers, and goes on where it stood."""
    expected, retriever = (LangChainRetriever(index=index) for index in indexes)
    assert expected.invoke(QUESTION) == retriever.invoke(QUESTION)
    with expected.open(QUESTION) as other, retriever.open(QUESTION) as search:
        for size in (3, 1, 20, 100):
            assert other.fetch_next(size) == search.fetch_next(size)
        assert search.exhausted


def test_llama_index(indexes: tuple[Index, Index]) -> None:
    """The retriever of LlamaIndex answers, and goes on where it stood."""
    expected, retriever = (LlamaIndexRetriever(index=index) for index in indexes)
    assert [node.id_ for node in expected.retrieve(QUESTION)] == [node.id_ for node in retriever.retrieve(QUESTION)]
    with retriever.open(QUESTION) as search:
        served = [node.id_ for size in (3, 1, 20, 100) for node in search.fetch_next(size)]
    assert (len(TEXTS), len(TEXTS)) == (len(served), len(set(served)))
