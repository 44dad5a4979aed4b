"""Sources that go on by asking anew for more rows. Private; `RefetchSource` is public, by way of `nextk.stores`."""

import asyncio
import logging
from collections.abc import Collection
from typing import Any, TypeVar

from nextk.errors import ClientError
from nextk.sessions.query import SearchQuery
from nextk.sessions.source import AsyncSourceSearch, Continuation, ScoreKind, Source, SourceSearch, SourceTraits
from nextk.stores.growth import BestRows, CountRows, Growth
from nextk.types import QueryResult
from nextk.until.effects import adrive, drive

log = logging.getLogger("nextk.stores")

BegunT = TypeVar("BegunT")


class RefetchSource(Source):
    """A source that only takes "the k best", whose searches go on by asking anew for more.

    A subclass has an `identity` and a method `query`, and may have an `aquery` of its own, which otherwise is `query`
    on a thread. `nextk.stores` has an example.

    Attributes:
        scores: The meaning of the scores, an attribute of the class or of the object; nearness by default.
        stable_order: Whether a query finds the same rows in the same order each time; `False` by default.
        filters: Whether the source reads the filter of a query; `True` by default.
        modes: Whether the source reads the retrieval mode of a query; `False` by default.
    """

    scores: ScoreKind = ScoreKind.NEARNESS
    stable_order: bool = False
    filters: bool = True
    modes: bool = False

    @property
    def traits(self) -> SourceTraits:
        """The traits, as the attributes say them."""
        return SourceTraits(
            Continuation.REFETCH,
            scores=self.scores,
            stable_order=self.stable_order,
            filters=self.filters,
            modes=self.modes,
        )

    def size(self, query: SearchQuery) -> int | None:  # noqa: ARG002
        """Return how many rows a search should find at least, if the store says so at once; by default `None`.

        It is asked for at the end of a search, to tell a store without further rows from one that gives no more.

        Args:
            query: The query. With a filter, the number of rows that pass is hardly known: 0 then says that the store
                gives all of them, however many are asked for.
        """
        return None

    def search(self) -> SourceSearch:
        """Return a new search. Nothing is sent before its first call."""
        return _Refetching(self)

    def asearch(self) -> AsyncSourceSearch:
        """Return a new search for an event loop. Nothing is sent before its first call."""
        return _AsyncRefetching(self)


class _Refetching(SourceSearch):
    def __init__(self, source: RefetchSource) -> None:
        self._source = source
        self._begun: tuple[SearchQuery, Growth] | None = None

    def fetch_first(
        self,
        query: SearchQuery,
        count: int,
        *,
        seen: Collection[str] = (),
        max_idle: int = 120,  # noqa: ARG002 - nothing is kept
    ) -> list[QueryResult]:
        self._begun = query, Growth(self._source.traits.scores, seen)
        return self.fetch_next(count)

    def fetch_next(self, count: int) -> list[QueryResult]:
        query, growth = require_begun(self._begun)

        def carry_out(effect: BestRows | CountRows) -> Any:
            return (
                _size(self._source, query) if isinstance(effect, CountRows) else self._source.query(query, effect.count)
            )

        try:
            return drive(growth.fetch(count), carry_out)
        finally:
            self.refetched, self.limit = growth.refetched, growth.limit

    def stop(self) -> None:
        self._begun = None


class _AsyncRefetching(AsyncSourceSearch):
    def __init__(self, source: RefetchSource) -> None:
        self._source = source
        self._begun: tuple[SearchQuery, Growth] | None = None

    async def fetch_first(
        self,
        query: SearchQuery,
        count: int,
        *,
        seen: Collection[str] = (),
        max_idle: int = 120,  # noqa: ARG002 - nothing is kept
    ) -> list[QueryResult]:
        self._begun = query, Growth(self._source.traits.scores, seen)
        return await self.fetch_next(count)

    async def fetch_next(self, count: int) -> list[QueryResult]:
        query, growth = require_begun(self._begun)

        async def carry_out(effect: BestRows | CountRows) -> Any:
            if isinstance(effect, CountRows):
                return await asyncio.to_thread(_size, self._source, query)
            return await self._source.aquery(query, effect.count)

        try:
            return await adrive(growth.fetch(count), carry_out)
        finally:
            self.refetched, self.limit = growth.refetched, growth.limit

    async def stop(self) -> None:
        self._begun = None


def _size(source: RefetchSource, query: SearchQuery) -> int | None:
    """Return how many rows a store holds; `None` if it fails to say."""
    try:
        return source.size(query)
    except Exception:
        log.info("the store does not say how many rows it holds", exc_info=True)
        return None


def require_begun(begun: BegunT | None) -> BegunT:
    """Return the state of a search that has begun.

    Args:
        begun: The state; `None` before `fetch_first` and after `stop`.

    Raises:
        ClientError: The search has not begun, or was stopped.
    """
    if begun is None:
        message = "this search has not begun, or was stopped: call fetch_first"
        raise ClientError(message)
    return begun
