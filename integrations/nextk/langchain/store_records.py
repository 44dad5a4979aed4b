"""Adding, reading and removing the documents of a LangChain vector store over an index."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document

from nextk.arguments import id_list, require_id
from nextk.batches import in_requests
from nextk.bodies import MAX_ROWS
from nextk.errors import ClientError
from nextk.langchain.arguments import refuse_unknown
from nextk.langchain.documents import parts_of
from nextk.langchain.index_store import IndexStore
from nextk.retrievers.record_text import match_of
from nextk.retrievers.writing import BATCH
from nextk.types import FetchResult, QueryResult

_ADD = ("ids", "namespace", "batch_size", "show_progress")
_TIME_OF_CALLER = "current_time"
_DELETE = ("ids", "filter", "namespace", "delete_all")


class Records(IndexStore):
    """The part of the vector store that writes and reads records by their ids, as its retriever writes them."""

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Iterable[str | int | None] | None = None,
        namespace: str | None = None,
        batch_size: int = BATCH,
        show_progress: bool = False,
        **unknown: Any,
    ) -> list[str]:
        """Store texts.

        Args:
            texts: The texts to store.
            metadatas: The metadata of each text, as JSON values; numbers and arrays of numpy become numbers and lists,
                and a `datetime` becomes its number of seconds since 1970, which filters can compare, and which
                LangChain's `TimeWeightedVectorStoreRetriever` reads; absent: no metadata.
            ids: An id for each text: a text, or a whole number, which becomes its digits; absent, or `None` for one of
                them: made of the text and its metadata. Of several records with one id, the last one stays.
            namespace: The namespace to store in; `None` for the store's own.
            batch_size: The number of records in one request; more than 1,000 are sent in several. Each request is
                stored whole or not at all.
            show_progress: Whether to show a progress bar on stderr, which needs `pip install 'nextk[local]'`.
            **unknown: No other keyword is taken.

        Returns:
            The id of each text, in order.

        Raises:
            ClientError: If the numbers of texts, metadatas and ids differ, if metadata is not JSON or has a text key of
                its own, or if nobody embeds. Nothing is stored then.
            RefusedError: If a text or metadata is too large. Nothing is stored then.
            NextKError: If a batch was not stored. A note on the exception says how many batches were.
            TypeError: If there is another keyword.
        """
        refuse_unknown("add_texts", unknown, _ADD)
        options = capped({"namespace": namespace, "batch_size": batch_size, "show_progress": show_progress})
        return self._retriever.add_texts(texts, given(metadatas), ids=given(ids), **options)

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Iterable[str | int | None] | None = None,
        namespace: str | None = None,
        batch_size: int = BATCH,
        show_progress: bool = False,
        **unknown: Any,
    ) -> list[str]:
        """Store texts without blocking the event loop; see `add_texts`."""
        refuse_unknown("aadd_texts", unknown, _ADD)
        options = capped({"namespace": namespace, "batch_size": batch_size, "show_progress": show_progress})
        return await self._retriever.aadd_texts(texts, given(metadatas), ids=given(ids), **options)

    def add_documents(self, documents: Iterable[Document], **options: Any) -> list[str]:
        """Store documents, as `add_texts` stores texts.

        Args:
            documents: The documents to store. The own id of a document is kept, unless `ids` has one for it.
            **options: `ids`, `namespace`, `batch_size` and `show_progress`; see `add_texts`. LangChain's
                `TimeWeightedVectorStoreRetriever` hands on its own `current_time`, which is passed over.

        Returns:
            The id of each document, in order.

        Raises:
            ClientError, RefusedError, NextKError, TypeError: For the reasons given at `add_texts`.
        """
        options.pop(_TIME_OF_CALLER, None)
        texts, metadatas, ids = parts_of(documents, options.pop("ids", None))
        return self.add_texts(texts, metadatas, ids=ids, **options)

    async def aadd_documents(self, documents: Iterable[Document], **options: Any) -> list[str]:
        """Store documents without blocking the event loop; see `add_documents`."""
        options.pop(_TIME_OF_CALLER, None)
        texts, metadatas, ids = parts_of(documents, options.pop("ids", None))
        return await self.aadd_texts(texts, metadatas, ids=ids, **options)

    def get_by_ids(self, ids: Sequence[str], /, *, namespace: str | None = None) -> list[Document]:
        """Return documents by their ids.

        Args:
            ids: The ids, any number of them. An id that stands there twice counts once.
            namespace: The namespace to read; `None` for the store's own.

        Returns:
            The documents in the order of the ids. Ids that do not exist are left out, and so are records that hold no
            text, with a warning in the log.
        """
        resolved, found = self._resolve(None, namespace), []
        for part in _parts(ids):
            found += self._connection.index.fetch(
                part, namespace=resolved.template.namespace, include_metadata=True, include_data=True
            )
        return resolved.reader.read(_matches(found))

    async def aget_by_ids(self, ids: Sequence[str], /, *, namespace: str | None = None) -> list[Document]:
        """Return documents by their ids without blocking the event loop; see `get_by_ids`."""
        resolved, found = self._resolve(None, namespace), []
        for part in _parts(ids):
            found += await self._connection.async_index.fetch(
                part, namespace=resolved.template.namespace, include_metadata=True, include_data=True
            )
        return resolved.reader.read(_matches(found))

    def delete(
        self,
        ids: str | int | Iterable[str | int] | None = None,
        *,
        filter: str | Mapping[str, Any] | None = None,
        namespace: str | None = None,
        delete_all: bool = False,
        **unknown: Any,
    ) -> bool:
        """Remove records: by their ids, by a filter, or all of them.

        Args:
            ids: The ids of the records, or a single id. Ids that do not exist are passed over, and an empty list
                removes nothing.
            filter: A filter on the metadata of the records, which is not empty.
            namespace: The namespace to remove from; `None` for the store's own.
            delete_all: Whether to remove every record of the namespace. Unlike in some stores, nothing is removed
                where neither of the three says what.
            **unknown: No other keyword is taken.

        Returns:
            `True`: whatever was named is gone.

        Raises:
            ClientError: If there is not exactly one of ids, a filter and `delete_all=True`.
            TypeError: If there is another keyword.
        """
        refuse_unknown("delete", unknown, _DELETE)
        if _is_all(ids, filter, delete_all):
            self._connection.index.reset(self._resolve(None, namespace).template.namespace)
        else:
            self._retriever.delete(ids, filter=filter, namespace=namespace)
        return True

    async def adelete(
        self,
        ids: str | int | Iterable[str | int] | None = None,
        *,
        filter: str | Mapping[str, Any] | None = None,
        namespace: str | None = None,
        delete_all: bool = False,
        **unknown: Any,
    ) -> bool:
        """Remove records without blocking the event loop; see `delete`."""
        refuse_unknown("adelete", unknown, _DELETE)
        if _is_all(ids, filter, delete_all):
            await self._connection.async_index.reset(self._resolve(None, namespace).template.namespace)
        else:
            await self._retriever.adelete(ids, filter=filter, namespace=namespace)
        return True


def capped(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of storing; LangChain's indexing passes any `batch_size`, and a request has its bound."""
    size = options.get("batch_size")
    return {**options, "batch_size": min(size, MAX_ROWS)} if isinstance(size, int) else options


def given(values: Iterable[Any] | None) -> Iterable[Any] | None:
    """Return an argument that may be left out; an empty list stands for none, as everywhere in LangChain."""
    return None if isinstance(values, list | tuple) and not values else values


def _parts(ids: Sequence[str]) -> list[Sequence[str]]:
    """Return ids without repetitions, in lists that one request can name.

    Raises:
        ClientError: One of them is neither a text nor a whole number, or is empty.
    """
    checked = [require_id(id_, f"ids[{position}]") for position, id_ in enumerate(id_list(ids))]
    return in_requests(list(dict.fromkeys(checked)))


def _matches(records: Iterable[FetchResult | None]) -> list[QueryResult]:
    """Return records as matches, which the reader takes; those that were not found are left out."""
    return [match_of(record) for record in records if record is not None]


def _is_all(ids: object, filter: object, delete_all: object) -> bool:
    """Return whether all records are to be removed.

    Raises:
        ClientError: There is not exactly one of the three.
    """
    if [ids is not None, bool(filter), delete_all is True].count(True) != 1:
        message = "delete() takes ids, a filter that is not empty, or delete_all=True: exactly one of the three"
        raise ClientError(message)
    return delete_all is True
