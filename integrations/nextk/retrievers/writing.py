"""Storing, as both retrievers do it: an embedded index with its models, ids made of content, and batches."""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from nextk.arguments import elements_of, require_count, written
from nextk.batches import REPEATABLE, counting
from nextk.bodies import MAX_DATA_BYTES, MAX_ID_BYTES, MAX_METADATA_BYTES, MAX_ROWS, metadata_fault
from nextk.client import Index
from nextk.connect import embedded_transport
from nextk.errors import ClientError, RefusedError
from nextk.plain import record_name
from nextk.retrievers.sparse_model import sparse_vector_of
from nextk.transport.encoding import write_json
from nextk.types import SparseVector, WeightingStrategy

T = TypeVar("T")

BATCH = 250
"""The default number of records in one request: few enough for a progress bar to move and for small bodies."""


def open_embedded(
    path: str | os.PathLike[str] | None,
    embedding: Any,
    sparse_embedding: Any,
    weighting: WeightingStrategy | str | None,
    *,
    same_model: bool,
) -> Index:
    """Open or create a hybrid index that owns its models, and that remembers the weighting of its retriever.

    Args:
        path: The file of the index; `None` for an index in memory.
        embedding: The dense model, as `Index.embedded` takes it; `None` for `"static"`.
        sparse_embedding: The sparse model, as `Index.embedded` takes it; `None` for `"bm25"`, weighted by
            inverse document frequency, because BM25 is incomplete without it.
        weighting: The weighting that the caller asks for; `None` for that of the index. An index whose weighting is
            unset takes it, as a new one does; one that has a weighting keeps its own, and what is asked for is the wish
            of this retriever alone.
        same_model: Whether another model than the stored one makes the same vectors, as for `Index.embedded`.
    """
    if weighting is None and sparse_embedding is None:
        weighting = WeightingStrategy.IDF
    keywords = {
        "embedding": "static" if embedding is None else embedding,
        "sparse_embedding": "bm25" if sparse_embedding is None else sparse_embedding,
        "default_weighting": weighting,
        "same_model": same_model,
    }
    return Index._over(embedded_transport(path, keywords))  # noqa: SLF001 - a default is no argument of users


@contextmanager
def in_batches(
    records: Sequence[T], ids: Sequence[str], size: int = BATCH, *, show_progress: bool = False
) -> Iterator[tuple[list[Sequence[T]], Callable[[], None]]]:
    """Divide records into batches, and count those that are stored, so that an exception says how far storing came.

    Of several records with one id, only the last is in a batch. An index that refuses a record names it by its position
    within the batch; the error that leaves the block names it by its position in `records`.

    ```python
    with in_batches(records, ids) as (batches, stored):
        for batch in batches:
            index.upsert(batch)
            stored()
    ```

    Args:
        records: All records to store, as the caller gave them.
        ids: The id of each record.
        size: The number of records in one request, 1 to 1,000.
        show_progress: Whether to show a progress bar on stderr, which needs `pip install 'nextk[local]'`.

    Yields:
        The batches, and a function to call after each batch that was stored.

    Raises:
        ClientError: If `size` is out of range.
        MissingExtraError: If the library for the bar is not installed.
    """
    require_batch_size(size)
    kept = list({id_: position for position, id_ in enumerate(ids)}.values())
    records = [records[position] for position in kept]
    batches: list[Sequence[T]] = [records[start : start + size] for start in range(0, len(records), size)]
    done = 0

    def note(rows: int) -> str:
        if not batches:
            return ""
        return (
            f"{done} of {len(batches)} batches are stored ({rows:,} of {len(records):,} records), "
            f"the next one whole or not at all; {REPEATABLE}"
        )

    with counting(len(records), positions=kept, note=note, show_progress=show_progress) as count:

        def stored() -> None:
            nonlocal done
            count(len(batches[done]))
            done += 1

        yield batches, stored


def require_batch_size(size: int) -> None:
    """Require that one request can store so many records.

    Raises:
        ClientError: It is no whole number from 1 to 1,000.
    """
    require_count(size, "batch_size")
    if size > MAX_ROWS:
        message = f"batch_size={written(size)}: one request stores at most {MAX_ROWS:,} records"
        raise ClientError(message)


def listed(given: object, kind: type[T], name: str) -> list[T]:
    """Return a list of the objects that a caller gave to store.

    Args:
        given: The objects, in any iterable.
        kind: The class of each.
        name: The plural of the objects' name, for the error, such as `"Documents"`.

    Raises:
        ClientError: If it is one object instead of several, or if one of them is of another class. The message names
            that one by its position.
    """
    objects = None if isinstance(given, kind | str | bytes) else elements_of(given)
    if objects is None:
        message = f"give a list of {name}, not one {type(given).__name__}"
        raise ClientError(message)
    for position, each in enumerate(objects):
        if not isinstance(each, kind):
            message = f"{record_name(position)} is of the type {type(each).__name__}: give a list of {name}"
            raise ClientError(message)
    return objects


def embed_sparsely(model: Any, texts: Sequence[str]) -> list[SparseVector]:
    """Embed documents by a sparse model of the caller's, as `SparseQueryModel` embeds queries.

    Args:
        model: An object with `embed_documents(texts)`, or a function that takes `list[str]`.
        texts: The texts of the documents.

    Returns:
        One sparse vector for each text, in order.

    Raises:
        ClientError: If the model embeds only queries, or if it did not return one sparse vector for each text.
    """
    embed = getattr(model, "embed_documents", None)
    if embed is None and (hasattr(model, "embed_query") or not callable(model)):
        message = "sparse_embedding has no embed_documents(texts): to store documents it needs one"
        raise ClientError(message)
    return _sparse_vectors((embed or model)(list(texts)), len(texts))


async def aembed_sparsely(model: Any, texts: Sequence[str]) -> list[SparseVector]:
    """Embed documents by a sparse model without blocking the event loop; see `embed_sparsely`.

    A model without the coroutine method `aembed_documents` runs in a thread.
    """
    embed_async = getattr(model, "aembed_documents", None)
    if embed_async is None:
        return await asyncio.to_thread(embed_sparsely, model, texts)
    return _sparse_vectors(await embed_async(list(texts)), len(texts))


def require_as_many(given: object, count: int, name: str) -> list[Any]:
    """Return the vectors that a model has made, if there is one for each text.

    Args:
        given: The vectors, in any iterable.
        count: The number of texts.
        name: The argument that has brought the model, for the error.

    Raises:
        ClientError: If they cannot be listed, or if there are more or fewer vectors than texts.
    """
    vectors = None if isinstance(given, str | bytes | Mapping) else elements_of(given)
    if vectors is None:
        message = f"{name} returned {type(given).__name__} where a list of vectors was expected"
        raise ClientError(message)
    if len(vectors) != count:
        message = f"{name} made {len(vectors)} vectors of {count} texts"
        raise ClientError(message)
    return vectors


def dense_vector_of(given: Any, name: str) -> list[float]:
    """Read a dense vector that a model of the caller's has made.

    Args:
        given: The numbers, in any iterable. Whether they are finite is not checked.
        name: The argument that has brought the model, for the error.

    Raises:
        ClientError: If it is no list of numbers.
    """
    try:
        if not isinstance(given, str | bytes | Mapping):
            return list(map(float, given))
    except (TypeError, ValueError, OverflowError):  # refused below
        pass
    message = f"{name} returned {written(given)} where a vector, a list of numbers, was expected"
    raise ClientError(message)


def require_storable(record: str, id_: str, metadata: dict[str, Any], text: str = "") -> None:
    """Require that an index can store a record, before any other record of the same call is sent.

    Args:
        record: The name of the record, for the error; see `nextk.plain.record_name`.
        id_: Its id.
        metadata: Its metadata, as plain values.
        text: The text that is stored as its `data`. Default `""`, for none.

    Raises:
        ClientError: The id or the text has lone surrogates.
        RefusedError: The id, the text or the metadata is larger than an index allows, or the metadata holds a NUL
            character or a whole number beyond 64 bits. The status is 422, as if the index itself had refused it.
    """
    fault = _size_fault("id", id_, MAX_ID_BYTES, record) or _size_fault("text", text, MAX_DATA_BYTES, record)
    fault = fault or metadata_fault(metadata, write_json(metadata))
    if fault is not None:
        message = f"{record}: {fault}"
        raise RefusedError(message, 422)


def require_room(record: str, text: str, key: str, metadata: dict[str, Any]) -> None:
    """Require that metadata, which can be stored by itself, can be stored with the text of its record in it.

    Args:
        record: The name of the record, for the error.
        text: The text.
        key: The key under which the text goes into the metadata.
        metadata: The metadata without the text, as plain values.

    Raises:
        RefusedError: The text is too large for metadata, or holds a NUL character. The message says where it can go.
    """
    whole = {**metadata, key: text}
    encoded = write_json(whole)
    if metadata_fault(whole, encoded) is None:
        return
    if len(encoded) > MAX_METADATA_BYTES:
        fault = (
            f"its text has {len(text.encode()):,} bytes, too many for the metadata, where it is kept under {key!r} and "
            f"at most {MAX_METADATA_BYTES:,} are allowed in all: split it"
        )
    else:
        fault = f"its text holds the NUL character, which metadata, where it is kept under {key!r}, cannot: remove it"
    message = f"{record}: {fault}, or set text_key=(), so that the text is stored as data only"
    raise RefusedError(message, 422)


def _size_fault(name: str, value: str, most: int, record: str) -> str | None:
    """Say whether an id or a text is too large.

    Raises:
        ClientError: It has lone surrogates.
    """
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        message = f"{record}: its {name} has lone surrogates, so UTF-8 cannot express it"
        raise ClientError(message) from error
    return f"its {name} has {size:,} bytes; at most {most:,} are allowed" if size > most else None


def _sparse_vectors(given: Any, count: int) -> list[SparseVector]:
    if isinstance(given, tuple) and len(given) == 2:  # the indices of all texts, the values of all
        parts = [require_as_many(part, count, "sparse_embedding") for part in given]
        given = list(zip(*parts, strict=True))
    return [sparse_vector_of(vector) for vector in require_as_many(given, count, "sparse_embedding")]
