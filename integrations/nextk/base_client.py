"""The common part of the blocking and the asynchronous client: opening an index, over a server or in this process."""

import os
from typing import Any, Self

from nextk.connect import embedded_transport, http_transport, postgres_transport
from nextk.transport import Transport


class BaseClient:
    """The base of `nextk.Index` and `nextk.AsyncIndex`, which document the parameters."""

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
        """Connect to the index that `UPSTASH_VECTOR_REST_URL` and `UPSTASH_VECTOR_REST_TOKEN` name.

        Args:
            retries: How often a request may be repeated.
            retry_interval: The longest pause before the first repeat, in seconds. The pause has jitter and doubles with
                each repeat, up to a minute. After a 429 it is at least as long as the server's `Retry-After`.
            allow_telemetry: Accepted because the documented SDK has it. Nothing is ever sent.

        Returns:
            The client.

        Raises:
            ClientError: One of the two variables is not set or cannot be used, or the environment names a proxy or
                certificates that cannot be used.
        """
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
        weighting: str | None = None,
        same_model: bool = False,
        pool_from: int | None = None,
        exact: bool = False,
    ) -> Self:
        """Open an index in this process, or make it if it does not exist. Needs `pip install 'nextk[local]'`.

        An index that exists knows its own schema, so it can be opened by its path alone, unless it was made with a
        model of your own: pass that model again. A keyword that contradicts the stored schema raises `ClientError`.

        Args:
            path: The file of the index; `None` keeps the index in memory.
            type: The kind of index: `"hybrid"`, `"dense"` or `"sparse"`. If it is left out, the given models decide;
                without a model, the vectors of the first write do. Until then a query finds nothing.
            dimension: The length of the dense vectors. If it is left out, it is the model's, or that of the first
                vector stored.
            similarity: The metric of the dense vectors: `"cosine"` (the default), `"euclidean"` or `"dot_product"`.
            embedding: The model that makes dense vectors of text: `"static"` (256 dimensions, no download), a function
                from `list[str]` to an array of shape (n, dimension), or an object with `embed_documents` and
                `embed_query`.
            sparse_embedding: The model that makes sparse vectors of text: `"bm25"`, or a function or an object as for
                `embedding` that returns objects with `indices` and `values`.
            fusion_order: How hybrid queries are fused across pages. With `"global"` (the default) the order of the
                matches does not depend on the sizes of the pages; with `"batch"` each page is fused by itself, as the
                hosted service does.
            weighting: The weighting of sparse queries that retrievers over this index use if they are told none:
                `"idf"` or `"none"`. If it is left out, the weighting is unset: retrievers use none, and a later opening
                can still name one. A query of the index itself is weighted as it says.
            same_model: Whether a model whose identity differs from the stored one makes the same vectors nevertheless.
                The index then keeps the new identity, so no other client in this process may have it open with the old
                model. The identity is the type of a model and the settings that decide its vectors, or the name of a
                function; `info` shows it.
            pool_from: The number of records from which dense searches of a namespace have their first pages several
                times sooner, and a few records come a page late: not one in thousands. None is lost or repeated, and
                all scores are exact. It is that of this opening, and not stored. `None` (the default) is where that
                begins to pay: 48 MiB of vectors, such as 32,768 of 384 dimensions. It needs
                `pip install 'nextk[scale]'`. Without that there is a warning: searches by cosine then gain less, and
                all others are in exact order.
            exact: Whether all searches are in exact order, however large a namespace is. It is that of this opening,
                and not stored; a single search may want it by its own `exact`.

        Returns:
            The client. Clients of the same file in one process share one engine.

        Raises:
            ClientError: A keyword is unknown, or contradicts the stored index or another keyword; a model is another
                one than the index was made with; the path is not an index; or its disk is full or fails.
            IndexLocked: Another process has the index open.
            MissingExtraError: The engine is not installed.
        """
        keywords = {
            "type": type,
            "dimension": dimension,
            "similarity": similarity,
            "embedding": embedding,
            "sparse_embedding": sparse_embedding,
            "fusion_order": fusion_order,
            "weighting": weighting,
            "same_model": same_model,
            "pool_from": pool_from,
            "exact": exact,
        }
        return cls._over(embedded_transport(path, keywords))

    @classmethod
    def postgres(
        cls,
        dsn: str,
        *,
        name: str = "default",
        schema: str = "nextk",
        type: str | None = None,
        dimension: int | None = None,
        similarity: str | None = None,
        embedding: Any = None,
        sparse_embedding: Any = None,
        fusion_order: str | None = None,
        weighting: str | None = None,
        same_model: bool = False,
        exact: bool = False,
    ) -> Self:
        """Open an index on PostgreSQL with pgvector, or make it if it does not exist.

        Needs `pip install 'nextk[postgres]'`, and pgvector 0.8 or later in the database. Several processes may have the
        index open and write to it. A resumable query belongs to the process that has started it.

        Args:
            dsn: The connection string, such as `"postgresql://user@host/database"`.
            name: The name of the index.
            schema: The database schema with the tables of nextk. It is made with the first index; a role that may not
                do so can use one that exists.
            type: As for `embedded`.
            dimension: As for `embedded`. Up to 4,000 dimensions have an index of pgvector; beyond that searches scan.
            similarity: As for `embedded`.
            embedding: As for `embedded`.
            sparse_embedding: As for `embedded`.
            fusion_order: As for `embedded`.
            weighting: As for `embedded`.
            same_model: As for `embedded`.
            exact: Whether all searches are in exact order. Without it, dense searches of a namespace with more than
                5,000 records go on in PostgreSQL by the index of pgvector, and a few records may come a page late.

        Returns:
            The client. Clients of the same index in one process share one engine and its connections.

        Raises:
            ClientError: The database cannot be reached or has no pgvector, the role may not make the tables, a keyword
                is unknown or contradicts the stored index, or a model is another one than the index was made with.
            MissingExtraError: The engine is not installed.
        """
        keywords = {
            "type": type,
            "dimension": dimension,
            "similarity": similarity,
            "embedding": embedding,
            "sparse_embedding": sparse_embedding,
            "fusion_order": fusion_order,
            "weighting": weighting,
            "same_model": same_model,
            "exact": exact,
        }
        return cls._over(postgres_transport(dsn, schema, name, keywords))

    @classmethod
    def _over(cls, transport: Transport) -> Self:
        client = cls.__new__(cls)
        client._transport = transport
        return client

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transport!r})"
