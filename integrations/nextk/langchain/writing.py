"""The writing side: texts and documents into the index that a retriever searches, or into one of its own."""

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Self, TypedDict, Unpack

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from nextk.bodies import MAX_ROWS
from nextk.errors import ClientError
from nextk.langchain.documents import parts_of, records_of
from nextk.langchain.settings import Settings
from nextk.retrievers.connection import Connection
from nextk.retrievers.writing import (
    BATCH,
    aembed_sparsely,
    embed_sparsely,
    in_batches,
    open_embedded,
    require_as_many,
)
from nextk.types import Data, SparseVector, Vector

_LOCATION_FIELDS = ("index", "url", "token")


class StoreOptions(TypedDict, total=False):
    """How texts are stored.

    Attributes:
        ids: One for each text. Absent, or where one is `None`: made of the text and its metadata, so that what is equal
            in both is stored once, and storing it again changes nothing.
        namespace: Instead of the retriever's own.
        batch_size: How many records go into one request, 1 to 1,000; absent: 250. Each is stored whole or not at all.
        show_progress: Show a bar on stderr; needs `pip install 'nextk[local]'`.
    """

    ids: Sequence[str | None] | None
    namespace: str | None
    batch_size: int
    show_progress: bool


class Writing(Settings):
    """What stores and removes."""

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[dict[str, Any]] | None = None,
        **options: Unpack[StoreOptions],
    ) -> list[str]:
        """Store texts, so that this retriever finds them.

        Vectors are made by the retriever's models, and the text goes into the metadata under the first `text_key`, as
        LangChain's own Upstash store writes and reads it. Where the index embeds, the text is the record's data.

        Args:
            texts: What is to be found.
            metadatas: One for each text; JSON.
            **options: `ids`, `namespace`, `batch_size` and `show_progress`; see `StoreOptions`.

        Returns:
            The id of each text.

        Raises:
            ClientError: The numbers of texts, metadatas and ids differ, metadata is not JSON or has a text key of its
                own, or nobody embeds. Nothing is stored.
            NextKError: A batch was not stored. A note on the exception says how many were.
        """
        return _StoreTask(self, texts, metadatas, **options).run()

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[dict[str, Any]] | None = None,
        **options: Unpack[StoreOptions],
    ) -> list[str]:
        """The same without blocking the event loop."""
        return await _StoreTask(self, texts, metadatas, **options).arun()

    def add_documents(self, documents: Iterable[Document], **options: Unpack[StoreOptions]) -> list[str]:
        """Store documents, as `add_texts` does; a document's own id is kept, unless `ids` has another."""
        texts, metadatas, ids = parts_of(documents, options.pop("ids", None))
        return self.add_texts(texts, metadatas, ids=ids, **options)  # type: ignore[misc]

    async def aadd_documents(self, documents: Iterable[Document], **options: Unpack[StoreOptions]) -> list[str]:
        """The same without blocking the event loop."""
        texts, metadatas, ids = parts_of(documents, options.pop("ids", None))
        return await self.aadd_texts(texts, metadatas, ids=ids, **options)  # type: ignore[misc]

    def delete(
        self, ids: str | Sequence[str] | None = None, *, filter: str | None = None, namespace: str | None = None
    ) -> int:
        """Remove records, by id or by filter.

        Args:
            ids: Of the records; those that do not exist are passed over.
            filter: On their metadata. The retriever's own filter plays no part.
            namespace: Instead of the retriever's own.

        Returns:
            How many were there to remove.

        Raises:
            ClientError: There are neither ids nor a filter, or both.
        """
        namespace = self.namespace if namespace is None else namespace
        index = self._current_connection().index
        return sum(index.delete(namespace=namespace, **part).deleted for part in _delete_requests(ids, filter))

    async def adelete(
        self, ids: str | Sequence[str] | None = None, *, filter: str | None = None, namespace: str | None = None
    ) -> int:
        """The same without blocking the event loop."""
        namespace = self.namespace if namespace is None else namespace
        index = self._current_connection().async_index
        return sum(
            [(await index.delete(namespace=namespace, **part)).deleted for part in _delete_requests(ids, filter)]
        )

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | Callable[[list[str]], Any] | str | None = None,
        metadatas: Sequence[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        path: str | os.PathLike[str] | None = None,
        sparse_embedding: Any = None,
        batch_size: int = BATCH,
        show_progress: bool = False,
        **kwargs: Any,
    ) -> Self:
        """A retriever over texts, in a hybrid index in this process. Needs `pip install 'nextk[local]'`.

        The index owns the models and embeds by itself. The retriever owns the index: `close()` it, or use `with`.

        Args:
            texts: What is to be found.
            embedding: The dense model: a LangChain `Embeddings`, or whatever `Index.embedded` takes; absent:
                `"static"`, which needs no download.
            metadatas: One for each text; JSON.
            ids: As for `add_texts`.
            path: The index's file, made or added to; absent: in memory.
            sparse_embedding: The sparse model, as `Index.embedded` takes it; absent: `"bm25"`, with
                `weighting="idf"`, without which BM25 is not whole.
            batch_size: As for `add_texts`.
            show_progress: Likewise.
            **kwargs: Further arguments of the retriever. `namespace` is also where the texts are stored.

        Raises:
            ClientError: The numbers of texts, metadatas and ids differ, metadata is not JSON, or an index is given.
            MissingExtraError: The engine is not installed.
        """
        texts = _as_list(texts)
        records_of(texts, metadatas, ids)  # so that nothing is made of what cannot be stored
        retriever = cls._embedded(path, embedding, sparse_embedding, kwargs)
        try:
            retriever.add_texts(texts, metadatas, ids=ids, batch_size=batch_size, show_progress=show_progress)
        except BaseException:
            retriever.close()
            raise
        return retriever

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | Callable[[list[str]], Any] | str | None = None,
        metadatas: Sequence[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        path: str | os.PathLike[str] | None = None,
        sparse_embedding: Any = None,
        batch_size: int = BATCH,
        show_progress: bool = False,
        **kwargs: Any,
    ) -> Self:
        """The same without blocking the event loop."""
        texts = _as_list(texts)
        records_of(texts, metadatas, ids)
        opening = asyncio.create_task(asyncio.to_thread(cls._embedded, path, embedding, sparse_embedding, kwargs))
        try:
            retriever = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)  # the thread goes on, and what it opens is nobody's
            raise
        try:
            await retriever.aadd_texts(texts, metadatas, ids=ids, batch_size=batch_size, show_progress=show_progress)
        except BaseException:
            retriever.close()  # not aclose(): a cancelled scope may not let us wait
            raise
        return retriever

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings | Callable[[list[str]], Any] | str | None = None,
        **kwargs: Any,
    ) -> Self:
        """A retriever over documents, as `from_texts` makes it; a document's own id is kept, unless `ids` has another.

        Args:
            documents: What is to be found.
            embedding: As for `from_texts`.
            **kwargs: Likewise.
        """
        texts, metadatas, ids = parts_of(documents, kwargs.pop("ids", None))
        return cls.from_texts(texts, embedding, metadatas, ids=ids, **kwargs)

    @classmethod
    async def afrom_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings | Callable[[list[str]], Any] | str | None = None,
        **kwargs: Any,
    ) -> Self:
        """The same without blocking the event loop."""
        texts, metadatas, ids = parts_of(documents, kwargs.pop("ids", None))
        return await cls.afrom_texts(texts, embedding, metadatas, ids=ids, **kwargs)

    @classmethod
    def _embedded(
        cls, path: str | os.PathLike[str] | None, embedding: Any, sparse_embedding: Any, kwargs: dict[str, Any]
    ) -> Self:
        """A retriever that owns a new or reopened index, and with it the models."""
        if given := [name for name in _LOCATION_FIELDS if name in kwargs]:
            message = (
                f"from_texts makes an index of its own, so {given[0]}= has no place here: to store in one that exists, "
                f"make ResumableRetriever({given[0]}=...) and call its add_texts or add_documents"
            )
            raise ClientError(message)
        if sparse_embedding is None:
            kwargs.setdefault("weighting", "idf")
        kwargs.setdefault("text_key", ())  # the text is the data, so all of the metadata is the user's
        index = open_embedded(path, embedding, sparse_embedding)
        try:
            retriever = cls(index=index, embedding=True, **kwargs)
            retriever._connection = Connection(index, owned=True)
        except BaseException:
            index.close()
            raise
        return retriever


class _StoreTask:
    """Texts on their way into an index: checked at once, embedded and stored batch by batch."""

    def __init__(
        self,
        retriever: Settings,
        texts: Iterable[str],
        metadatas: Sequence[dict[str, Any]] | None,
        *,
        ids: Sequence[str | None] | None = None,
        namespace: str | None = None,
        batch_size: int = BATCH,
        show_progress: bool = False,
    ) -> None:
        self._connection, keys = retriever._current_connection(), retriever._text_keys  # noqa: SLF001 - half of the same class
        self._dense: Embeddings | Literal[True] | None = retriever.embedding
        self._sparse = retriever.sparse_embedding
        self._key = keys[0] if keys else None
        self._namespace = retriever.namespace if namespace is None else namespace
        self._size, self._show = batch_size, show_progress
        records = records_of(_as_list(texts), metadatas, ids, reserved=keys)
        self._ids = [str(record.id) for record in records]
        self._records = list({str(record.id): record for record in records}.values())  # of one id the last one stays

    @property
    def _index_embeds(self) -> bool:
        return not isinstance(self._dense, Embeddings) and self._sparse is None

    def run(self) -> list[str]:
        """Store them; returns the id of each text."""
        with in_batches(self._records, self._size, show_progress=self._show) as (batches, stored):
            if batches and self._dense is None and self._index_embeds and not self._connection.embeds_text(None):
                raise ClientError(_NO_MODEL)
            for batch in batches:
                self._connection.index.upsert(self._rows(batch), self._namespace)
                stored()
        return self._ids

    async def arun(self) -> list[str]:
        """The same without blocking the event loop."""
        with in_batches(self._records, self._size, show_progress=self._show) as (batches, stored):
            if batches and self._dense is None and self._index_embeds and not await self._connection.aembeds_text(None):
                raise ClientError(_NO_MODEL)
            for batch in batches:
                await self._connection.async_index.upsert(await self._arows(batch), self._namespace)
                stored()
        return self._ids

    def _rows(self, batch: Sequence[Data]) -> Sequence[Data | Vector]:
        if self._index_embeds:
            return batch
        texts = [record.data for record in batch]
        dense = self._dense.embed_documents(texts) if isinstance(self._dense, Embeddings) else None
        sparse = None if self._sparse is None else embed_sparsely(self._sparse, texts)
        return self._vectors(batch, dense, sparse)

    async def _arows(self, batch: Sequence[Data]) -> Sequence[Data | Vector]:
        if self._index_embeds:
            return batch
        texts = [record.data for record in batch]
        dense = await self._dense.aembed_documents(texts) if isinstance(self._dense, Embeddings) else None
        sparse = None if self._sparse is None else await aembed_sparsely(self._sparse, texts)
        return self._vectors(batch, dense, sparse)

    def _vectors(
        self, batch: Sequence[Data], dense: list[list[float]] | None, sparse: list[SparseVector] | None
    ) -> list[Vector]:
        if dense is not None:
            require_as_many(dense, len(batch), "embedding")
        return [
            Vector(
                record.id,
                None if dense is None else list(map(float, dense[position])),
                {**(record.metadata or {}), **({} if self._key is None else {self._key: record.data})},
                record.data if self._key is None else None,
                None if sparse is None else sparse[position],
            )
            for position, record in enumerate(batch)
        ]


_NO_MODEL = (
    "this index embeds no text: to store in it, give the retriever embedding= (a LangChain Embeddings), "
    "sparse_embedding=, or both"
)


def _as_list(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        message = "texts is one string, and each of its letters would be a document: give a list"
        raise ClientError(message)
    return list(texts)


def _delete_requests(ids: str | Sequence[str] | None, filter: str | None) -> list[dict[str, Any]]:
    """The requests that remove what is meant, as keywords of `Index.delete`."""
    if (ids is None) == (not filter):
        message = "delete() takes ids, or a filter that is not empty: exactly one of the two"
        raise ClientError(message)
    if ids is None:
        return [{"filter": filter}]
    listed = [ids] if isinstance(ids, str) else list(ids)
    return [{"ids": listed[start : start + MAX_ROWS]} for start in range(0, len(listed), MAX_ROWS)]


def _close(opening: "asyncio.Task[Writing]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
