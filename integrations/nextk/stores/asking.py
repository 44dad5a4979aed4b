"""Sources that are asked anew for each page, and their searches in both colours. Private.

Pure code decides what to ask for (`nextk.stores.growth`, `exclusion`, `legs`), and a source carries that out.
"""

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection, Generator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from nextk.errors import ClientError
from nextk.sessions.query import SearchQuery
from nextk.sessions.source import AsyncSourceSearch, Continuation, ScoreKind, Source, SourceSearch, SourceTraits
from nextk.types import QueryResult
from nextk.until.effects import adrive, drive


class SearchedRows(Protocol):
    """The rows of one search, and the decisions about what to ask for."""

    @property
    def refetched(self) -> int:
        """The number of rows that were moved although they had come before."""

    @property
    def limit(self) -> int | None:
        """The number of rows that the store gives of one search at most; `None` if no such limit is known."""

    def fetch(self, count: int) -> Generator[Any, Any, list[QueryResult]]:
        """Fetch the next rows; each effect is a request to the store."""


@dataclass(slots=True)
class Begun:
    """A search that has begun.

    Attributes:
        rows: The rows of the search.
        ask: Carries a request out.
        aask: Carries a request out without blocking the event loop.
    """

    rows: SearchedRows
    ask: Callable[[Any], Any]
    aask: Callable[[Any], Awaitable[Any]]


class AskingSource(Source):
    """The part of sources that are asked anew for each page.

    Attributes:
        continuation: The way in which the source goes on.
        scores: The meaning of the scores; `None` if it depends on the query.
        stable_order: Whether a query finds the same rows in the same order each time.
        filters: Whether the source reads the filter of a query.
        modes: Whether the source reads the retrieval mode of a query.
    """

    continuation: ClassVar[Continuation]
    scores: ScoreKind | None = ScoreKind.NEARNESS
    stable_order: bool = False
    filters: bool = True
    modes: bool = False

    @property
    def traits(self) -> SourceTraits:
        """The traits, as the attributes say them."""
        return SourceTraits(
            self.continuation,
            scores=self.scores,
            stable_order=self.stable_order,
            filters=self.filters,
            modes=self.modes,
        )

    def search(self) -> SourceSearch:
        """Return a new search. Nothing is sent before its first call."""
        return _AskingSearch(self)

    def asearch(self) -> AsyncSourceSearch:
        """Return a new search for an event loop. Nothing is sent before its first call."""
        return _AsyncAskingSearch(self)

    @abstractmethod
    def _begin(self, query: SearchQuery, seen: Collection[str]) -> Begun:
        """Begin a search, without sending anything.

        Args:
            query: The query.
            seen: The ids of rows that have come already.
        """


class _Beginnings:
    """The part of both searches that does no I/O: which search has begun, and whether its first page has come."""

    def __init__(self, source: AskingSource) -> None:
        self._source = source
        self._begun: Begun | None = None
        self._first: tuple[SearchQuery, list[str]] | None = None  # what the first page was asked with, until it comes

    def _begin(self, query: SearchQuery, seen: Collection[str]) -> None:
        """Begin a search, unless its first page has failed: its requests that have worked need no repeat."""
        first = self._first
        if first is None or first[0] is not query or first[1] != list(seen):
            self._begun, self._first = self._source._begin(query, seen), (query, list(seen))  # noqa: SLF001

    def _require_begun(self) -> Begun:
        if self._begun is None:
            message = "this search has not begun, or was stopped: call fetch_first"
            raise ClientError(message)
        return self._begun

    def _end(self) -> None:
        self._begun = self._first = None


class _AskingSearch(_Beginnings, SourceSearch):
    def fetch_first(
        self,
        query: SearchQuery,
        count: int,
        *,
        seen: Collection[str] = (),
        max_idle: int = 120,  # noqa: ARG002 - nothing is kept
    ) -> list[QueryResult]:
        self._begin(query, seen)
        page = self.fetch_next(count)
        self._first = None
        return page

    def fetch_next(self, count: int) -> list[QueryResult]:
        begun = self._require_begun()
        try:
            return drive(begun.rows.fetch(count), begun.ask)
        finally:
            self.refetched, self.limit = begun.rows.refetched, begun.rows.limit

    def stop(self) -> None:
        self._end()


class _AsyncAskingSearch(_Beginnings, AsyncSourceSearch):
    async def fetch_first(
        self,
        query: SearchQuery,
        count: int,
        *,
        seen: Collection[str] = (),
        max_idle: int = 120,  # noqa: ARG002 - nothing is kept
    ) -> list[QueryResult]:
        self._begin(query, seen)
        page = await self.fetch_next(count)
        self._first = None
        return page

    async def fetch_next(self, count: int) -> list[QueryResult]:
        begun = self._require_begun()
        try:
            return await adrive(begun.rows.fetch(count), begun.aask)
        finally:
            self.refetched, self.limit = begun.rows.refetched, begun.rows.limit

    async def stop(self) -> None:
        self._end()
