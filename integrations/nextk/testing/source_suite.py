"""The part that the suites for sources share: what a subclass fills in, and how a search is drained. Private."""

import unittest
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from nextk.sessions import AsyncRetrievalSession, Cursor, RowReader, SearchConfig, SearchQuery
from nextk.sessions.source import AsyncSourceSearch, Source
from nextk.testing.source_faults import SourceRequests
from nextk.types import QueryResult

FetchRows: TypeAlias = Callable[[], Awaitable[list[QueryResult]]]
"""One call of a search. Called again, it fetches the rows that the call before it failed to bring."""
Carry: TypeAlias = Callable[[FetchRows], Awaitable[list[QueryResult]]]
"""The way in which a call is carried out: simply awaited, repeated after a failure, or cancelled and repeated."""

IDS: RowReader[str] = RowReader(lambda match: match.id)


class SourceSuite(ABC):
    """The part of both suites that a subclass fills in: the source, a query, and the rows to expect.

    Attributes:
        requests: The names of the methods of the source that send its requests. Those that a source lacks are ignored.
            Default: the methods that the base classes of `nextk.stores` call.
    """

    requests: ClassVar[Sequence[str]] = ("query", "aquery", "query_without", "aquery_without")

    @abstractmethod
    def source(self) -> Source:
        """Return the source, with all rows in it. It is called several times, and has the same rows each time."""

    @abstractmethod
    def query(self) -> SearchQuery:
        """Return a query, with its text or vectors, that finds the expected rows."""

    @abstractmethod
    def expected(self) -> Collection[str]:
        """Return the ids of all rows that the query finds, in any order. There have to be at least 4.

        It is called while requests of the source fail on purpose, so it must not search the source itself.
        """

    @abstractmethod
    def _search(self, source: Source) -> AsyncSourceSearch:
        """Return a new search, whose methods are awaited."""

    @abstractmethod
    async def _query(self, source: Source, count: int) -> list[QueryResult]:
        """Return what one request without a search finds."""

    @abstractmethod
    async def _at_once(self, coroutines: list[Coroutine[Any, Any, list[list[QueryResult]]]]) -> list[Any]:
        """Run coroutines at the same time, and return their results."""

    @abstractmethod
    def _session(self, source: Source, cursor: Cursor | None = None) -> AsyncRetrievalSession[str]:
        """Return a session over the source whose results are ids, and whose methods are awaited."""

    @property
    def _sizes(self) -> list[int]:
        """The sizes of pages that are tried."""
        rows = len(self.expected())
        return sorted({1, 2, 3, rows - 1, rows, rows + 5})

    async def _drain(
        self, search: AsyncSourceSearch, size: int, *, seen: Collection[str] = (), carry: Carry | None = None
    ) -> list[list[QueryResult]]:
        """Return all pages of a search up to the first empty one, and stop it."""
        pages: list[list[QueryResult]] = []

        async def fetch() -> list[QueryResult]:
            if pages:
                return await search.fetch_next(size)
            return await search.fetch_first(self.query(), size, seen=seen)

        try:
            while page := await (carry or simply)(fetch):
                pages.append(page)
                assert len(pages) <= 100 * (len(self.expected()) + 1), "the search comes to no end"
        finally:
            await search.stop()
        return pages

    def _check_whole(self, served: list[str]) -> None:
        twice = sorted({id_ for id_ in served if served.count(id_) > 1})
        assert not twice, f"rows came twice: {twice}"
        missing = sorted(set(self.expected()) - set(served))
        assert not missing, f"rows did not come before an empty page: {missing}"
        others = sorted(set(served) - set(self.expected()))
        assert not others, f"rows came that are not expected: {others}"

    async def _undisturbed(self, size: int) -> tuple["Undisturbed", int]:
        """Return the outcome of a search in which nothing fails, and how many requests it sends."""
        source, counted = self.source(), SourceRequests()
        search = self._search(source)
        with counted.of(source, self.requests):
            served = ids_of_pages(await self._drain(search, size))
        if not counted.count:
            skip("no request of this source can be made to fail: name the methods that send them in `requests`")
        return Undisturbed(served, search.limit, ordered=bool(source.traits.stable_order)), counted.count

    async def _served(self, search: AsyncRetrievalSession[str], size: int) -> list[str]:
        """Return the ids that a session still has, and repeat a call that has failed."""
        served: list[str] = []
        async with search:
            while not search.exhausted:
                try:
                    served += await search.fetch_next(size)
                except Exception:
                    served += await search.fetch_next(size)
        return served

    def _refuse_open_searches(self) -> None:
        if self.source().traits.keeps_open:
            skip("a search that is kept open may be lost by a failure: a session begins a new one")

    def _check_same(self, undisturbed: "Undisturbed", pages: list[list[QueryResult]], limit: int | None) -> None:
        served = ids_of_pages(pages)
        self._check_whole(served)
        if undisturbed.ordered:
            assert undisturbed.ids == served, f"a failure has changed the order: {undisturbed.ids} and {served}"
        assert undisturbed.limit == limit, f"a failure was taken for a limit of {limit} rows"


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """The outcome of a search in which nothing fails.

    Attributes:
        ids: The ids of the rows that came.
        limit: The limit that the search has met.
        ordered: Whether every search has to bring them in this order.
    """

    ids: list[str]
    limit: int | None
    ordered: bool


def ids_of_pages(pages: list[list[QueryResult]]) -> list[str]:
    """Return the ids of all rows of some pages, in order."""
    return [row.id for page in pages for row in page]


async def simply(fetch: FetchRows) -> list[QueryResult]:
    """Carry out a call."""
    return await fetch()


async def repeating(fetch: FetchRows) -> list[QueryResult]:
    """Carry out a call, and once more after a failure."""
    try:
        return await fetch()
    except Exception:
        return await fetch()


def skip(reason: str) -> None:
    """Skip the test that is running."""
    raise unittest.SkipTest(reason)


def config() -> SearchConfig:
    """Return the configuration of sessions that do not wait after a failure, and that may repeat any number of rows."""
    return SearchConfig(sleep=lambda _: None, max_recovery=None)
