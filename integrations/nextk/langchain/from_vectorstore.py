"""What is taken over from LangChain's own Upstash store."""

from typing import Any

from langchain_core.embeddings import Embeddings
from pydantic import SecretStr

from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.errors import ClientError

_BEARER = "Bearer "


def fields_of(store: Any) -> dict[str, Any]:
    """The fields of a retriever over the index of a store, read off its attributes, so that nothing is imported.

    Args:
        store: A `langchain_community.vectorstores.UpstashVectorStore`, or what is made like one.

    Returns:
        Where the index is, who embeds, the namespace, and the text's key.

    Raises:
        ClientError: It is not made like one, or its index does not say where it is.
    """
    try:
        text_key, namespace, embedding = store._text_key, store._namespace, store._embeddings  # noqa: SLF001
    except AttributeError as error:
        message = f"{type(store).__name__} is no UpstashVectorStore: it has no {error.name}"
        raise ClientError(message) from error
    kept = embedding if embedding is True or isinstance(embedding, Embeddings) else None
    return {"text_key": text_key, "namespace": namespace, "embedding": kept, **_place(store)}


def _place(store: Any) -> dict[str, Any]:
    index = getattr(store, "_index", None) or getattr(store, "_async_index", None)
    if isinstance(index, Index | AsyncIndex):
        return {"index": index}
    url, headers = getattr(index, "_url", None), getattr(index, "_headers", None)
    sent = headers.get("Authorization") if isinstance(headers, dict) else None
    if not isinstance(url, str) or not isinstance(sent, str) or not sent.startswith(_BEARER):
        message = (
            f"the index of this {type(store).__name__} does not say where it is, as the Upstash SDK's does: "
            "make ResumableRetriever(url=, token=, embedding=, text_key=, namespace=) yourself"
        )
        raise ClientError(message)
    return {"url": url, "token": SecretStr(sent.removeprefix(_BEARER))}
