"""Making a retriever from the environment, from LlamaIndex's Upstash store, or from an index over it."""

from typing import Any, Self

from llama_index.core.indices.vector_store.base import VectorStoreIndex

from nextk.retrievers.connection import location_of


class FromStores:
    """The part of the retriever that makes one from what the user has already."""

    @classmethod
    def from_env(cls, **kwargs: Any) -> Self:
        """Make a retriever over the index that `UPSTASH_VECTOR_REST_URL` and `UPSTASH_VECTOR_REST_TOKEN` name.

        Args:
            **kwargs: Further arguments of the retriever.
        """
        return cls(**kwargs)

    @classmethod
    def from_vector_store(cls, vector_store: Any, **kwargs: Any) -> Self:
        """Make a retriever over the index of a vector store, with a connection of its own.

        Args:
            vector_store: LlamaIndex's `UpstashVectorStore`, or an object like it with a `client` of the Upstash SDK and
                a `namespace`.
            **kwargs: Further arguments of the retriever, above all `embed_model`, which the store does not know.

        Raises:
            ClientError: If the store has no such client.
        """
        client = getattr(vector_store, "client", None)
        kwargs.setdefault("namespace", getattr(vector_store, "namespace", ""))
        return cls(**location_of(client, type(vector_store).__name__), **kwargs)

    @classmethod
    def from_index(cls, index: VectorStoreIndex, **kwargs: Any) -> Self:
        """Make a retriever over the vector store of a `VectorStoreIndex`, with its model, objects and callbacks.

        Args:
            index: An index over an `UpstashVectorStore`.
            **kwargs: Further arguments of the retriever.

        Raises:
            ClientError: If its vector store is not an `UpstashVectorStore`.
        """
        # LlamaIndex's own retriever reads these attributes, too; there is no public way to them.
        kwargs.setdefault("embed_model", index._embed_model)  # noqa: SLF001
        kwargs.setdefault("object_map", index._object_map)  # noqa: SLF001
        kwargs.setdefault("callback_manager", index._callback_manager)  # noqa: SLF001
        return cls.from_vector_store(index.vector_store, **kwargs)
