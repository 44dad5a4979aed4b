"""The connection of a retriever to a source that is no index. It has the methods of `nextk.retrievers.connection`."""

from collections.abc import Sequence
from typing import Any, Self

from nextk.sessions.query import RetrievalMode, SearchQuery
from nextk.sessions.source import Source
from nextk.types import QueryResult


class SourceConnection:
    """A source, blocking and asynchronous. It is never closed here, because the store belongs to its owner.

    Args:
        source: The source.

    Attributes:
        index: The source, as blocking sessions take it.
        async_index: The source, as asynchronous sessions take it.
    """

    def __init__(self, source: Source) -> None:
        self.index = self.async_index = source

    def __repr__(self) -> str:
        return repr(self.index)

    def embeds_text(self, mode: RetrievalMode | None) -> bool:  # noqa: ARG002
        """Return whether the source takes the text of a query. Every source does, or says itself that it does not."""
        return True

    async def aembeds_text(self, mode: RetrievalMode | None) -> bool:
        """Return whether the source takes the text of a query; see `embeds_text`."""
        return self.embeds_text(mode)

    def takes_dense(self) -> bool:
        """Return `True`: nothing is stored in a source."""
        return True

    async def atakes_dense(self) -> bool:
        """Return `True`; see `takes_dense`."""
        return True

    def query_embedder(self) -> None:
        """Return `None`: no model of the source can be used by itself."""

    def with_weighting(self, query: SearchQuery) -> SearchQuery:
        """Return the query as it is: a source weighs by itself."""
        return query

    async def awith_weighting(self, query: SearchQuery) -> SearchQuery:
        """Return the query as it is; see `with_weighting`."""
        return query

    def query(self, query: SearchQuery, top_k: int) -> Sequence[QueryResult]:
        """Fetch the best rows by one plain query.

        Args:
            query: The complete query.
            top_k: The number of rows, at least 1.
        """
        return self.index.query(query, top_k)

    async def aquery(self, query: SearchQuery, top_k: int) -> Sequence[QueryResult]:
        """Fetch the best rows by one plain query without blocking the event loop; see `query`."""
        return await self.async_index.aquery(query, top_k)

    def close(self) -> None:
        """Close nothing."""

    async def aclose(self) -> None:
        """Close nothing."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self.index)] = self.index  # whatever else holds the source keeps it, too
        return self

    def __reduce__(self) -> tuple[type["SourceConnection"], tuple[Source]]:
        return SourceConnection, (self.index,)
