"""What a record is to LangChain: documents of rows, and records of texts."""

from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.documents import Document

from nextk.errors import ClientError
from nextk.retrievers.record_text import RecordText, read_text, read_texts
from nextk.retrievers.writing import content_id
from nextk.types import Data, QueryResult


def documents_of(matches: Sequence[QueryResult], text_keys: Sequence[str], score_key: str | None) -> list[Document]:
    """The documents of the rows that hold a text, in order; as `document_of`."""
    return [_document(match, found, score_key) for match, found in read_texts(matches, text_keys)]


def document_of(match: QueryResult, text_keys: Sequence[str], score_key: str | None) -> Document | None:
    """The document of a row; `None` where it holds no text.

    Args:
        match: With its metadata and its data.
        text_keys: The metadata keys that may hold the text.
        score_key: The metadata key to put the score under; `None`: nowhere.

    Raises:
        ClientError: A record's own metadata has the `score_key`.
    """
    found = read_text(match, text_keys)
    return None if found is None else _document(match, found, score_key)


def text_of(document: Document) -> str:
    """The text that a document adds to a prompt."""
    return document.page_content


def records_of(
    texts: Sequence[str],
    metadatas: Sequence[dict[str, Any]] | None,
    ids: Sequence[str | None] | None,
    reserved: Sequence[str] = (),
) -> list[Data]:
    """The records of texts, each under its id, or one made of its content.

    Args:
        texts: What is to be found.
        metadatas: One for each text, or none at all.
        ids: One for each text, or none at all.
        reserved: Keys that no metadata may have, because there the text is looked for.

    Raises:
        ClientError: The numbers of texts, metadatas and ids differ; a text is none; or metadata is not JSON, or has a
            reserved key.
    """
    metadatas = [{}] * len(texts) if metadatas is None else metadatas
    ids = [None] * len(texts) if ids is None else ids
    if not len(texts) == len(metadatas) == len(ids):
        message = f"{len(texts)} texts, {len(metadatas)} metadatas and {len(ids)} ids: give one for each text"
        raise ClientError(message)
    for text, metadata in zip(texts, metadatas, strict=True):
        if not isinstance(text, str):
            message = f"{text!r} is not a text"
            raise ClientError(message)
        if taken := [key for key in reserved if key in metadata]:
            message = (
                f"metadata has the key {taken[0]!r}, where this retriever looks for the text: "
                "rename it, or set text_key="
            )
            raise ClientError(message)
    made = [content_id(text, metadata) for text, metadata in zip(texts, metadatas, strict=True)]
    return [
        Data(given or by_content, text, metadata)
        for given, by_content, text, metadata in zip(ids, made, texts, metadatas, strict=True)
    ]


def parts_of(
    documents: Iterable[Document], ids: Sequence[str | None] | None
) -> tuple[list[str], list[dict[str, Any]], list[str | None]]:
    """The texts, metadatas and ids of documents; those ids that are given come first.

    Raises:
        ClientError: The numbers of documents and ids differ.
    """
    documents = list(documents)
    given = [None] * len(documents) if ids is None else ids
    if len(given) != len(documents):
        message = f"{len(documents)} documents and {len(given)} ids: give one for each document"
        raise ClientError(message)
    return (
        [document.page_content for document in documents],
        [document.metadata for document in documents],
        [id_ or document.id for id_, document in zip(given, documents, strict=True)],
    )


def _document(match: QueryResult, read_text: RecordText, score_key: str | None) -> Document:
    metadata = read_text.metadata
    if score_key is not None:
        if score_key in metadata:
            message = f"score_key={score_key!r} is a key of record {match.id!r}'s own metadata: choose another"
            raise ClientError(message)
        metadata[score_key] = match.score
    return Document(page_content=read_text.text, metadata=metadata, id=match.id)
