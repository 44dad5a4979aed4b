"""Making a retriever over a LangChain vector store: Upstash's own is read as an index, any other as a source."""

from collections.abc import Mapping
from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from pydantic import SecretStr

from nextk.errors import ClientError
from nextk.langchain.index_store import IndexStore
from nextk.langchain.qdrant_store import qdrant_fields
from nextk.langchain.settings import Settings
from nextk.langchain.store_source import VectorStoreSource, require_keywords
from nextk.retrievers.connection import location_of
from nextk.stores import RowKey
from nextk.until import Policy

_UPSTASH = "UpstashVectorStore"


class OverStores(Settings):
    """The part of the retriever that makes one over a vector store."""

    @classmethod
    def from_vectorstore(
        cls,
        store: Any,
        *,
        k: int | None = None,
        search_kwargs: Mapping[str, Any] | None = None,
        until: Policy | None = None,
        key: RowKey | None = None,
        store_id: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Make a retriever over any LangChain `VectorStore`: Chroma, FAISS, Qdrant, one in memory, or one of your own.

        Nothing is copied, and the documents are those that the store returns, unchanged. Such a store cannot go on with
        a search, so a session asks it for more documents each time, and drops those that have come: up to 3 times the
        documents of one call that knew the number beforehand. The store embeds the question for each of these requests.
        Scores are the store's relevance scores; over a store without them, policies of scores are refused.

        Upstash's own store is read as its index, with its model, namespace and text key, and goes on natively. That of
        `langchain_qdrant` goes on by excluding what has come, unless there is a `key` or `search_kwargs`: nothing is
        moved twice, scores are Qdrant's own, and a hybrid search is fused here, by ranks. Those of `langchain_postgres`
        are read as their table, in the same case: a search is a cursor of PostgreSQL, with the store's own filters, and
        scores are similarities. Its connections are closed by `retriever.source.close()`.

        Args:
            store: The store. It stays yours to write to and to close.
            k: The largest number of documents of one call; absent: the `k` of `search_kwargs`, else as for every
                retriever.
            search_kwargs: Further keywords of each search, as in `store.as_retriever(search_kwargs=...)`. Its `filter`
                becomes that of the retriever: a dict, a function or whatever the store takes. Its `fetch_k` fixes how
                many documents a filter of FAISS chooses from; without it, these grow with the search.
            until: A policy of `nextk.until`.
            key: For a store whose documents have no `id`: the metadata key that tells them apart, or a function that
                takes a document and returns what does; absent: their text and metadata.
            store_id: A name for what the store holds, by which cursors are told from those of other stores; absent: the
                class of the store and the name of its collection. FAISS and `InMemoryVectorStore` have no such name, so
                that a cursor of one is taken by another one, unless each has a `store_id`.
            **kwargs: Further arguments of the retriever. Over Upstash's store they win over what the store says.

        Raises:
            ClientError: If it is no such store, if an argument has no place over it, or if `search_kwargs` asks for
                another kind of search, such as MMR.
        """
        rest = require_keywords(search_kwargs)
        fields = {"k": _either("k", k, rest), "filter": _either("filter", kwargs.pop("filter", None), rest)}
        given = {name: value for name, value in {**fields, "until": until}.items() if value is not None}
        if isinstance(store, VectorStore) and not isinstance(store, IndexStore) and not _is_upstash(store):
            own = None if rest or key is not None else _own_fields(store, store_id)
            if own is not None:
                return cls(**{**own, **given, **kwargs})
            source = VectorStoreSource(store, search_kwargs=rest, key=key, store_id=store_id)
            return cls(source=source, **given, **kwargs)
        found = store.retriever_settings() if isinstance(store, IndexStore) else fields_of(store)
        others = {"search_kwargs": rest or None, "key": key, "store_id": store_id}
        if foreign := next((name for name, value in others.items() if value is not None), None):
            message = f"{foreign}= is for other stores: this one is read as an index, so leave it out"
            raise ClientError(message)
        return cls(**{**found, **given, **kwargs})


def fields_of(store: Any) -> dict[str, Any]:
    """Return the fields of a retriever over the index of a store, read off its attributes so that nothing is imported.

    Args:
        store: A `langchain_community.vectorstores.UpstashVectorStore`, or an object with the same attributes.

    Returns:
        The fields that say where the index is and who embeds, the namespace and the text key.

    Raises:
        ClientError: If the store lacks these attributes, or if its index does not say where it is.
    """
    try:
        text_key, namespace, embedding = store._text_key, store._namespace, store._embeddings  # noqa: SLF001
    except AttributeError as error:
        message = f"{type(store).__name__} is no LangChain VectorStore, nor is it like {_UPSTASH}, {_advice(store)}"
        raise ClientError(message) from error
    index = getattr(store, "_index", None) or getattr(store, "_async_index", None)
    location = location_of(index, type(store).__name__)
    if "token" in location:
        location["token"] = SecretStr(location["token"])
    kept = embedding if embedding is True or isinstance(embedding, Embeddings) else None
    return {"text_key": text_key, "namespace": namespace, "embedding": kept, **location}


def _own_fields(store: VectorStore, store_id: str | None) -> dict[str, Any] | None:
    """Return the fields of a retriever over a store that is read otherwise than by its methods; `None` for others."""
    if type(store).__module__.startswith("langchain_postgres."):
        from nextk.langchain.postgres_store import postgres_fields

        return postgres_fields(store, store_id)
    return qdrant_fields(store, store_id)


def _advice(store: Any) -> str:
    """Return how to make a retriever of what is no store, as the end of a message."""
    if isinstance(store, BaseRetriever) and hasattr(store, "vectorstore"):
        return "but a retriever over one: give its vectorstore, and its search_kwargs"
    if isinstance(store, list | tuple) and all(isinstance(each, Document) for each in store):
        return "but documents: give them to ResumableRetriever.from_documents"
    return "with an index: give a store, or implement a Source of nextk.stores and give it as source="


def _is_upstash(store: VectorStore) -> bool:
    return any(kind.__name__ == _UPSTASH for kind in type(store).__mro__)


def _either(name: str, given: Any, search_kwargs: dict[str, Any]) -> Any:
    """Take a setting that may be an argument, or stand in `search_kwargs`.

    Raises:
        ClientError: It is both.
    """
    inner = search_kwargs.pop(name, None)
    if given is not None and inner is not None:
        message = f"{name}= is given, and search_kwargs has {name!r} as well: leave one of them out"
        raise ClientError(message)
    return inner if given is None else given
