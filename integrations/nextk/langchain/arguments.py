"""Arguments of the LangChain vector store that it does not have, are of another kind, or belong to another method."""

from collections.abc import Mapping
from typing import Any

from langchain_core.embeddings import Embeddings

from nextk.arguments import did_you_mean, shown
from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.errors import ClientError
from nextk.retrievers.foreign_names import LANGCHAIN_STORE


def refuse_unknown(method: str, unknown: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuse keywords that a method of the store does not take; LangChain's signatures let through any.

    Args:
        method: The name of the method.
        unknown: The keywords, by name.
        known: The keywords that the method takes, for the advice.

    Raises:
        TypeError: There is one. The message says which one may be meant.
    """
    for name in unknown:
        hint = did_you_mean(name, known, LANGCHAIN_STORE)
        message = f"{method}() got an unexpected keyword argument {name!r}{hint}"
        raise TypeError(message)


def require_kinds(index: object, embedding: object) -> None:
    """Require that an index and a model are of the kinds that a store takes.

    Raises:
        ClientError: One of them is not. The message says what to give instead.
    """
    if not isinstance(index, Index | AsyncIndex | None):
        message = (
            f"index={shown(index)} has to be an Index or an AsyncIndex of nextk: for an index of the Upstash SDK give "
            "url= and token=, for a file Index.embedded(path)"
        )
        raise ClientError(message)
    if embedding is not None and embedding is not True and not isinstance(embedding, Embeddings):
        message = (
            f"embedding={shown(embedding)} has to be a LangChain Embeddings, or True if the index embeds: any other "
            "model belongs to the index, by Index.embedded(path, embedding=...) or from_texts"
        )
        raise ClientError(message)
