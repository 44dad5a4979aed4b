"""The writing side: an embedded index in one line, stable ids, and batches of an acceptable size, each whole or not."""

import asyncio
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from nextk.arguments import require_count
from nextk.bodies import MAX_ROWS
from nextk.client import Index
from nextk.errors import ClientError
from nextk.extras import require
from nextk.retrievers.sparse_model import sparse_vector_of
from nextk.types import SparseVector

T = TypeVar("T")

BATCH = 250
"""How many records one request stores, unless the caller says otherwise: a bar moves, and bodies stay small."""

_BY_CONTENT = uuid.UUID("8f3c5d1e-6a57-5c0b-9a57-6e65787463b1")  # only has to stay the same


def open_embedded(path: str | os.PathLike[str] | None, embedding: Any, sparse_embedding: Any) -> Index:
    """Open or make a hybrid index that owns its models: those given, else `"static"` and `"bm25"`."""
    return Index.embedded(
        path,
        embedding="static" if embedding is None else embedding,
        sparse_embedding="bm25" if sparse_embedding is None else sparse_embedding,
    )


@contextmanager
def in_batches(
    records: Sequence[T], size: int = BATCH, *, show_progress: bool = False
) -> Iterator[tuple[list[Sequence[T]], Callable[[], None]]]:
    """What to store batch by batch, and whom to tell after each one; an exception in between says how far it came.

    ```python
    with in_batches(records) as (batches, stored):
        for batch in batches:
            index.upsert(batch)
            stored()
    ```

    Args:
        records: All of them.
        size: How many go into one request, 1 to 1,000.
        show_progress: Show a bar on stderr; needs `pip install 'nextk[local]'`.

    Yields:
        The batches, and a function to be called after each.

    Raises:
        ClientError: `size` is out of range.
        MissingExtraError: There is no library to show a bar with.
    """
    require_count(size, "batch_size")
    if size > MAX_ROWS:
        message = f"batch_size={size}: one request stores at most {MAX_ROWS:,} records"
        raise ClientError(message)
    batches = [records[start : start + size] for start in range(0, len(records), size)]
    done = 0
    with ExitStack() as stack:
        advance = stack.enter_context(_bar(len(records))) if show_progress else lambda _: None

        def stored() -> None:
            nonlocal done
            advance(len(batches[done]))
            done += 1

        try:
            yield batches, stored
        except BaseException as error:
            if batches:
                rows = sum(map(len, batches[:done]))
                error.add_note(
                    f"{done} of {len(batches)} batches are stored ({rows:,} of {len(records):,} records), "
                    "the next one whole or not at all; storing everything again is safe, equal ids replace each other"
                )
            raise


def embed_sparsely(model: Any, texts: Sequence[str]) -> list[SparseVector]:
    """Embed documents by a sparse model of the caller's: as `SparseQueryModel` does questions.

    Args:
        model: An object with `embed_documents(texts)`, or a function that takes `list[str]`.
        texts: Of the documents.

    Returns:
        One vector for each text.

    Raises:
        ClientError: The model embeds only questions, or returned something else than one vector for each text.
    """
    embed = getattr(model, "embed_documents", None)
    if embed is None and (hasattr(model, "embed_query") or not callable(model)):
        message = "sparse_embedding has no embed_documents(texts): to store documents it needs one"
        raise ClientError(message)
    return _sparse_vectors((embed or model)(list(texts)), len(texts))


async def aembed_sparsely(model: Any, texts: Sequence[str]) -> list[SparseVector]:
    """The same without blocking the event loop: a model that only blocks goes to a thread."""
    native = getattr(model, "aembed_documents", None)
    if native is None:
        return await asyncio.to_thread(embed_sparsely, model, texts)
    return _sparse_vectors(await native(list(texts)), len(texts))


def require_as_many(vectors: Sequence[T], count: int, name: str) -> Sequence[T]:
    """Refuse vectors that are not one for each text.

    Raises:
        ClientError: There are more or fewer.
    """
    if len(vectors) != count:
        message = f"{name} made {len(vectors)} vectors of {count} texts"
        raise ClientError(message)
    return vectors


def content_id(text: str, metadata: Mapping[str, Any]) -> str:
    """An id that says what a record holds: equal texts with equal metadata are one record, in every process.

    Raises:
        ClientError: The metadata is not JSON.
    """
    try:
        content = json.dumps([text, metadata], sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        message = f"metadata has to be JSON: {error}"
        raise ClientError(message) from error
    return str(uuid.uuid5(_BY_CONTENT, content))


def _sparse_vectors(given: Any, count: int) -> list[SparseVector]:
    if isinstance(given, tuple) and len(given) == 2:  # the indices of all texts, the values of all
        given = list(zip(*given, strict=True))
    return [sparse_vector_of(vector) for vector in require_as_many(list(given), count, "sparse_embedding")]


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    progress = require("rich.progress", extra="local")
    console = require("rich.console", extra="local").Console(stderr=True)
    columns = progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn()
    with progress.Progress(*columns, progress.TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("storing", total=total)
        yield lambda count: bar.advance(task, count)
