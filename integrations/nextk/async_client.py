"""The asynchronous client: `nextk.client`, with `await`. A test compares the two signature by signature."""

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nextk import operations
from nextk.connect import embedded_transport, http_transport
from nextk.handle import AsyncResumableQueryHandle
from nextk.payloads import Upsertable
from nextk.transport import Transport
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
    from nextk.client import Index


class AsyncIndex:
    """A vector index, by calls that never block the event loop. Safe to use from several loops.

    Every method raises `RefusedError` when the index refuses, `TransportError` when no usable answer arrives, and
    `ClientError` when called in a way that no index would accept.

    Args:
        url: The index's REST URL; absent: the environment's `UPSTASH_VECTOR_REST_URL`.
        token: Its token; absent: the environment's `UPSTASH_VECTOR_REST_TOKEN`.
        retries: How often a request may be repeated. The start and the pages of a resumable query are repeated only if
            the server surely did not see them, so that no page is ever skipped.
        retry_interval: Seconds between two attempts.
        allow_telemetry: Accepted for likeness; nothing is ever sent.
        timeout: Seconds for connecting, sending and waiting for a reply, each.

    Raises:
        ClientError: There is no URL or no token.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        retries: int = 3,
        retry_interval: float = 1.0,
        allow_telemetry: bool = True,  # noqa: ARG002 - the documented parameter
        *,
        timeout: float = 10.0,
    ) -> None:
        self._transport: Transport = http_transport(url, token, retries, retry_interval, timeout)

    @classmethod
    def from_env(cls, retries: int = 3, retry_interval: float = 1.0, allow_telemetry: bool = True) -> Self:
        """The index that `UPSTASH_VECTOR_REST_URL` and `UPSTASH_VECTOR_REST_TOKEN` name."""
        return cls(None, None, retries, retry_interval, allow_telemetry)

    @classmethod
    def embedded(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        type: str | None = None,
        dimension: int | None = None,
        similarity: str | None = None,
        embedding: Any = None,
        sparse_embedding: Any = None,
        fusion_order: str | None = None,
    ) -> Self:
        """Open or make an index in this process. Needs `pip install 'nextk[local]'`.

        An index that exists needs no keywords, except a model of your own; contradicting ones raise.

        Args:
            path: Its file; absent: in memory.
            type: `"hybrid"`, `"dense"` or `"sparse"`; absent: what the models given can fill, hybrid without any.
            dimension: Of the dense vectors; absent: the model's, or that of the first vector.
            similarity: `"cosine"` (if absent), `"euclidean"` or `"dot_product"`.
            embedding: Makes dense vectors of text: `"static"` (256 dimensions, no download), a function from
                `list[str]` to an array (n, dimension), or an object with `embed_documents` and `embed_query`.
            sparse_embedding: Makes sparse vectors of text: `"bm25"`, or the same kinds, giving objects with `indices`
                and `values`.
            fusion_order: `"global"` (if absent): pages of hybrid queries never depend on their sizes; `"batch"`: as
                the hosted service fuses them.

        Raises:
            ClientError: A keyword is unknown or contradicts the stored index; the path is not an index; another process
                holds it.
            MissingExtraError: The engine is not installed.
        """
        keywords = {
            "type": type,
            "dimension": dimension,
            "similarity": similarity,
            "embedding": embedding,
            "sparse_embedding": sparse_embedding,
            "fusion_order": fusion_order,
        }
        return cls._over(embedded_transport(path, keywords))

    @classmethod
    def _over(cls, transport: Transport) -> Self:
        index = cls.__new__(cls)
        index._transport = transport
        return index

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transport!r})"

    def to_sync(self) -> "Index":
        """The asynchronous client of the same index, over the same transport: closing either closes both."""
        from nextk.client import Index

        return Index._over(self._transport)

    async def close(self) -> None:
        """Let go of connections, or of the engine; calling it again does nothing."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def upsert(self, vectors: Sequence[Upsertable], namespace: str = DEFAULT_NAMESPACE) -> str:
        """Store records, whole, replacing those of the same id; all of them or none.

        Args:
            vectors: Up to 1,000 `Vector`s, dicts of their fields, or tuples `(id, vector[, metadata[, data]])`,
                `(id, sparse, ...)`, `(id, vector, sparse, ...)`; or, for an index that embeds text, `Data`s or tuples
                `(id, text[, metadata])`.
            namespace: Made if it does not exist.

        Returns:
            `"Success"`.
        """
        return await self._transport.asend(operations.upsert(vectors, namespace))

    async def query(
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
            vector: Dense, as long as the index's dimension.
            top_k: How many matches at the most, 1 to 1,000.
            include_vectors: Return the vectors of the matches.
            include_metadata: Return their metadata.
            filter: Only records whose metadata passes, as in `"lang = 'de' AND year > 2020"`.
            data: Text that the index embeds, instead of vectors.
            namespace: Where to search; one that does not exist is empty.
            include_data: Return the texts stored with the matches.
            sparse_vector: A `SparseVector` or a pair of lists.
            weighting_strategy: `IDF` weights the sparse query by rarity.
            fusion_algorithm: How a hybrid query joins its two lists; `RRF` if absent.
            query_mode: Which half of a hybrid index answers a text; both if absent.

        Returns:
            Matches, best first. Dense scores lie in 0..1; sparse and fused ones have no fixed range.
        """
        return await self._transport.asend(
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

    async def query_many(
        self, *, queries: Sequence[QueryRequest], namespace: str = DEFAULT_NAMESPACE
    ) -> list[list[QueryResult]]:
        """Ask up to 100 queries in one request.

        Args:
            queries: Dicts of the parameters of `query`; all by text, or all by vectors.
            namespace: Where to search.

        Returns:
            The matches of each query, in order.
        """
        return await self._transport.asend(operations.query_many(queries, namespace))

    async def resumable_query(
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
    ) -> tuple[list[QueryResult], AsyncResumableQueryHandle]:
        """Find the best matches, and keep the search open for more of them.

        Args:
            vector: As for `query`, like all that is not described here.
            top_k: The size of the first page.
            include_vectors: As for `query`; holds for every page.
            include_metadata: Likewise.
            filter: Likewise.
            data: Likewise.
            namespace: Likewise.
            include_data: Likewise.
            max_idle: Seconds without a fetch after which the server may drop the query.
            sparse_vector: Likewise.
            weighting_strategy: Likewise.
            fusion_algorithm: Likewise.
            query_mode: Likewise.

        Returns:
            The first page, and the handle that fetches the next ones and stops the query.

        Raises:
            PageUncertain: The reply was lost. The server may hold a query that nobody can name; it expires.
            TooManyQueries: As many queries are open as the index allows.
        """
        uuid, page = await self._transport.asend(
            operations.start(
                namespace,
                max_idle=max_idle,
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
        return page, AsyncResumableQueryHandle(self._transport, uuid)

    async def update(
        self,
        id: str,
        vector: DenseLike | None = None,
        data: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        namespace: str = DEFAULT_NAMESPACE,
        metadata_update_mode: MetadataUpdateMode = MetadataUpdateMode.OVERWRITE,
        sparse_vector: SparseLike | None = None,
    ) -> bool:
        """Change parts of one record; what is not given stays.

        Args:
            id: The record.
            vector: Its new dense vector; on a hybrid index together with the sparse one.
            data: Its new text, embedded if the index has models and no vectors are given.
            metadata: Its new metadata, or a patch to it.
            namespace: Where it is.
            metadata_update_mode: `PATCH` merges (RFC 7396), `OVERWRITE` replaces.
            sparse_vector: Its new sparse vector.

        Returns:
            Whether the record exists.
        """
        return await self._transport.asend(
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

    async def fetch(
        self,
        ids: str | Sequence[str] | None = None,
        include_vectors: bool = False,
        include_metadata: bool = False,
        namespace: str = DEFAULT_NAMESPACE,
        include_data: bool = False,
        prefix: str | None = None,
    ) -> list[FetchResult | None]:
        """Read records by id, or those whose ids start with a prefix.

        Returns:
            One entry per id, `None` where there is no such record; or up to 1,000 records of the prefix.
        """
        return await self._transport.asend(
            operations.fetch(
                namespace,
                ids=ids,
                prefix=prefix,
                include_vectors=include_vectors,
                include_metadata=include_metadata,
                include_data=include_data,
            )
        )

    async def range(
        self,
        cursor: str = "",
        limit: int = 1,
        include_vectors: bool = False,
        include_metadata: bool = False,
        namespace: str = DEFAULT_NAMESPACE,
        include_data: bool = False,
        prefix: str | None = None,
    ) -> RangeResult:
        """Read records in insertion order, page by page; every parameter is to be repeated for each page.

        Returns:
            Up to `limit` records (1 to 1,000), and the cursor for the next page, `""` once nothing is left.
        """
        return await self._transport.asend(
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

    async def delete(
        self,
        ids: str | Sequence[str] | None = None,
        namespace: str = DEFAULT_NAMESPACE,
        prefix: str | None = None,
        filter: str | None = None,
    ) -> DeleteResult:
        """Remove records by id, by prefix, or by filter: exactly one of the three.

        Returns:
            How many records were there to remove.
        """
        return await self._transport.asend(operations.delete(namespace, ids=ids, prefix=prefix, filter=filter))

    async def reset(self, namespace: str = DEFAULT_NAMESPACE, all: bool = False) -> str:
        """Remove every record of a namespace, or of all of them; namespaces stay.

        Returns:
            `"Success"`.
        """
        return await self._transport.asend(operations.reset(namespace, all=all))

    async def info(self) -> InfoResult:
        """What the index holds: counts, size in bytes, dimension, metric, models, namespaces."""
        return await self._transport.asend(operations.info())

    async def list_namespaces(self) -> list[str]:
        """The names of all namespaces; the default one, `""`, is always among them."""
        return await self._transport.asend(operations.list_namespaces())

    async def delete_namespace(self, namespace: str) -> None:
        """Remove a namespace and its records."""
        await self._transport.asend(operations.delete_namespace(namespace))
