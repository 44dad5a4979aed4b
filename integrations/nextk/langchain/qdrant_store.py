"""LangChain's own Qdrant store as a source that goes on by exclusion, known by its attributes alone."""

from typing import Any

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from nextk.sessions import RetrievalMode
from nextk.stores.qdrant import QdrantSource

_ATTRIBUTES = (
    "client",
    "collection_name",
    "retrieval_mode",
    "vector_name",
    "sparse_vector_name",
    "content_payload_key",
    "metadata_payload_key",
    "_embeddings",
    "_sparse_embeddings",
    "_document_from_point",
)


class QdrantStoreSource(QdrantSource):
    """The collection of a `langchain_qdrant.QdrantVectorStore`."""

    def id_of(self, document: Document) -> str | None:
        """Return the id of the point of a document, which the store puts into the metadata; `None` without one."""
        id_ = (document.metadata or {}).get("_id")
        return None if id_ is None else str(id_)


def qdrant_fields(store: VectorStore, store_id: str | None) -> dict[str, Any] | None:
    """Return the fields of a retriever over a `langchain_qdrant.QdrantVectorStore`: its collection, and its models.

    Its points are found by exclusion, and its documents are made by the store's own method. Scores are those of Qdrant.
    A hybrid search is fused by ranks here, so its order differs from that of the store, which depends on `k`.

    Args:
        store: The store.
        store_id: A name for what it holds, for cursors; `None` for that of the collection and its vectors.

    Returns:
        The fields; `None` if it is another store.
    """
    if type(store).__name__ != "QdrantVectorStore" or not all(hasattr(store, name) for name in _ATTRIBUTES):
        return None
    known: Any = store
    mode = RetrievalMode(known.retrieval_mode.value)
    content, metadata = known.content_payload_key, known.metadata_payload_key

    def document_of(point: Any) -> Any:
        return known._document_from_point(point, known.collection_name, content, metadata)  # noqa: SLF001

    source = QdrantStoreSource(
        known.client,
        known.collection_name,
        dense=known.vector_name if mode.dense else None,
        sparse=known.sparse_vector_name if mode.sparse else None,
        text_key=content,
        metadata_key=metadata,
        item_of=document_of,
        store_id=store_id,
    )
    models = {
        "embedding": known._embeddings if mode.dense else None,  # noqa: SLF001
        "sparse_embedding": known._sparse_embeddings if mode.sparse else None,  # noqa: SLF001
    }
    return {"source": source, **{name: model for name, model in models.items() if model is not None}}
