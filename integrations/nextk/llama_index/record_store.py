"""Reading and removing the nodes of an index by their ids, their documents and filters. Private."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import MetadataFilters

from nextk.arguments import id_list, written
from nextk.batches import in_requests
from nextk.bodies import MAX_ID_BYTES, MAX_ROWS
from nextk.errors import ClientError
from nextk.llama_index.filters import NO_DOCUMENT, RecordCheck, check_of, filter_of_document, translate
from nextk.llama_index.nodes import node_of, stored_node_reader
from nextk.retrievers.connection import Connection
from nextk.retrievers.record_text import match_of
from nextk.types import FetchResult


@dataclass(frozen=True, slots=True)
class RecordStore:
    """The records of a namespace, which are read and removed other than by a search.

    Where no filter of the index can say which records are meant, all of them are read, page by page, and checked here.
    Records are removed only after the last page was read, so that none is skipped.

    Attributes:
        connection: The connection to the index.
        namespace: The namespace of the records.
        text_keys: The metadata keys that may hold the text of a record without a node.
    """

    connection: Connection
    namespace: str
    text_keys: Sequence[str]

    def get(self, node_ids: Iterable[str] | None, filters: MetadataFilters | None) -> list[BaseNode]:
        """Return nodes by their ids, by filters, or all nodes; if both are given, both have to hold.

        Args:
            node_ids: The ids; `None` for the nodes of any id.
            filters: The filters, with the meaning that `translate` describes; `None` for no restriction.

        Returns:
            The nodes, in the order of the ids, or else in that of their insertion.
        """
        check = check_of(filters)
        found = self._scan() if node_ids is None else self._fetch(node_ids)
        return self._nodes([record for record in found if check(record.metadata or {}, record.id)])

    async def aget(self, node_ids: Iterable[str] | None, filters: MetadataFilters | None) -> list[BaseNode]:
        """Return nodes without blocking the event loop; see `get`."""
        check = check_of(filters)
        found = self._ascan() if node_ids is None else self._afetch(node_ids)
        return self._nodes([record async for record in found if check(record.metadata or {}, record.id)])

    def delete(self, node_ids: Iterable[str] | None, filters: MetadataFilters | None) -> None:
        """Remove nodes by their ids or by filters; if both are given, both have to hold.

        Raises:
            ClientError: If neither says which nodes are meant.
        """
        check, exact = _deleting(node_ids, filters)
        if node_ids is not None and not check.restricts:
            self._delete_ids(id_list(node_ids))
        elif node_ids is None and exact is not None:
            self.connection.index.delete(filter=exact, namespace=self.namespace)
        else:
            found = self._scan() if node_ids is None else self._fetch(node_ids)
            self._delete_ids(record.id for record in found if check(record.metadata or {}, record.id))

    async def adelete(self, node_ids: Iterable[str] | None, filters: MetadataFilters | None) -> None:
        """Remove nodes without blocking the event loop; see `delete`."""
        check, exact = _deleting(node_ids, filters)
        if node_ids is not None and not check.restricts:
            await self._adelete_ids(id_list(node_ids))
        elif node_ids is None and exact is not None:
            await self.connection.async_index.delete(filter=exact, namespace=self.namespace)
        else:
            found = self._ascan() if node_ids is None else self._afetch(node_ids)
            await self._adelete_ids([record.id async for record in found if check(record.metadata or {}, record.id)])

    def delete_document(self, ref_doc_id: str) -> None:
        """Remove every node of a source document, and the node whose own id it is if that has no source document.

        Args:
            ref_doc_id: The id of the document, which may be any text.

        Raises:
            ClientError: If it is empty, or no text.
        """
        belongs = self._belonging_to(ref_doc_id)
        of_document = filter_of_document(ref_doc_id)
        if of_document is None:
            self._delete_ids(record.id for record in self._scan() if belongs(record))
            return
        self.connection.index.delete(filter=of_document, namespace=self.namespace)
        if _may_be_stored(ref_doc_id):
            self._delete_ids(record.id for record in self._fetch([ref_doc_id]) if belongs(record))

    async def adelete_document(self, ref_doc_id: str) -> None:
        """Remove the nodes of a source document without blocking the event loop; see `delete_document`."""
        belongs = self._belonging_to(ref_doc_id)
        of_document = filter_of_document(ref_doc_id)
        if of_document is None:
            await self._adelete_ids([record.id async for record in self._ascan() if belongs(record)])
            return
        await self.connection.async_index.delete(filter=of_document, namespace=self.namespace)
        if _may_be_stored(ref_doc_id):
            await self._adelete_ids([record.id async for record in self._afetch([ref_doc_id]) if belongs(record)])

    def clear(self) -> None:
        """Remove every record of the namespace."""
        self.connection.index.reset(self.namespace)

    async def aclear(self) -> None:
        """Remove every record of the namespace without blocking the event loop."""
        await self.connection.async_index.reset(self.namespace)

    def _fetch(self, ids: Iterable[str]) -> Iterator[FetchResult]:
        """Yield the records that have one of the ids, in the order of the ids, none twice."""
        for part in _parts(ids):
            found = self.connection.index.fetch(
                part, namespace=self.namespace, include_metadata=True, include_data=True
            )
            yield from (record for record in found if record is not None)

    async def _afetch(self, ids: Iterable[str]) -> AsyncIterator[FetchResult]:
        for part in _parts(ids):
            for record in await self.connection.async_index.fetch(
                part, namespace=self.namespace, include_metadata=True, include_data=True
            ):
                if record is not None:
                    yield record

    def _scan(self) -> Iterator[FetchResult]:
        """Yield every record, in the order of insertion."""
        cursor: str | None = ""
        while cursor is not None:
            page = self.connection.index.range(
                cursor, MAX_ROWS, namespace=self.namespace, include_metadata=True, include_data=True
            )
            yield from page.vectors
            cursor = page.next_cursor or None

    async def _ascan(self) -> AsyncIterator[FetchResult]:
        cursor: str | None = ""
        while cursor is not None:
            page = await self.connection.async_index.range(
                cursor, MAX_ROWS, namespace=self.namespace, include_metadata=True, include_data=True
            )
            for record in page.vectors:
                yield record
            cursor = page.next_cursor or None

    def _delete_ids(self, ids: Iterable[str]) -> None:
        for part in _parts(ids):
            self.connection.index.delete(part, namespace=self.namespace)

    async def _adelete_ids(self, ids: Iterable[str]) -> None:
        for part in _parts(ids):
            await self.connection.async_index.delete(part, namespace=self.namespace)

    def _nodes(self, records: Sequence[FetchResult]) -> list[BaseNode]:
        reader = stored_node_reader(self.text_keys)
        return [found.node for found in reader.read([match_of(record) for record in records])]

    def _belonging_to(self, ref_doc_id: Any) -> Callable[[FetchResult], bool]:
        """Return a function that tells whether a record is a node of a document, or the document itself.

        Raises:
            ClientError: The id is empty, or no text.
        """
        if not isinstance(ref_doc_id, str) or not ref_doc_id:
            message = f"ref_doc_id={written(ref_doc_id)} names no source document: give its id, a text"
            raise ClientError(message)

        def belongs(record: FetchResult) -> bool:
            document = self._document_of(record)
            return document == ref_doc_id or (document is None and record.id == ref_doc_id)

        return belongs

    def _document_of(self, record: FetchResult) -> str | None:
        """Return the id of the source document of a record; `None` if it has none."""
        found = node_of(match_of(record), self.text_keys)
        if found is not None and found.node.ref_doc_id is not None:
            return found.node.ref_doc_id
        stored = (record.metadata or {}).get("ref_doc_id")
        return stored if isinstance(stored, str) and stored != NO_DOCUMENT else None


def _deleting(node_ids: Iterable[str] | None, filters: MetadataFilters | None) -> tuple[RecordCheck, str | None]:
    """Return the check of the filters of a removal, and the filter of the index that says all of them, if one does.

    Raises:
        ClientError: Nothing says which nodes are to be removed.
    """
    translated = translate(filters)
    if node_ids is None and not translated.filter and translated.residual is None:
        message = "delete_nodes() takes node_ids, filters that restrict something, or both: clear() removes every node"
        raise ClientError(message)
    exact = translated.filter if translated.residual is None and translated.filter else None
    return check_of(filters), exact


def _may_be_stored(id: str) -> bool:
    """Return whether an index can hold a record of this id, which a filter can name, so that UTF-8 can express it."""
    return len(id.encode()) <= MAX_ID_BYTES


def _parts(ids: Iterable[str]) -> list[Sequence[str]]:
    """Return ids in lists that one request can name, none twice."""
    return in_requests(list(dict.fromkeys(id_list(ids))))
