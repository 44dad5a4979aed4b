"""Vector stores of LlamaIndex that run in this process, and one of our own that notes what it is asked."""

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import chromadb
import faiss
from chromadb.config import Settings as ChromaSettings
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    VectorStoreQuery,
    VectorStoreQueryResult,
)
from llama_index.vector_stores.chroma import ChromaVectorStore
from llama_index.vector_stores.faiss import FaissVectorStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

from tests.support.letter_models import refuse_to_block
from tests.support.sentence_index import TEXTS

DIMENSION = 16


def vector_of(text: str) -> list[float]:
    """Return a vector that looks random, and is the same for the same text in every process, so that no two tie."""
    digest = hashlib.shake_256(text.encode()).digest(2 * DIMENSION)
    return [int.from_bytes(digest[2 * one : 2 * one + 2]) / 32_768 - 1 for one in range(DIMENSION)]


class Digests(BaseEmbedding):
    """A dense model without meaning; its blocking half refuses to block an event loop. It counts the queries."""

    _queries: int = PrivateAttr(default=0)

    def _get_query_embedding(self, query: str) -> list[float]:
        refuse_to_block()
        self._queries += 1
        return vector_of(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        self._queries += 1
        return vector_of(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return vector_of(text)


def node_at(position: int, text: str = "") -> TextNode:
    """Return the node at a position, of one of three documents, with an id that Qdrant takes."""
    made = TextNode(
        id_=str(uuid.UUID(int=position + 1)),
        text=text or TEXTS[position],
        metadata={"place": position, "even": "no" if position % 2 else "yes"},
    )
    made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"d{position % 3}")
    return made


NODES = [node_at(position) for position in range(len(TEXTS))]


class OwnStore(BasePydanticVectorStore):
    """A store of one's own, as short as LlamaIndex allows. It ignores filters, and notes the queries.

    Attributes:
        stores_text: As LlamaIndex wants it.
        flat_metadata: As LlamaIndex wants it.
    """

    stores_text: bool = True
    flat_metadata: bool = False
    _nodes: list[tuple[BaseNode, list[float]]] = PrivateAttr(default_factory=list)
    _asked: list[VectorStoreQuery] = PrivateAttr(default_factory=list)
    _options: list[dict[str, Any]] = PrivateAttr(default_factory=list)
    _change: Callable[[VectorStoreQueryResult], VectorStoreQueryResult] | None = PrivateAttr(default=None)

    @property
    def client(self) -> Any:
        """Return nothing: there is no client."""
        return None

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Keep nodes with their vectors."""
        self._nodes += [(node.model_copy(), node.get_embedding()) for node in nodes]
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **kwargs: Any) -> None:
        """Drop the nodes of a document."""
        self._nodes = [pair for pair in self._nodes if pair[0].ref_doc_id != ref_doc_id]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Return the nearest nodes, whatever the filter."""
        refuse_to_block()
        self._asked.append(query)
        self._options.append(kwargs)
        asked = query.query_embedding or vector_of(query.query_str or "")
        scored = [(sum(a * b for a, b in zip(asked, own, strict=True)), node) for node, own in self._nodes]
        best = sorted(scored, key=lambda pair: -pair[0])[: query.similarity_top_k]
        answer = VectorStoreQueryResult(
            nodes=[node for _, node in best],
            similarities=[score for score, _ in best],
            ids=[node.node_id for _, node in best],
        )
        return answer if self._change is None else self._change(answer)


class RefusingStore(OwnStore):
    """A store that takes no filter, and says so."""

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Return the nearest nodes if there is no filter."""
        if query.filters is not None:
            message = "filters are not supported"
            raise NotImplementedError(message)
        return super().query(query, **kwargs)


class AwaitingStore(OwnStore):
    """A store with an asynchronous half of its own."""

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Return the nearest nodes without blocking the event loop."""
        await asyncio.sleep(0)
        return await asyncio.to_thread(self.query, query, **kwargs)


def words_of(texts: list[str]) -> tuple[list[list[int]], list[list[float]]]:
    """A sparse model for Qdrant: the words of texts, by their first letters and lengths."""
    found = [sorted({100 * ord(word[0]) + len(word) for word in text.lower().split()}) for text in texts]
    return found, [[1.0] * len(indices) for indices in found]


CHROMA_SETTINGS = ChromaSettings(anonymized_telemetry=False)
"""Chroma in memory, without telemetry. All clients with these settings share their collections."""


@contextmanager
def chroma_store() -> Iterator[ChromaVectorStore]:
    """A collection of Chroma in memory."""
    client = chromadb.EphemeralClient(CHROMA_SETTINGS)
    name = f"nodes-{uuid.uuid4()}"
    yield ChromaVectorStore(chroma_collection=client.create_collection(name))
    if name in [collection.name for collection in client.list_collections()]:
        client.delete_collection(name)


@contextmanager
def qdrant_store(*, hybrid: bool = False) -> Iterator[QdrantVectorStore]:
    """A collection of Qdrant in memory."""
    client = QdrantClient(":memory:")
    options: dict[str, Any] = {"sparse_doc_fn": words_of, "sparse_query_fn": words_of} if hybrid else {}
    yield QdrantVectorStore("nodes", client=client, enable_hybrid=hybrid, index_doc_id=False, **options)
    client.close()


STORES = ["simple", "faiss", "chroma", "qdrant", "own"]
"""The kinds of stores over which the same tests run."""


@contextmanager
def store_of(kind: str) -> Iterator[Any]:
    """A store of a kind, empty."""
    if kind == "chroma":
        with chroma_store() as store:
            yield store
    elif kind in ("qdrant", "hybrid"):
        with qdrant_store(hybrid=kind == "hybrid") as store:
            yield store
    elif kind == "faiss":
        yield FaissVectorStore(faiss.IndexFlatL2(DIMENSION))
    else:
        yield SimpleVectorStore() if kind == "simple" else OwnStore()


@contextmanager
def index_over(kind: str, nodes: Sequence[BaseNode] = NODES) -> Iterator[VectorStoreIndex]:
    """A `VectorStoreIndex` of nodes over a store of a kind."""
    with store_of(kind) as store:
        yield index_of(store, nodes)


def index_of(store: Any, nodes: Sequence[BaseNode] = NODES) -> VectorStoreIndex:
    """Return a `VectorStoreIndex` of nodes over a store."""
    context = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex(list(nodes), storage_context=context, embed_model=Digests())
