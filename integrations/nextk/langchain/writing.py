"""Storing texts and documents in the index that a retriever searches, and making a retriever over texts."""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, TypedDict, Unpack

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from nextk.arguments import id_list
from nextk.batches import in_requests
from nextk.errors import ClientError
from nextk.langchain.documents import listed_ids, listed_metadatas, parts_of, records_of
from nextk.langchain.filters import index_filter
from nextk.langchain.settings import Settings
from nextk.langchain.store_task import StoreTask, text_list
from nextk.retrievers.connection import Connection
from nextk.retrievers.record_text import TEXT_KEYS
from nextk.retrievers.writing import BATCH, open_embedded

_LOCATION_FIELDS = ("index", "source", "url", "token")


class StoreOptions(TypedDict, total=False):
    """The options of storing texts.

    Attributes:
        ids: An id for each text: a text that is not empty, or a whole number, which becomes its digits. Without ids,
            and for each one that is `None`, the id is made of the text and its metadata, so that texts that are equal
            in both are stored once, and storing them again changes nothing. Of several records with one id, the last
            one stays.
        namespace: The namespace to store in; absent: the retriever's own.
        batch_size: The number of records in one request, 1 to 1,000; absent: 250. Each request is stored whole or not
            at all.
        show_progress: Whether to show a progress bar on stderr, which needs `pip install 'nextk[local]'`; absent: no.
    """

    ids: Iterable[str | int | None] | None
    namespace: str | None
    batch_size: int
    show_progress: bool


class Writing(Settings):
    """The part of LangChain's retriever that stores and removes. Its twin in `nextk.llama_index` does so with nodes."""

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[dict[str, Any]] | None = None,
        **options: Unpack[StoreOptions],
    ) -> list[str]:
        """Store texts, so that this retriever finds them.

        The retriever's models make the vectors, and the text goes into the metadata under the first `text_key`, as
        LangChain's own Upstash store writes and reads it. If the index embeds, the text is the record's `data`, and
        with `embedding=True` it goes into the metadata as well, as that store has it then.

        Args:
            texts: The texts to store.
            metadatas: The metadata of each text, as JSON values; numbers and arrays of numpy become numbers and lists,
                and a `datetime` becomes its number of seconds since 1970, which filters can compare; absent: no
                metadata.
            **options: `ids`, `namespace`, `batch_size` and `show_progress`; see `StoreOptions`.

        Returns:
            The id of each text, in order.

        Raises:
            ClientError: If the numbers of texts, metadatas and ids differ, if metadata is not JSON or has a text key of
                its own, or if nobody embeds. Nothing is stored then, and the message names the record by its position
                and its id.
            RefusedError: If a text or metadata is too large. Nothing is stored then.
            NextKError: If a batch was not stored. A note on the exception says how many batches were.
        """
        return StoreTask(self, texts, metadatas, **options).run()

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[dict[str, Any]] | None = None,
        **options: Unpack[StoreOptions],
    ) -> list[str]:
        """Store texts without blocking the event loop; see `add_texts`."""
        # In a thread, because checks and ids of many texts take seconds.
        task = await asyncio.to_thread(StoreTask, self, texts, metadatas, **options)
        return await task.arun()

    def add_documents(self, documents: Iterable[Document], **options: Unpack[StoreOptions]) -> list[str]:
        """Store documents, so that this retriever finds them.

        Args:
            documents: The documents to store. The own id of a document is kept, unless `ids` has one for it.
            **options: `ids`, `namespace`, `batch_size` and `show_progress`; see `StoreOptions`.

        Returns:
            The id of each document, in order.

        Raises:
            ClientError: If the documents cannot be stored, for the same reasons as in `add_texts`. Nothing is stored
                then.
            NextKError: If a batch was not stored. A note on the exception says how many batches were.
        """
        texts, metadatas, ids = parts_of(documents, options.pop("ids", None))
        return self.add_texts(texts, metadatas, ids=ids, **options)  # type: ignore[misc]

    async def aadd_documents(self, documents: Iterable[Document], **options: Unpack[StoreOptions]) -> list[str]:
        """Store documents without blocking the event loop; see `add_documents`."""
        texts, metadatas, ids = parts_of(documents, options.pop("ids", None))
        return await self.aadd_texts(texts, metadatas, ids=ids, **options)  # type: ignore[misc]

    def delete(
        self,
        ids: str | int | Iterable[str | int] | None = None,
        *,
        filter: str | Mapping[str, Any] | None = None,
        namespace: str | None = None,
    ) -> int:
        """Remove records, by their ids or by a filter.

        Args:
            ids: The ids of the records, or a single id. Ids that do not exist are passed over.
            filter: A filter on the metadata of the records, a text or a dict. The retriever's own plays no part.
            namespace: The namespace to remove from; `None` for the retriever's own.

        Returns:
            The number of records that were removed.

        Raises:
            ClientError: If there are neither ids nor a filter, or both.
        """
        namespace = self.namespace if namespace is None else namespace
        index = self._index_connection().index
        return sum(index.delete(namespace=namespace, **part).deleted for part in _delete_requests(ids, filter))

    async def adelete(
        self,
        ids: str | int | Iterable[str | int] | None = None,
        *,
        filter: str | Mapping[str, Any] | None = None,
        namespace: str | None = None,
    ) -> int:
        """Remove records without blocking the event loop; see `delete`."""
        namespace = self.namespace if namespace is None else namespace
        index = self._index_connection().async_index
        return sum(
            [(await index.delete(namespace=namespace, **part)).deleted for part in _delete_requests(ids, filter)]
        )

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | Callable[[list[str]], Any] | str | None = None,
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Iterable[str | int | None] | None = None,
        path: str | os.PathLike[str] | None = None,
        sparse_embedding: Any = None,
        same_model: bool = False,
        batch_size: int = BATCH,
        show_progress: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Make a retriever over texts, in a hybrid index in this process. Needs `pip install 'nextk[local]'`.

        The index owns the models and embeds by itself. The retriever owns the index: close it by `close()` or `with`.

        Args:
            texts: The texts to store.
            embedding: The dense model: a LangChain `Embeddings`, or anything that `Index.embedded` takes; absent:
                `"static"`, which needs no download.
            metadatas: The metadata of each text, as JSON values; absent: no metadata.
            ids: An id for each text; absent, or `None` for one of them: made of the text and its metadata.
            path: The file of the index, which is created or added to; absent: the index is in memory. In a file no
                metadata may have the keys of `text_key`, where whoever opens it again looks for the text.
            sparse_embedding: The sparse model, as `Index.embedded` takes it; absent: `"bm25"`, with
                `weighting="idf"`, because BM25 is incomplete without it. The index remembers its first weighting.
            same_model: Whether models other than those that an existing index was made with make the same vectors
                nevertheless, as for `Index.embedded`.
            batch_size: The number of records in one request, 1 to 1,000.
            show_progress: Whether to show a progress bar on stderr.
            **kwargs: Further arguments of the retriever. The texts are stored in its `namespace`.

        Raises:
            ClientError: If the numbers of texts, metadatas and ids differ, if metadata is not JSON, or if an index is
                given.
            MissingExtraError: If the engine is not installed.
        """
        texts, ids = text_list(texts), None if ids is None else listed_ids(ids)
        metadatas = None if metadatas is None else listed_metadatas(metadatas)
        kwargs = _with_text_key(path, kwargs)
        records_of(texts, metadatas, ids, _key_list(kwargs))  # checked before an index is made
        retriever = cls._embedded(path, embedding, sparse_embedding, kwargs, same_model=same_model)
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
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Iterable[str | int | None] | None = None,
        path: str | os.PathLike[str] | None = None,
        sparse_embedding: Any = None,
        same_model: bool = False,
        batch_size: int = BATCH,
        show_progress: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Make a retriever over texts without blocking the event loop; see `from_texts`."""
        texts, ids = text_list(texts), None if ids is None else listed_ids(ids)
        metadatas = None if metadatas is None else listed_metadatas(metadatas)
        kwargs = _with_text_key(path, kwargs)
        await asyncio.to_thread(records_of, texts, metadatas, ids, _key_list(kwargs))
        opening = asyncio.create_task(
            asyncio.to_thread(cls._embedded, path, embedding, sparse_embedding, kwargs, same_model=same_model)
        )
        try:
            retriever = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)  # the thread goes on, and nobody else would close what it opens
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
        """Make a retriever over documents, in a hybrid index in this process, as `from_texts` does over texts.

        Args:
            documents: The documents to store. The own id of a document is kept, unless `ids` has one for it.
            embedding: The dense model: a LangChain `Embeddings`, or anything that `Index.embedded` takes; absent:
                `"static"`, which needs no download.
            **kwargs: Further arguments of `from_texts`, and of the retriever.
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
        """Make a retriever over documents without blocking the event loop; see `from_documents`."""
        texts, metadatas, ids = parts_of(documents, kwargs.pop("ids", None))
        return await cls.afrom_texts(texts, embedding, metadatas, ids=ids, **kwargs)

    @classmethod
    def _embedded(
        cls,
        path: str | os.PathLike[str] | None,
        embedding: Any,
        sparse_embedding: Any,
        kwargs: dict[str, Any],
        *,
        same_model: bool,
    ) -> Self:
        """Make a retriever that owns a new or reopened index and its models."""
        if given := [name for name in _LOCATION_FIELDS if name in kwargs]:
            message = (
                f"from_texts makes an index of its own, so {given[0]}= has no place here: to store in one that exists, "
                f"make ResumableRetriever({given[0]}=...) and call its add_texts or add_documents"
            )
            raise ClientError(message)
        index = open_embedded(path, embedding, sparse_embedding, kwargs.get("weighting"), same_model=same_model)
        try:
            retriever = cls(index=index, **kwargs)
            retriever._connection = Connection(index, owned=True)
        except BaseException:
            index.close()
            raise
        return retriever


def _with_text_key(path: object, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a retriever over an index of its own, with the keys where it looks for texts.

    In an index in memory the text is the data, so that all of the metadata is the user's. Whoever opens a file again
    looks for the text where a retriever does by default, so that these keys are not the user's there.
    """
    return {"text_key": () if path is None else TEXT_KEYS, **kwargs}


def _key_list(kwargs: Mapping[str, Any]) -> list[str]:
    key = kwargs["text_key"]
    return [key] if isinstance(key, str) else list(key)


def _delete_requests(
    ids: str | int | Iterable[str | int] | None, filter: str | Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Return the requests that remove the records, each as keywords of `Index.delete`."""
    condition = None if filter is None else index_filter(filter)
    if (ids is None) == (not condition):
        message = "delete() takes ids, or a filter that is not empty: exactly one of the two"
        raise ClientError(message)
    if ids is None:
        return [{"filter": condition}]
    return [{"ids": part} for part in in_requests(id_list(ids))]


def _close(opening: "asyncio.Task[Writing]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
