"""One call that stores texts by a LangChain retriever: in batches, with vectors by whoever embeds."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

from langchain_core.embeddings import Embeddings

from nextk.arguments import elements_of
from nextk.errors import ClientError
from nextk.langchain.documents import records_of
from nextk.langchain.settings import Settings
from nextk.plain import record_name
from nextk.retrievers.writing import (
    BATCH,
    aembed_sparsely,
    dense_vector_of,
    embed_sparsely,
    in_batches,
    require_as_many,
    require_room,
)
from nextk.sessions.query import explaining_models
from nextk.types import Data, SparseVector, Vector


class StoreTask:
    """One call that stores texts: all are checked first, then embedded and stored batch by batch.

    Args:
        retriever: The retriever, whose models embed, and whose index stores.
        texts: The texts to store.
        metadatas: The metadata of each text; `None` for no metadata.
        ids: The id of each text; `None` for one that is made of its content.
        namespace: The namespace to store in; `None` for the retriever's own.
        batch_size: The number of records in one request, 1 to 1,000.
        show_progress: Whether to show a progress bar on stderr.

    Raises:
        ClientError, RefusedError: A text cannot be stored; the message names its record.
    """

    def __init__(
        self,
        retriever: Settings,
        texts: Iterable[str],
        metadatas: Iterable[dict[str, Any]] | None,
        *,
        ids: Iterable[str | int | None] | None = None,
        namespace: str | None = None,
        batch_size: int = BATCH,
        show_progress: bool = False,
    ) -> None:
        self._connection, keys = retriever._index_connection(), retriever._text_keys  # noqa: SLF001 - a part of it
        self._dense: Embeddings | Literal[True] | None = retriever.embedding
        self._sparse = retriever.sparse_embedding
        self._key = keys[0] if keys else None
        self._copies_text = self._dense is True  # as LangChain's Upstash store does with embedding=True
        self._namespace = retriever.namespace if namespace is None else namespace
        self._size, self._show = batch_size, show_progress
        records = records_of(text_list(texts), metadatas, ids, reserved=keys)
        if self._key is not None and (self._copies_text or not self._index_embeds):
            for position, record in enumerate(records):
                require_room(record_name(position, record.id), record.data, self._key, record.metadata or {})
        self._records, self._ids = records, [str(record.id) for record in records]

    @property
    def _index_embeds(self) -> bool:
        return not isinstance(self._dense, Embeddings) and self._sparse is None

    def run(self) -> list[str]:
        """Store the texts. Returns the id of each."""
        with in_batches(self._records, self._ids, self._size, show_progress=self._show) as (batches, stored):
            if batches and self._dense is None and self._index_embeds and not self._connection.embeds_text(None):
                raise ClientError(_NO_MODEL)
            for batch in batches:
                rows = self._rows(batch)
                with explaining_models(by_vectors=not self._index_embeds):
                    self._connection.index.upsert(rows, self._namespace)
                stored()
        return self._ids

    async def arun(self) -> list[str]:
        """Store the texts without blocking the event loop. Returns the id of each."""
        with in_batches(self._records, self._ids, self._size, show_progress=self._show) as (batches, stored):
            if batches and self._dense is None and self._index_embeds and not await self._connection.aembeds_text(None):
                raise ClientError(_NO_MODEL)
            for batch in batches:
                rows = await self._arows(batch)
                with explaining_models(by_vectors=not self._index_embeds):
                    await self._connection.async_index.upsert(rows, self._namespace)
                stored()
        return self._ids

    def _rows(self, batch: Sequence[Data]) -> Sequence[Data | Vector]:
        if self._index_embeds:
            return self._texts(batch)
        texts = [record.data for record in batch]
        dense = self._dense.embed_documents(texts) if isinstance(self._dense, Embeddings) else None
        sparse = None if self._sparse is None else embed_sparsely(self._sparse, texts)
        return self._vectors(batch, dense, sparse)

    async def _arows(self, batch: Sequence[Data]) -> Sequence[Data | Vector]:
        if self._index_embeds:
            return self._texts(batch)
        texts = [record.data for record in batch]
        dense = await self._dense.aembed_documents(texts) if isinstance(self._dense, Embeddings) else None
        sparse = None if self._sparse is None else await aembed_sparsely(self._sparse, texts)
        return self._vectors(batch, dense, sparse)

    def _texts(self, batch: Sequence[Data]) -> Sequence[Data]:
        """Return records for an index that embeds."""
        if not self._copies_text:
            return batch
        return [replace(record, metadata=self._metadata_with_text(record)) for record in batch]

    def _metadata_with_text(self, record: Data) -> dict[str, Any]:
        """Return the metadata of a record, with its text if there is a key for it."""
        return {**(record.metadata or {}), **({} if self._key is None else {self._key: record.data})}

    def _vectors(
        self, batch: Sequence[Data], dense: list[list[float]] | None, sparse: list[SparseVector] | None
    ) -> list[Vector]:
        if dense is not None:
            dense = require_as_many(dense, len(batch), "embedding")
        return [
            Vector(
                record.id,
                None if dense is None else dense_vector_of(dense[position], "embedding"),
                self._metadata_with_text(record),
                record.data if self._key is None else None,
                None if sparse is None else sparse[position],
            )
            for position, record in enumerate(batch)
        ]


_NO_MODEL = (
    "this index embeds no text: to store in it, give embedding= (a LangChain Embeddings), sparse_embedding=, or both"
)


def text_list(texts: Iterable[str]) -> list[str]:
    """Return texts as a list.

    Raises:
        ClientError: If it is one text instead of several, or nothing that can be listed.
    """
    if isinstance(texts, str):
        message = "texts is one string, and each of its letters would be a document: give a list"
        raise ClientError(message)
    listed = elements_of(texts)
    if listed is None:
        message = f"texts has to be a list, not {type(texts).__name__}"
        raise ClientError(message)
    return listed
