"""Reading the settings of a retriever off LangChain's own Upstash store."""

from typing import Any

from langchain_core.embeddings import Embeddings
from pydantic import SecretStr

from nextk.errors import ClientError
from nextk.retrievers.connection import NO_UPSTASH_STORE, location_of


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
        message = f"{type(store).__name__} is no UpstashVectorStore, it has no {error.name}: {NO_UPSTASH_STORE}"
        raise ClientError(message) from error
    index = getattr(store, "_index", None) or getattr(store, "_async_index", None)
    location = location_of(index, type(store).__name__)
    if "token" in location:
        location["token"] = SecretStr(location["token"])
    kept = embedding if embedding is True or isinstance(embedding, Embeddings) else None
    return {"text_key": text_key, "namespace": namespace, "embedding": kept, **location}
