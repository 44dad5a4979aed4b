"""Making a retriever from the environment, from a vector store of LlamaIndex, or from an index over one."""

from collections.abc import Mapping
from typing import Any, Self

from llama_index.core.indices.vector_store.base import VectorStoreIndex
from llama_index.core.storage.docstore.types import BaseDocumentStore

from nextk.arguments import shown
from nextk.errors import ClientError
from nextk.llama_index.index_embedding import EmbeddedByIndex
from nextk.llama_index.store_source import VectorStoreSource, client_of
from nextk.llama_index.vector_store import ResumableVectorStore
from nextk.retrievers.connection import location_of
from nextk.stores import RowKey


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
    def from_vector_store(
        cls,
        vector_store: Any,
        *,
        docstore: BaseDocumentStore | None = None,
        key: RowKey | None = None,
        store_id: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Make a retriever over a vector store of LlamaIndex, whichever it is. Nothing is copied.

        A `retrieve` without a policy is one query of the store, and returns the nodes of `index.as_retriever()`. Any
        other search goes on by asking the store for more rows, and dropping those that have come. LlamaIndex's
        `UpstashVectorStore` has its searches continued by the index; the retriever then has a connection of its own.

        Args:
            vector_store: The store.
            docstore: The docstore that holds the nodes of a store that holds no text.
            key: The metadata key that holds the id of a node without an id, or a function that takes the node; absent:
                such nodes are told apart by their text and metadata.
            store_id: A text that names the store, for cursors; absent: its class and the name of its collection, index
                or table. Stores in memory have no such name.
            **kwargs: Further arguments of the retriever, above all `embed_model`, which the store does not know. Those
                that `VectorIndexRetriever` has for the query of the store go to the store: `vector_store_query_mode`
                (`"default"`, `"sparse"`, `"text_search"` or `"hybrid"`), `alpha`, `sparse_top_k`, `hybrid_top_k` and
                `vector_store_kwargs`. `scores="ranks"` says that the store's similarities are no nearness.

        Raises:
            ClientError: If it is no vector store, or if it holds no text and there is no docstore; or if an argument is
                one that only an index takes.
        """
        options = {"docstore": docstore, "key": key, "store_id": store_id}
        if isinstance(vector_store, ResumableVectorStore):
            _refuse_options(options)
            return cls(**vector_store.retriever_settings(kwargs))
        location = _location_of(vector_store)
        if location is None:
            made: Any = cls  # the retriever, whose part this class is, has the constructor
            retriever: Self = made(source=_source_of(vector_store, options, kwargs), **kwargs)
            return retriever
        _refuse_options(options)
        kwargs.setdefault("namespace", getattr(vector_store, "namespace", ""))
        return cls(**location, **kwargs)

    @classmethod
    def from_index(cls, index: VectorStoreIndex, **kwargs: Any) -> Self:
        """Make a retriever over a `VectorStoreIndex`, with its vector store, docstore, model, objects and callbacks.

        Args:
            index: The index, over whichever vector store.
            **kwargs: Further arguments of the retriever, and of `from_vector_store`.

        Raises:
            ClientError: If it is no `VectorStoreIndex`, or for the reasons given at `from_vector_store`.
        """
        if not isinstance(index, VectorStoreIndex):
            message = f"index={shown(index)} is no VectorStoreIndex: a vector store goes into from_vector_store(store)"
            raise ClientError(message)
        # LlamaIndex's own retriever reads these attributes, too; there is no public way to them.
        kwargs.setdefault("object_map", index._object_map)  # noqa: SLF001
        kwargs.setdefault("callback_manager", index._callback_manager)  # noqa: SLF001
        model = index._embed_model  # noqa: SLF001
        if isinstance(index.vector_store, ResumableVectorStore):
            _refuse_options({name: kwargs.pop(name, None) for name in _SOURCE_OPTIONS})
            own = None if isinstance(model, EmbeddedByIndex) else model
            return cls(**index.vector_store.retriever_settings(kwargs, own))
        kwargs.setdefault("embed_model", model)
        if _location_of(index.vector_store) is not None:
            return cls.from_vector_store(index.vector_store, **kwargs)
        options: dict[str, Any] = {"docstore": index.docstore}
        if not index.vector_store.stores_text:
            options["node_ids_by_row"] = index.index_struct.nodes_dict  # it grows with the index
        options |= {name: kwargs.pop(name) for name in _SOURCE_OPTIONS if name in kwargs}
        made: Any = cls  # the retriever, whose part this class is, has the constructor
        retriever: Self = made(source=_source_of(index.vector_store, options, kwargs), **kwargs)
        return retriever


def _refuse_options(options: Mapping[str, Any]) -> None:
    """Refuse options of a source, where the index continues the search.

    Raises:
        ClientError: One of them is given.
    """
    for name, given in options.items():
        if given is not None:
            message = f"{name}= is for stores of another kind: this one keeps nodes and their ids itself"
            raise ClientError(message)


_SOURCE_OPTIONS = ("docstore", "key", "store_id")
_STORE_OPTIONS = ("alpha", "sparse_top_k", "hybrid_top_k", "vector_store_kwargs", "scores")


def _source_of(vector_store: Any, options: Mapping[str, Any], kwargs: dict[str, Any]) -> VectorStoreSource:
    """Return a source over a store.

    Args:
        vector_store: The store.
        options: Arguments of the source.
        kwargs: Arguments of the retriever, of which those that belong to the source are taken out.
    """
    taken = {name: kwargs.pop(name) for name in _STORE_OPTIONS if name in kwargs}
    mode = kwargs.get("vector_store_query_mode")
    return VectorStoreSource(vector_store, mode=mode, **options, **taken)


def _location_of(vector_store: Any) -> dict[str, Any] | None:
    """Return where the index of Upstash's store is, as `location_of` does; `None` for any other store."""
    try:
        return location_of(client_of(vector_store), type(vector_store).__name__)
    except ClientError:
        return None
