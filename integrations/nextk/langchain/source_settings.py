"""The settings of a LangChain retriever over a source that is no index: which fields it takes, and its documents."""

from collections.abc import Mapping
from typing import Any

from langchain_core.documents import Document

from nextk.arguments import shown, written
from nextk.errors import ClientError
from nextk.langchain.documents import document_of, text_of
from nextk.retrievers.record_text import TEXT_KEYS
from nextk.sessions import RowReader
from nextk.stores import Source, SourceTraits
from nextk.types import QueryResult

_OTHER_PLACE = "a retriever searches one place, an index or a store"
_STORE_EMBEDS = "the store embeds by itself"
_STORE_FUSES = "the store ranks by itself, as it was set up"
_AS_STORED = "documents come as the store holds them"
_INDEX_FIELDS: Mapping[str, tuple[Any, str]] = {
    "index": (None, _OTHER_PLACE),
    "url": (None, _OTHER_PLACE),
    "token": (None, _OTHER_PLACE),
    "namespace": ("", "a store is one collection: make a store, and a retriever, for each"),
    "weighting": (None, _STORE_FUSES),
    "text_key": (TEXT_KEYS, _AS_STORED),
    "document_mapper": (None, f"{_AS_STORED}, and score_key= adds the score"),
}
"""The fields that only an index takes: each with its default, and why there is none."""
_MODE_FIELDS: Mapping[str, tuple[Any, str]] = {
    "embedding": (None, _STORE_EMBEDS),
    "sparse_embedding": (None, _STORE_EMBEDS),
    "retrieval_mode": (None, _STORE_FUSES),
    "fusion": (None, _STORE_FUSES),
}
"""The fields that a source takes as well if it has retrieval modes."""
_ORDER_FIELDS: Mapping[str, tuple[Any, str]] = {"exact": (False, _STORE_FUSES)}
"""The fields that a source takes as well if it can be told to find rows in exact order."""


def require_source(source: object) -> None:
    """Refuse what is no source.

    Raises:
        ClientError: It is none. For a store the message says how to make a retriever of it.
    """
    if not isinstance(source, Source):
        message = (
            f"source={shown(source)} has to be a Source of nextk.stores: a LangChain VectorStore goes into "
            "ResumableRetriever.from_vectorstore(store)"
        )
        raise ClientError(message)


def refuse_index_fields(traits: SourceTraits, fields: Mapping[str, Any]) -> None:
    """Refuse fields of a retriever that only an index takes.

    Args:
        traits: The traits of the source.
        fields: The fields by their names.

    Raises:
        ClientError: One of them differs from its default. The message names it, and says why it has no place.
    """
    refused = {
        **_INDEX_FIELDS,
        **({} if traits.modes else _MODE_FIELDS),
        **({} if traits.exact else _ORDER_FIELDS),
    }
    for name, (default, reason) in refused.items():
        value = fields[name]
        if value is not default and value != default:
            message = f"{name}={shown(value)} is for an index, and this retriever searches a store: {reason}"
            raise ClientError(f"{message}; leave {name}= out")


def is_no_filter(filter: Any) -> bool:
    """Return whether a filter restricts nothing, as `None`, an empty text and an empty dict do."""
    return filter is None or (isinstance(filter, str | Mapping) and not filter)


def store_filter(traits: SourceTraits, filter: Any) -> Any:
    """Return a filter as the source takes it; `None` for one that restricts nothing.

    Args:
        traits: The traits of the source.
        filter: The filter of the caller.

    Raises:
        ClientError: There is a filter, and the source takes none.
    """
    if is_no_filter(filter):
        return None
    if not traits.filters:
        message = (
            f"filter={written(filter)}: this store takes none; leave filter= out, and check the documents by "
            "until=Accepted(n, check) of nextk.until"
        )
        raise ClientError(message)
    return filter


def source_reader(score_key: str | None) -> RowReader[Document]:
    """Return the reader of a source's rows: the store's own documents, as they are; else documents of the rows' text.

    Args:
        score_key: The metadata key under which the score is put, in a copy of the document; `None` to leave it out.
    """
    return RowReader(lambda row: _document_of(row, score_key), text_of)


def _document_of(row: QueryResult, score_key: str | None) -> Document | None:
    document = getattr(row, "item", None)
    if not isinstance(document, Document):
        return document_of(row, (), score_key)
    if score_key is None:
        return document
    metadata = document.metadata or {}
    if score_key in metadata:
        message = f"score_key={score_key!r} is a key of document {row.id!r}'s own metadata: choose another"
        raise ClientError(message)
    return document.model_copy(update={"metadata": {**metadata, score_key: row.score}})
