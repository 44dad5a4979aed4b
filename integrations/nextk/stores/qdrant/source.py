"""A Qdrant collection as a source. Private; `QdrantSource` is public, by way of `nextk.stores.qdrant`."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nextk.arguments import require_callable
from nextk.errors import ClientError
from nextk.extras import require
from nextk.sessions.query import SearchQuery
from nextk.stores.exclusion_source import ExclusionSource
from nextk.stores.qdrant.failures import explaining_failures
from nextk.stores.qdrant.points import as_filter, ef_at, exact_request, legs_of, request_of, row_of
from nextk.stores.rows import StoreRow

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient, QdrantClient

MAX_EXCLUDED = 1_000
"""The number of points that a request excludes at most. Measured on the engine of Qdrant (30,000 points of 128
dimensions, `tests/benchmarks/qdrant_depth.py`): with 1,000 points excluded, a page of 100 costs 7.5 times its share of
a request for twice as many points, and that request costs 1.3 such pages and brings ten; with 10,000, 26 times."""
_DISTANCES = ("Euclid", "Manhattan")
"""The metrics of Qdrant by which a lower score is nearer."""


class QdrantSource(ExclusionSource):
    """The points of a Qdrant collection, searched by their dense vectors, their sparse ones, or both.

    A search goes on by excluding the points that have come, so that no payload is moved twice, with an `hnsw_ef` that
    grows with the depth. A hybrid search fuses both lists here, by their ranks, so that its order does not depend on
    how it was pulled. The models that embed a query are the retriever's: `embedding=` and `sparse_embedding=`.

    ```python
    source = QdrantSource(QdrantClient("http://localhost:6333"), "articles")
    retriever = ResumableRetriever(source=source, embedding=OpenAIEmbeddings())
    ```

    Args:
        client: The `QdrantClient`, which stays yours to close; `None` with an `async_client`, for event loops alone.
        collection_name: The name of the collection.
        async_client: The `AsyncQdrantClient` for searches in an event loop; absent: `client`, on a thread.
        dense: The name of the dense vector; `""` (the default) for the one without a name, `None` for none.
        sparse: The name of the sparse vector; `None` (the default) for none.
        text_key: The key of the payload that holds the text. Default: that of LangChain.
        metadata_key: The key of the payload that holds the metadata, as LangChain writes it by default; `None` if the
            metadata is all of the payload but the text.
        item_of: A function that makes the result of a retriever of a point, a LangChain `Document` or a LlamaIndex
            node; absent: the retriever makes it of the text and the metadata.
        filter_of: A function that makes a `qdrant_client.models.Filter` of the `filter=` of a search; absent: it is
            one already, or the dict of one.
        hnsw_ef: The `hnsw_ef` of each dense search; absent: one that grows with the depth.
        max_excluded: The number of points that a request excludes at most; above it, points are fetched again. Default:
            1,000, beyond which a request for twice as many points costs less than the pages that it brings.
        store_id: A name for what the collection holds, by which cursors are told from those of others; absent: the name
            of the collection and of the vectors that are searched.

    Raises:
        ClientError: There is no client, no vector, or a function that cannot be called.
        MissingExtraError: `qdrant-client` is not installed.
    """

    scores = None  # nearness for one vector, ranks for both
    modes = True

    def __init__(
        self,
        client: "QdrantClient | None",
        collection_name: str,
        *,
        async_client: "AsyncQdrantClient | None" = None,
        dense: str | None = "",
        sparse: str | None = None,
        text_key: str = "page_content",
        metadata_key: str | None = "metadata",
        item_of: Callable[[Any], Any] | None = None,
        filter_of: Callable[[Any], Any] | None = None,
        hnsw_ef: int | None = None,
        max_excluded: int = MAX_EXCLUDED,
        store_id: str | None = None,
    ) -> None:
        require("qdrant_client", "qdrant")
        if client is None and async_client is None:
            message = "give a QdrantClient, an AsyncQdrantClient as async_client=, or both"
            raise ClientError(message)
        if dense is None and sparse is None:
            message = "dense=None and sparse=None leave no vector to search: name one"
            raise ClientError(message)
        for name, function in (("item_of", item_of), ("filter_of", filter_of)):
            if function is not None:
                require_callable(function, name)
        self._client, self._async_client = client, async_client
        self.collection_name = collection_name
        self._dense, self._sparse = dense, sparse
        self._text_key, self._metadata_key = text_key, metadata_key
        self._item_of, self._filter_of = item_of, filter_of or as_filter
        self._hnsw_ef = hnsw_ef
        self._store_id = store_id
        self.max_excluded = max_excluded
        self._descending: bool | None = None  # whether a higher score of a dense search is nearer

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.collection_name!r})"

    @property
    def identity(self) -> str:
        """The collection, and the names of the vectors that are searched, or the `store_id`."""
        return self._store_id or f"qdrant {self.collection_name!r} {self._dense!r} {self._sparse!r}"

    def legs(self, query: SearchQuery) -> list[SearchQuery]:
        """Return the dense search, the sparse one, or both, as the mode or the vectors of the query say.

        Args:
            query: The query, with the vectors that its mode needs.

        Raises:
            ClientError: A vector is missing, in the query or in this source.
        """
        return legs_of(query, dense=self._dense is not None, sparse=self._sparse is not None)

    def query_without(self, query: SearchQuery, count: int, excluded: Sequence[str]) -> list[StoreRow]:
        """Fetch the best points without some of them, by one request.

        Args:
            query: The query, with one vector.
            count: The number of points, at least 1.
            excluded: The ids of the points that are left out.

        Raises:
            ClientError: There is no blocking client, or the filter is none of Qdrant's.
            RefusedError: Qdrant has refused the request, has no such collection, or the client is closed.
            TransportError: No answer came.
        """
        if self._client is None:
            message = "this source has an AsyncQdrantClient alone: search in an event loop, or give a QdrantClient"
            raise ClientError(message)
        request = self._request(self._client, query, count, excluded)
        with explaining_failures(self.collection_name):
            if self._descending is None and query.vector is not None:
                self._note_metric(self._client.get_collection(self.collection_name))
            found = self._client.query_points(self.collection_name, **request)
            if (exact := exact_request(request, len(found.points))) is not None:
                found = self._client.query_points(self.collection_name, **exact)
        return self._rows(query, found.points)

    async def aquery_without(self, query: SearchQuery, count: int, excluded: Sequence[str]) -> list[StoreRow]:
        """Fetch the best points without some of them without blocking the event loop; see `query_without`.

        Args:
            query: The query, with one vector.
            count: The number of points, at least 1.
            excluded: The ids of the points that are left out.
        """
        if self._async_client is None:
            return await asyncio.to_thread(self.query_without, query, count, excluded)
        request = self._request(self._async_client, query, count, excluded)
        with explaining_failures(self.collection_name):
            if self._descending is None and query.vector is not None:
                self._note_metric(await self._async_client.get_collection(self.collection_name))
            found = await self._async_client.query_points(self.collection_name, **request)
            if (exact := exact_request(request, len(found.points))) is not None:
                found = await self._async_client.query_points(self.collection_name, **exact)
        return self._rows(query, found.points)

    def _request(self, client: Any, query: SearchQuery, count: int, excluded: Sequence[str]) -> dict[str, Any]:
        from qdrant_client import models

        params = None
        if query.vector is not None and not _is_in_process(client):
            ef = ef_at(count, len(excluded)) if self._hnsw_ef is None else self._hnsw_ef
            params = models.SearchParams(hnsw_ef=ef)
        using = (self._sparse if query.vector is None else self._dense) or None
        return request_of(query, count, excluded, using=using, filter_of=self._filter_of, search_params=params)

    def _note_metric(self, description: Any) -> None:
        """Take note of the metric of the dense vector, which does not change while the collection is there."""
        vectors = description.config.params.vectors
        if isinstance(vectors, Mapping):
            vectors = vectors.get(self._dense)
        self._descending = getattr(getattr(vectors, "distance", None), "value", None) not in _DISTANCES

    def _rows(self, query: SearchQuery, points: Sequence[Any]) -> list[StoreRow]:
        descending = query.vector is None or self._descending is not False
        rows = [row_of(point, self._text_key, self._metadata_key, descending=descending) for point in points]
        if self._item_of is not None:
            for row, point in zip(rows, points, strict=True):
                row.item = self._item_of(point)
        return rows


def _is_in_process(client: Any) -> bool:
    """Return whether a client holds its points itself: it has no graph then, and warns of parameters of one."""
    return type(getattr(client, "_client", None)).__name__ in ("QdrantLocal", "AsyncQdrantLocal")
