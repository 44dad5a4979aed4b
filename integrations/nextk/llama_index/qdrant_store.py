"""LlamaIndex's own Qdrant store as a source that goes on by exclusion, known by its attributes alone."""

from typing import Any

from nextk.arguments import shown
from nextk.errors import ClientError
from nextk.stores.qdrant import QdrantSource

_ATTRIBUTES = ("client", "collection_name", "dense_vector_name", "enable_hybrid", "parse_to_query_result")


def qdrant_source(vector_store: Any, *, store_id: str | None = None) -> QdrantSource:
    """Return a source over the collection of LlamaIndex's Qdrant store, which goes on by excluding what has come.

    ```python
    retriever = ResumableRetriever(source=qdrant_source(store), embed_model=model)
    ```

    `from_vector_store` takes such a store, too, and goes on by fetching rows again. This moves each row once; nodes are
    made by the store's own method, scores are Qdrant's, and a hybrid search, whose sparse model is the retriever's
    `sparse_embedding=`, is fused here, by ranks.

    Args:
        vector_store: A `llama_index.vector_stores.qdrant.QdrantVectorStore`.
        store_id: A name for what the collection holds, for cursors; absent: the names of the collection and of its
            vectors.

    Raises:
        ClientError: It is another store.
    """
    if missing := next((name for name in _ATTRIBUTES if not hasattr(vector_store, name)), None):
        message = f"vector_store={shown(vector_store)} is no QdrantVectorStore of LlamaIndex: it has no {missing}"
        raise ClientError(message)
    return QdrantSource(
        getattr(vector_store, "_client", None),
        vector_store.collection_name,
        async_client=getattr(vector_store, "_aclient", None),
        dense=vector_store.dense_vector_name,
        sparse=vector_store.sparse_vector_name if vector_store.enable_hybrid else None,
        text_key=getattr(vector_store, "text_key", None) or "text",
        metadata_key=None,
        item_of=lambda point: vector_store.parse_to_query_result([point]).nodes[0],
        store_id=store_id,
    )
