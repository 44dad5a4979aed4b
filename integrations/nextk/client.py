# Generated from async_client.py by `python .ci/generate_client.py`. Do not edit: change that file and run it.
"""The blocking client: the documented API of Upstash Vector, over a server or an embedded engine.

`nextk.async_client` has the same client with `await`.
"""

import os
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nextk import operations
from nextk.client_records import RecordClient
from nextk.handle import ResumableQueryHandle
from nextk.transport.orphans import orphaned_on_failure
from nextk.types import (
    DEFAULT_NAMESPACE,
    DenseLike,
    FusionAlgorithm,
    InfoResult,
    QueryMode,
    QueryRequest,
    QueryResult,
    SparseLike,
    WeightingStrategy,
)

if TYPE_CHECKING:
    from nextk.async_client import AsyncIndex


class Index(RecordClient):
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
        *,
        exact: bool = False,
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
            exact: Whether the matches come in exact order although the index searches large namespaces approximately,
                so that a few records come a page late. It costs a scan of all vectors. Indexes that are embedded
                or on PostgreSQL and `nextk serve` know it; a server that has not said yet whether it does is asked by
                `info` first.

        Returns:
            The matches, best first. Dense scores lie in 0..1; sparse and fused scores have no fixed range.

        Raises:
            ClientError: `exact` is true, and the server has no exact search, as the hosted service has none.
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
                exact=exact,
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
            ClientError: A query has a key that is no parameter of `query`. `namespace` is one of the call. Or a query
                is to be `exact`, and the server has no exact search.
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
        *,
        exact: bool = False,
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
            exact: Whether the pages come in exact order, as for `query`; their order then never depends on their sizes.

        Returns:
            The first page, and the handle that fetches the next pages and stops the query.

        Raises:
            ClientError: `exact` is true, and the server has no exact search, as the hosted service has none.
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
            exact=exact,
        )
        with orphaned_on_failure(self._transport.orphans, start):
            uuid, page = self._transport.send(start)
        return page, ResumableQueryHandle(self._transport, uuid)

    def info(self) -> InfoResult:
        """Return the counts, the size in bytes, the dimension, the metric, the models and the namespaces."""
        found = self._transport.send(operations.info())
        self._transport.numbering.note_info(numbered=found.numbered_pages)
        return found
