# Generated from async_client_records.py by `python .ci/generate_client.py`. Do not edit: change that file and run it.
"""The calls of the blocking client about records and namespaces: to store, change, read and remove them.

`nextk.async_client_records` has the same calls with `await`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nextk import operations
from nextk.base_client import BaseClient
from nextk.batches import delete_requests, fetch_requests, upsert_requests
from nextk.payloads import Upsertable
from nextk.types import (
    DEFAULT_NAMESPACE,
    DeleteResult,
    DenseLike,
    FetchResult,
    MetadataUpdateMode,
    RangeResult,
    SparseLike,
)


class RecordClient(BaseClient):
    """The half of `nextk.Index` that stores, changes, reads and removes records, and keeps the namespaces."""

    def upsert(
        self, vectors: Iterable[Upsertable], namespace: str = DEFAULT_NAMESPACE, *, show_progress: bool = False
    ) -> str:
        """Store records, and return `"Success"`. A record replaces the one that has its id.

        Args:
            vectors: Any number of records, in a list or in any iterable, such as a generator. They are stored in
                requests of up to 1,000 records and about 32 MiB, each of which is stored whole or not at all. A record
                is a `Vector`, a dict of its fields, or a tuple `(id, vector[, metadata[, data]])`,
                `(id, sparse[, metadata[, data]])` or `(id, vector, sparse[, metadata[, data]])`. An index that embeds
                text also takes `Data` and tuples `(id, text[, metadata])`, but not in one call with vectors. Metadata
                are JSON values with whole numbers of at most 64 bits; numbers and arrays of numpy count as numbers and
                lists.
            namespace: The namespace to write to. It is made if it does not exist.
            show_progress: Whether to show a progress bar on stderr, which needs `pip install 'nextk[local]'`.

        Raises:
            ClientError: A value is none of JSON. The message names the record, by its position from 0 and its id, and
                the path of the value.
            RefusedError: The index refuses a record, which the message names in the same way.
            NextKError: A request failed. Its `stored` and a note say how many records the requests before it stored.
        """
        with upsert_requests(vectors, namespace, show_progress=show_progress) as requests:
            for request in requests:
                reply = self._transport.send(request)
        return reply

    def update(
        self,
        id: str,
        vector: DenseLike | None = None,
        data: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        namespace: str = DEFAULT_NAMESPACE,
        metadata_update_mode: MetadataUpdateMode = MetadataUpdateMode.OVERWRITE,
        sparse_vector: SparseLike | None = None,
    ) -> bool:
        """Change the given parts of one record; the other parts stay. Return whether the record exists.

        Args:
            id: The id of the record.
            vector: The new dense vector. On a hybrid index, give it together with `sparse_vector`.
            data: The new text. An index that has models embeds it, unless vectors are given.
            metadata: The new metadata, or a patch to the stored metadata.
            namespace: The namespace of the record.
            metadata_update_mode: `OVERWRITE` replaces the stored metadata; `PATCH` merges into it (RFC 7396).
            sparse_vector: The new sparse vector. On a hybrid index, give it together with `vector`.
        """
        return self._transport.send(
            operations.update(
                namespace,
                id=id,
                vector=vector,
                data=data,
                metadata=metadata,
                metadata_update_mode=metadata_update_mode,
                sparse_vector=sparse_vector,
            )
        )

    def fetch(
        self,
        ids: str | Sequence[str] | None = None,
        include_vectors: bool = False,
        include_metadata: bool = False,
        namespace: str = DEFAULT_NAMESPACE,
        include_data: bool = False,
        prefix: str | None = None,
    ) -> list[FetchResult | None]:
        """Read records by their ids, or those whose ids start with a prefix.

        Args:
            ids: One id, or any number of them, which are read in requests of up to 1,000. Each request sees the records
                as they are at one moment; what is written between two requests is seen by the later one alone.
            include_vectors: Whether the records come with their vectors.
            include_metadata: Whether the records come with their metadata.
            namespace: The namespace to read from.
            include_data: Whether the records come with the text stored in them.
            prefix: How the ids begin; it takes the place of `ids`.

        Returns:
            One entry per id, `None` if there is no such record; or up to 1,000 records whose ids have the prefix.
        """
        fetch = operations.fetch(
            namespace,
            ids=ids,
            prefix=prefix,
            include_vectors=include_vectors,
            include_metadata=include_metadata,
            include_data=include_data,
        )
        with fetch_requests(fetch) as requests:
            return [record for request in requests for record in self._transport.send(request)]

    def range(
        self,
        cursor: str = "",
        limit: int = 1,
        include_vectors: bool = False,
        include_metadata: bool = False,
        namespace: str = DEFAULT_NAMESPACE,
        include_data: bool = False,
        prefix: str | None = None,
    ) -> RangeResult:
        """Read records in insertion order, page by page. Repeat all parameters but `cursor` for every page.

        Args:
            cursor: Where the page begins: `""`, or the `next_cursor` of the page before it.
            limit: The largest number of records on the page, 1 to 1,000.
            include_vectors: Whether the records come with their vectors.
            include_metadata: Whether the records come with their metadata.
            namespace: The namespace to read from.
            include_data: Whether the records come with the text stored in them.
            prefix: How the ids of the records begin; `None` reads all records.

        Returns:
            The records, and the cursor for the next page, which is `""` if there are no more records.
        """
        return self._transport.send(
            operations.range_(
                namespace,
                cursor=cursor,
                limit=limit,
                prefix=prefix,
                include_vectors=include_vectors,
                include_metadata=include_metadata,
                include_data=include_data,
            )
        )

    def delete(
        self,
        ids: str | Sequence[str] | None = None,
        namespace: str = DEFAULT_NAMESPACE,
        prefix: str | None = None,
        filter: str | None = None,
    ) -> DeleteResult:
        """Remove records, and return how many were removed. Give exactly one of `ids`, `prefix` and `filter`.

        Args:
            ids: Any number, in requests of up to 1,000, each whole or not at all. An error's `deleted` says how far.
            namespace: The namespace to remove from.
            prefix: How the ids of the records begin.
            filter: A condition on the metadata, as for `query`.
        """
        with delete_requests(operations.delete(namespace, ids=ids, prefix=prefix, filter=filter)) as requests:
            return DeleteResult(sum([(self._transport.send(request)).deleted for request in requests]))

    def reset(self, namespace: str = DEFAULT_NAMESPACE, all: bool = False) -> str:
        """Remove every record of a namespace, and return `"Success"`. The namespace itself stays.

        Args:
            namespace: The namespace to empty.
            all: Whether to empty all namespaces instead.
        """
        return self._transport.send(operations.reset(namespace, all=all))

    def list_namespaces(self) -> list[str]:
        """Return the names of all namespaces. The default one, `""`, is always among them."""
        return self._transport.send(operations.list_namespaces())

    def delete_namespace(self, namespace: str) -> None:
        """Remove a namespace and its records.

        Args:
            namespace: The name of the namespace. The default one cannot be removed, only `reset`.
        """
        self._transport.send(operations.delete_namespace(namespace))
