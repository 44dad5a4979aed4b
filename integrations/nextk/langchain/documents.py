"""Conversion between LangChain's documents and the records of an index: matches to documents, texts to records."""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document

from nextk.arguments import elements_of, require_id, written
from nextk.errors import ClientError
from nextk.plain import plain_metadata, record_name
from nextk.retrievers.record_text import read_text
from nextk.retrievers.writing import listed, require_storable
from nextk.sessions import RowReader
from nextk.stores.rows import content_id
from nextk.types import Data, QueryResult


def document_reader(
    text_keys: Sequence[str],
    score_key: str | None,
    document_mapper: Callable[[QueryResult], Document | None] | None,
) -> RowReader[Document]:
    """Return the reader that makes matches into documents.

    Args:
        text_keys: The metadata keys that may hold the text.
        score_key: The metadata key under which the score is put; `None` to leave it out.
        document_mapper: The user's own conversion, used instead of the two others; `None` for the usual one.

    Raises:
        ClientError: If there are both a `document_mapper` and a `score_key`.
    """
    if document_mapper is None:
        return RowReader(lambda match: document_of(match, text_keys, score_key), text_of, text_keys)
    if score_key is not None:
        message = "document_mapper= makes the whole document, the score in it as well: leave out score_key="
        raise ClientError(message)
    return RowReader(document_mapper, text_of, None)  # what a mapper leaves out, it leaves out on purpose


def document_of(match: QueryResult, text_keys: Sequence[str], score_key: str | None) -> Document | None:
    """Convert a match into a document.

    Args:
        match: The match, with its metadata and its data.
        text_keys: The metadata keys that may hold the text.
        score_key: The metadata key under which the score is put; `None` to leave it out.

    Returns:
        The document, or `None` if the record holds no text.

    Raises:
        ClientError: If the record's own metadata has the `score_key`.
    """
    found = read_text(match, text_keys)
    if found is None:
        return None
    if score_key is not None:
        if score_key in found.metadata:
            message = f"score_key={score_key!r} is a key of record {match.id!r}'s own metadata: choose another"
            raise ClientError(message)
        found.metadata[score_key] = match.score
    return Document(page_content=found.text, metadata=found.metadata, id=match.id)


def text_of(document: Document) -> str:
    """Return the text that a document adds to a prompt."""
    return document.page_content


def records_of(
    texts: Sequence[str],
    metadatas: Iterable[dict[str, Any]] | None,
    ids: Iterable[str | int | None] | None,
    reserved: Sequence[str] = (),
) -> list[Data]:
    """Make records of texts, each under its given id or, without one, under an id made of its content.

    Args:
        texts: The texts to store.
        metadatas: The metadata of each text; `None` for no metadata.
        ids: The id of each text, a text or a whole number; `None` for one that is made of the content; or `None` for no
            ids at all.
        reserved: The metadata keys that may not be used, because the retriever looks for the text there.

    Returns:
        One record for each text, in order.

    Raises:
        ClientError: If the numbers of texts, metadatas and ids differ, or if a text is not a string, an id is empty or
            of another kind, or metadata is not JSON or has a reserved key. The message names the record.
        RefusedError: If a text, an id or metadata is one that no index stores.
    """
    metadatas = [{}] * len(texts) if metadatas is None else listed_metadatas(metadatas)
    given = [None] * len(texts) if ids is None else listed_ids(ids)
    if not len(texts) == len(metadatas) == len(given):
        message = f"{len(texts)} texts, {len(metadatas)} metadatas and {len(given)} ids: give one for each text"
        raise ClientError(message)
    return [
        _record(record_name(position, id_), text, metadata, id_, reserved)
        for position, (text, metadata, id_) in enumerate(zip(texts, metadatas, given, strict=True))
    ]


def _record(name: str, text: object, metadata: object, id_: str | None, reserved: Sequence[str]) -> Data:
    """Make the record of one text, whose name in errors is given."""
    if not isinstance(text, str):
        message = f"{name}: its text is {written(text)}, and has to be a string"
        raise ClientError(message)
    made = plain_metadata(_with_timestamps(metadata), name)
    if taken := [key for key in reserved if key in made]:
        message = (
            f"{name}: metadata has the key {taken[0]!r}, where the text is looked for: rename it, or set text_key="
        )
        raise ClientError(message)
    require_storable(name, id_ or "", made, text)
    return Data(content_id(text, made) if id_ is None else id_, text, made)


def _with_timestamps(metadata: object) -> object:
    """Return metadata in which every `datetime` is its number of seconds since 1970, as LangChain's retrievers read it.

    One that has no such number, and what is nested too deeply, stays as it is, to be refused by its name.
    """
    try:
        return _timestamps(metadata)
    except RecursionError:
        return metadata


def _timestamps(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timestamps(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_timestamps(part) for part in value]
    return timestamp(value) if isinstance(value, dt.datetime) else value


def timestamp(moment: dt.datetime) -> float | dt.datetime:
    """Return the number of seconds since 1970 as which a moment is stored; the moment itself if it has none."""
    try:
        return moment.timestamp()
    except (OverflowError, ValueError):  # the first day and the last one of the calendar, in some time zones
        return moment


def listed_ids(ids: Iterable[str | int | None]) -> list[str | None]:
    """Return the ids of texts as a list of texts.

    Args:
        ids: The ids, one for each text, in any iterable. `None` stays `None`; a whole number becomes its digits.

    Raises:
        ClientError: If it is one text instead of several ids, or if an id is empty or of another kind. The message says
            at which position the id stands.
    """
    given = None if isinstance(ids, str | bytes) else elements_of(ids)
    if given is None:
        message = f"ids={written(ids)} has to be a list, with one id for each text"
        raise ClientError(message)
    return [None if id_ is None else require_id(id_, f"ids[{position}]") for position, id_ in enumerate(given)]


def listed_metadatas(metadatas: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the metadata of texts as a list. What is in it is not checked.

    Raises:
        ClientError: If it is one dict instead of several, or nothing that can be listed.
    """
    given = None if isinstance(metadatas, str | bytes | Mapping) else elements_of(metadatas)
    if given is None:
        message = f"metadatas={written(metadatas)} has to be a list, with one dict for each text"
        raise ClientError(message)
    return given


def parts_of(
    documents: Iterable[Document], ids: Iterable[str | int | None] | None
) -> tuple[list[str], list[dict[str, Any]], list[str | None]]:
    """Take documents apart into their texts, metadatas and ids.

    Args:
        documents: The documents.
        ids: An id for each document, which wins over the document's own; `None`, also for a single one, for none.

    Returns:
        The texts, the metadatas and the ids, each as long as the documents; an id may be `None`.

    Raises:
        ClientError: If one of the documents is no `Document`, if there is one document in the place of several, if the
            numbers of documents and ids differ, or if an id is empty or of another kind.
    """
    documents = listed(documents, Document, "Documents")
    given = [None] * len(documents) if ids is None else listed_ids(ids)
    if len(given) != len(documents):
        message = f"{len(documents)} documents and {len(given)} ids: give one for each document"
        raise ClientError(message)
    return (
        [document.page_content for document in documents],
        [document.metadata for document in documents],
        [document.id if id_ is None else id_ for id_, document in zip(given, documents, strict=True)],
    )
