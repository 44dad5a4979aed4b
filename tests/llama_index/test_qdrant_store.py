"""LlamaIndex's retriever over its Qdrant store by exclusion: the store's own nodes."""

from typing import Any

import pytest
from llama_index.core.vector_stores.types import VectorStoreQuery
from llama_index.vector_stores.qdrant import QdrantVectorStore

from nextk.errors import ClientError
from nextk.llama_index import ResumableRetriever, qdrant_source
from nextk.stores import Continuation
from tests.support.llama_index_stores import Digests, node_at, store_of

QUESTION = "how busy is the harbour?"


@pytest.mark.parametrize("kind", ["qdrant", "hybrid"])
async def test_nodes_are_those_of_the_store(kind: str) -> None:
    """All nodes come once, in the order of the store and equal to its own, blocking and not; none is moved twice."""
    with store_of(kind) as store:
        assert isinstance(store, QdrantVectorStore)
        nodes = [node_at(position, f"Note {position * 37}") for position in range(40)]
        for node in nodes:
            node.embedding = Digests().get_text_embedding(node.get_content())
        store.add(list(nodes))
        query = VectorStoreQuery(query_embedding=Digests().get_query_embedding(QUESTION), similarity_top_k=1_000)
        own: list[Any] = list(store.query(query).nodes or [])
        retriever = ResumableRetriever(source=qdrant_source(store), embed_model=Digests())
        with retriever.open(QUESTION) as search:
            found = search.fetch_next(7) + search.fetch_next(1_000)
            assert search.report.continuation is Continuation.EXCLUSION
            assert search.report.refetched == 0
        async with retriever.aopen(QUESTION) as search:
            other = await search.fetch_next(7) + await search.fetch_next(1_000)
        assert [each.node for each in other] == [each.node for each in found]
        assert [each.node.node_id for each in found] == [node.node_id for node in own]
        assert [each.node.get_content() for each in found] == [node.get_content() for node in own]
        assert [each.node.metadata for each in found] == [node.metadata for node in own]


def test_another_store() -> None:
    """Whatever is no Qdrant store is refused, and the message says what it lacks."""
    with store_of("simple") as store, pytest.raises(ClientError, match="no QdrantVectorStore"):
        qdrant_source(store)
