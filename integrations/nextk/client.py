# Generated from async_client.py by `python .ci/generate_client.py`. Do not edit: change async_client.py and run it.
"""The blocking client: the documented API of Upstash Vector, over a server or an embedded engine.

`nextk.async_client` has the same client with `await`.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nextk import operations
from nextk.base_client import BaseClient
from nextk.batches import delete_requests, fetch_requests, upsert_requests
from nextk.handle import ResumableQueryHandle
from nextk.payloads import Upsertable
from nextk.transport.orphans import orphaned_on_failure
from nextk.types import (
    DEFAULT_NAMESPACE,
    DeleteResult,
    DenseLike,
    FetchResult,
    FusionAlgorithm,
    InfoResult,
    MetadataUpdateMode,
    QueryMode,
    QueryRequest,
    QueryResult,
    RangeResult,
    SparseLike,
    WeightingStrategy,
)

if TYPE_CHECKING:
    from nextk.async_client import AsyncIndex


class Index(BaseClient):
    """A vector index whose calls block until the answer is there. It may be used from several threads.

    Every method raises `RefusedError` if the index refuses, `TransportError` if no usable answer arrives, and
    `ClientError` if a call is one that no index would accept.

    Args:
        url: The REST URL of the index; `None` reads `UPSTASH_VECTOR_REST_URL` from the environment.
        token: The token of the index; `None` reads `UPSTASH_VECTOR_REST_TOKEN` from the environment.
        retries: How often a request may be repeated. The start and the pages of a resumable query are repeated only if
            the server surely did not see them, or numbers pages as `nextk serve` does, so that no page is ever skipped.
        retry_interval: The longest pause before the first repeat, in seconds. The pause has jitter and doubles with
            each repeat, up to a minute. After a 429 or 503 it is at least as long as the server's `Retry-After`.
        allow_telemetry: Accepted because the documented SDK has it. Nothing is ever sent.
        timeout: The seconds that one attempt at a request may take in all, from connecting to the last byte of the
            reply. Large writes over a slow line need more than the default.

    Raises:
        ClientError: There is no URL or no token, the URL or the token cannot be used, or the environment names a proxy
            (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`) or certificates (`SSL_CERT_FILE`, `SSL_CERT_DIR`) that cannot be
            used. The environment is read once, here.
    """

    def to_async(self) -> "AsyncIndex":
        """Return an asynchronous client of the same index, over the same transport: closing either closes both."""
        from nextk.async_client import AsyncIndex

        return AsyncIndex._over(self._transport)

    def close(self) -> None:
        """Close the connections to the server, or the embedded engine. Calling it again does nothing."""
        self._transport.close()

    def backup(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Copy an embedded index, on disk or in memory, into a file that is an index by itself.

        The copy holds every write that had returned before this call. A write that happens meanwhile is in it whole, or
        not at all. The index can be searched and written meanwhile; only an index in memory, and one that is written
        without a pause, lets writes and searches wait for the copy. A copy of its file by other means is whole only
        about a second after the last write.

        Args:
            path: The file to make. Its folder must exist. The file appears when it is whole.
            overwrite: Whether an index that is in the file already is replaced. A file that is no index never is, nor
                is an index that is open.

        Raises:
            ClientError: The index is behind a server; there is a file already; it is the index itself; or the file
                cannot be written. Nothing is left behind.
        """
        self._transport.backup(path, overwrite=overwrite)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

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

    def query(
        self,
        vector: DenseLike | None = None,
        top_k: int = 10,
        include_vectors: bool = False,
        include_metadata: bool = False,
        filter: str = "",
        data: str | None = None,
        namespace: str = DEFAULT_NAMESPACE,
        include_data: bool = False,
        sparse_vector: SparseLike | None = None,
        weighting_strategy: WeightingStrategy | None = None,
        fusion_algorithm: FusionAlgorithm | None = None,
        query_mode: QueryMode | None = None,
    ) -> list[QueryResult]:
        """Find the best matches.

        Args:
            vector: The dense query vector, as long as the dimension of the index.
            top_k: The largest number of matches to return, 1 to 1,000.
            include_vectors: Whether the matches come with their vectors.
            include_metadata: Whether the matches come with their metadata.
            filter: A condition on the metadata, such as `"lang = 'de' AND year > 2020"`; `""` lets every record pass.
            data: The query as text, which the index embeds; it takes the place of both vectors.
            namespace: The namespace to search. One that does not exist has no matches.
            include_data: Whether the matches come with the text stored in them.
            sparse_vector: The sparse query vector: a `SparseVector`, or a pair of lists `(indices, values)`.
            weighting_strategy: `IDF` weights the sparse query by the rarity of its terms; `None` leaves it as it is.
            fusion_algorithm: How a hybrid query joins its dense and its sparse list; `None` means `RRF`.
            query_mode: Which half of a hybrid index answers a query by text; `None` means both.

        Returns:
            The matches, best first. Dense scores lie in 0..1; sparse and fused scores have no fixed range.
        """
        return self._transport.send(
            operations.query(
                namespace,
                vector=vector,
                top_k=top_k,
                include_vectors=include_vectors,
                include_metadata=include_metadata,
                filter=filter,
                data=data,
                include_data=include_data,
                sparse_vector=sparse_vector,
                weighting_strategy=weighting_strategy,
                fusion_algorithm=fusion_algorithm,
                query_mode=query_mode,
            )
        )

    def query_many(
        self, *, queries: Sequence[QueryRequest], namespace: str = DEFAULT_NAMESPACE
    ) -> list[list[QueryResult]]:
        """Run up to 100 queries in one request.

        Args:
            queries: One dict per query, with the parameters of `query` as keys. All are by text, or all by vectors.
            namespace: The namespace to search.

        Returns:
            One list of matches per query, in the order of `queries`.

        Raises:
            ClientError: A query has a key that is no parameter of `query`. `namespace` is one of the call.
        """
        return self._transport.send(operations.query_many(queries, namespace))

    def resumable_query(
        self,
        vector: DenseLike | None = None,
        top_k: int = 10,
        include_vectors: bool = False,
        include_metadata: bool = False,
        filter: str = "",
        data: str | None = None,
        namespace: str = DEFAULT_NAMESPACE,
        include_data: bool = False,
        max_idle: int = 3600,
        sparse_vector: SparseLike | None = None,
        weighting_strategy: WeightingStrategy | None = None,
        fusion_algorithm: FusionAlgorithm | None = None,
        query_mode: QueryMode | None = None,
    ) -> tuple[list[QueryResult], ResumableQueryHandle]:
        """Find the best matches, and keep the search open for more of them.

        Args:
            vector: The dense query vector, as long as the dimension of the index.
            top_k: The largest number of matches on the first page, 1 to 1,000.
            include_vectors: Whether the matches of every page come with their vectors.
            include_metadata: Whether the matches of every page come with their metadata.
            filter: A condition on the metadata, as for `query`; it holds for every page.
            data: The query as text, which the index embeds; it takes the place of both vectors.
            namespace: The namespace to search. One that does not exist has no matches.
            include_data: Whether the matches of every page come with the text stored in them.
            max_idle: The seconds without a fetch after which the server may drop the query.
            sparse_vector: The sparse query vector: a `SparseVector`, or a pair of lists `(indices, values)`.
            weighting_strategy: `IDF` weights the sparse query by the rarity of its terms; `None` leaves it as it is.
            fusion_algorithm: How a hybrid query joins its dense and its sparse list; `None` means `RRF`.
            query_mode: Which half of a hybrid index answers a query by text; `None` means both.

        Returns:
            The first page, and the handle that fetches the next pages and stops the query.

        Raises:
            PageUncertain: The reply was lost. The server may hold a query that no client can name, until it expires.
            TransportError: No usable reply arrived. If the server numbers pages, the next call stops the query.
            TooManyQueries: The index has as many open queries as it allows.
        """
        start = operations.start(
            namespace,
            max_idle=max_idle,
            uuid=self._transport.numbering.new_uuid(),
            vector=vector,
            top_k=top_k,
            include_vectors=include_vectors,
            include_metadata=include_metadata,
            filter=filter,
            data=data,
            include_data=include_data,
            sparse_vector=sparse_vector,
            weighting_strategy=weighting_strategy,
            fusion_algorithm=fusion_algorithm,
            query_mode=query_mode,
        )
        with orphaned_on_failure(self._transport.orphans, start):
            uuid, page = self._transport.send(start)
        return page, ResumableQueryHandle(self._transport, uuid)

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

    def info(self) -> InfoResult:
        """Return the counts, the size in bytes, the dimension, the metric, the models and the namespaces."""
        found = self._transport.send(operations.info())
        self._transport.numbering.note_info(numbered=found.numbered_pages)
        return found

    def list_namespaces(self) -> list[str]:
        """Return the names of all namespaces. The default one, `""`, is always among them."""
        return self._transport.send(operations.list_namespaces())

    def delete_namespace(self, namespace: str) -> None:
        """Remove a namespace and its records.

        Args:
            namespace: The name of the namespace. The default one cannot be removed, only `reset`.
        """
        self._transport.send(operations.delete_namespace(namespace))
