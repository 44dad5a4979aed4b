"""Where else a retriever comes from: the environment, and what LlamaIndex has already."""

from typing import Any, Self

from llama_index.core.indices.vector_store.base import VectorStoreIndex

from nextk.retrievers.connection import location_of


class FromStores:
    """Further ways to make a retriever."""

    @classmethod
    def from_env(cls, **kwargs: Any) -> Self:
        """A retriever over the index that `UPSTASH_VECTOR_REST_URL` and `UPSTASH_VECTOR_REST_TOKEN` name.

        Args:
            **kwargs: Further arguments of the retriever.
        """
        return cls(**kwargs)

    @classmethod
    def from_vector_store(cls, vector_store: Any, **kwargs: Any) -> Self:
        """A retriever over the index of a vector store, by its own connection.

        Args:
            vector_store: LlamaIndex's `UpstashVectorStore`, or what is made like one: with a client of the Upstash SDK
                and a namespace.
            **kwargs: Further arguments of the retriever, above all `embed_model`, which the store does not know.

        Raises:
            ClientError: It is not made like one.
        """
        client = getattr(vector_store, "client", None)
        kwargs.setdefault("namespace", getattr(vector_store, "namespace", ""))
        return cls(**location_of(client, type(vector_store).__name__), **kwargs)

    @classmethod
    def from_index(cls, index: VectorStoreIndex, **kwargs: Any) -> Self:
        """A retriever over the index of a `VectorStoreIndex`, with its model, its objects and its callbacks.

        Args:
            index: Over an `UpstashVectorStore`.
            **kwargs: Further arguments of the retriever.

        Raises:
            ClientError: Its vector store is not an `UpstashVectorStore`.
        """
        kwargs.setdefault("embed_model", index._embed_model)  # noqa: SLF001 - no other way to it
        kwargs.setdefault("object_map", index._object_map)  # noqa: SLF001 - likewise
        kwargs.setdefault("callback_manager", index._callback_manager)  # noqa: SLF001 - likewise
        return cls.from_vector_store(index.vector_store, **kwargs)
