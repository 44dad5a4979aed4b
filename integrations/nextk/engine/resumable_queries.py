"""The resumable queries of an engine: how they are started, go on and are stopped, whatever ranks the records."""

import contextlib
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable

from nextk.bodies import Query
from nextk.engine import records, search
from nextk.engine.fusion import Order
from nextk.engine.open_queries import OpenQueries
from nextk.engine.open_query import ClosingOrder, QueryStart
from nextk.engine.pages import LoadRows, RepeatablePage
from nextk.engine.protocol import QueryShares
from nextk.engine.schema import Schema
from nextk.engine.shares import Share
from nextk.engine.values import Match, TextVectors
from nextk.errors import RefusedError
from nextk.types import QueryMode

__all__ = ["FoundRecords", "ResumableQueries"]

FoundRecords = tuple[Callable[..., Order], LoadRows]
"""A function that ranks the records that a search has found, and one that reads the records of their rows."""


class ResumableQueries(ABC):
    """The part of every engine that answers queries, at once or page by page."""

    _max_idle: int
    _models: records.Models
    _open_queries: OpenQueries

    @property
    @abstractmethod
    def schema(self) -> Schema:
        """The fixed properties of the index, such as its type and its similarity function."""

    @abstractmethod
    def _search(self, namespace: str, query: Query) -> FoundRecords | None:
        """Find out what is searched; `None` if the namespace does not exist, or if nothing was ever written."""

    def _search_resumably(self, namespace: str, query: Query, max_idle: int) -> FoundRecords | None:  # noqa: ARG002 - for the engines that it concerns
        """Find out what a resumable query searches that may be idle for `max_idle` seconds."""
        return self._search(namespace, query)

    def query(self, namespace: str, query: Query) -> list[Match]:
        """Return the best `top_k` matches, best first."""
        found = self._search(namespace, query)
        if found is None:
            return []
        rank, load = found
        order = rank(depth=max(search.ONE_SHOT_DEPTH, query.top_k))
        with contextlib.ExitStack() as stack:
            if isinstance(order, ClosingOrder):
                stack.callback(order.close)
            return RepeatablePage(query.top_k).read(order, load)

    def start(
        self, namespace: str, query: Query, max_idle: int, uuid: str | None = None, *, owner: str = ""
    ) -> tuple[str, list[Match]]:
        """Open a resumable query and read its first page of `top_k` matches, or read it again.

        Args:
            namespace: The namespace to search.
            query: The query.
            max_idle: The seconds after which the query is dropped if nobody fetches from it.
            uuid: The uuid that the query is to have. If it is that of a query which this search has opened, the first
                page of that query is read again. `None` (the default) lets the engine choose.
            owner: The kind of client, whose open queries in a namespace are counted together. Default `""`.

        Returns:
            The uuid of the query (`""` if the namespace does not exist), and the first page, best first.

        Raises:
            TooManyQueries: `max_open_queries` queries are open already, or half as many with the same owner in the
                same namespace, and none of them has been idle for long enough to make room.
            QueryNotFound: The query with this `uuid` was stopped already.
            RefusedError: The query with this `uuid` is another search, or has gone on to another page; or `max_idle`
                is longer than the engine allows.
        """
        if max_idle > self._max_idle:
            message = f"Invalid maxIdle: at most {self._max_idle} seconds are allowed, got {max_idle}"
            raise RefusedError(message, 422)
        digest = b"" if uuid is None else search.digest(namespace, query)
        search_ = functools.partial(self._search_resumably, namespace, query, max_idle)
        share = Share(owner, namespace)
        return self._open_queries.start(QueryStart(search_, max_idle, query.top_k, uuid, digest, share))

    def require_open(self, uuid: str) -> None:
        """Raise `QueryNotFound` unless the resumable query is open in this process."""
        self._open_queries.require(uuid)

    def fetch_next(self, uuid: str, count: int, page_number: int | None = None) -> list[Match]:
        """Return the next `count` matches of an open query, best first; fewer if the query is nearly exhausted.

        Args:
            uuid: The uuid of the query.
            count: The number of matches.
            page_number: The number of the page, counted from the first page, which is 1. That of the last page reads
                it again. `None` (the default) for the next page.

        Raises:
            QueryNotFound: The query was stopped, has expired, has lost its connection, was opened by another process,
                or never existed.
            RefusedError: The page is neither the last one nor the next one, the last one had another `count`, or it has
                failed and has to be requested again first.
        """
        return self._open_queries.fetch_next(uuid, count, page_number)

    def stop(self, uuid: str) -> None:
        """Stop an open query. Raises `QueryNotFound` if it was stopped already, has expired, or never existed."""
        self._open_queries.stop(uuid)

    def open_queries(self) -> int:
        """Return the number of open resumable queries."""
        return len(self._open_queries)

    def query_shares(self) -> QueryShares:
        """Return how many resumable queries each share has open, and how many were dropped to make room."""
        return QueryShares(self._open_queries.shares(), self._open_queries.evicted)

    def sweep(self) -> None:
        """Drop the resumable queries that have been idle for longer than their `max_idle`."""
        self._open_queries.sweep()

    def embed_query(self, text: str, mode: QueryMode) -> TextVectors:
        """Embed the text of a query by the models of the index, and search nothing; see `records.embed_query`."""
        return records.embed_query(text, mode, self.schema, self._models)
