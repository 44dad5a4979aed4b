"""What a record is to LangChain: documents of rows, and records of texts."""

from collections.abc import Sequence
from typing import Any

from langchain_core.documents import Document

from nextk.errors import ClientError
from nextk.retrieval.building import content_id
from nextk.retrieval.rows import Passage, passage, passages
from nextk.types import Data, QueryResult


def documents_of(matches: Sequence[QueryResult], text_keys: Sequence[str], score_key: str | None) -> list[Document]:
    """The documents of the rows that hold a text, in order; as `document_of`."""
    return [_document(match, found, score_key) for match, found in passages(matches, text_keys)]


def document_of(match: QueryResult, text_keys: Sequence[str], score_key: str | None) -> Document | None:
    """The document of a row; `None` where it holds no text.

    Args:
        match: With its metadata and its data.
        text_keys: The metadata keys that may hold the text.
        score_key: The metadata key to put the score under; `None`: nowhere.

    Raises:
        ClientError: A record's own metadata has the `score_key`.
    """
    found = passage(match, text_keys)
    return None if found is None else _document(match, found, score_key)


def text_of(document: Document) -> str:
    """The text that a document adds to a prompt."""
    return document.page_content


def records_of(
    texts: Sequence[str], metadatas: Sequence[dict[str, Any]] | None, ids: Sequence[str | None] | None
) -> list[Data]:
    """The records of texts, each under its id, or one made of its content.

    Args:
        texts: What is to be found.
        metadatas: One for each text, or none at all.
        ids: One for each text, or none at all.

    Raises:
        ClientError: The numbers of texts, metadatas and ids differ, or metadata is not JSON.
    """
    if isinstance(texts, str):
        message = "texts is one string, and each of its letters would be a document: give a list"
        raise ClientError(message)
    metadatas = [{}] * len(texts) if metadatas is None else metadatas
    ids = [None] * len(texts) if ids is None else ids
    if not len(texts) == len(metadatas) == len(ids):
        message = f"{len(texts)} texts, {len(metadatas)} metadatas and {len(ids)} ids: give one for each text"
        raise ClientError(message)
    return [
        Data(id_ or content_id(text, metadata), text, metadata)
        for text, metadata, id_ in zip(texts, metadatas, ids, strict=True)
    ]


def _document(match: QueryResult, passage: Passage, score_key: str | None) -> Document:
    metadata = passage.metadata
    if score_key is not None:
        if score_key in metadata:
            message = f"score_key={score_key!r} is a key of record {match.id!r}'s own metadata: choose another"
            raise ClientError(message)
        metadata[score_key] = match.score
    return Document(page_content=passage.text, metadata=metadata, id=match.id)
