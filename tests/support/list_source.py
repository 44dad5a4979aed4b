"""A source over a list of rows, whose order is that of the list."""

from collections.abc import Collection, Sequence

from nextk.sessions.query import SearchQuery
from nextk.sessions.source import AsyncSourceSearch, Continuation, Source, SourceSearch, SourceTraits
from nextk.types import QueryResult

NATIVE = SourceTraits(Continuation.NATIVE, scores=None, stable_order=True)


class ListSource(Source):
    """A source over a list of rows, which may be changed between two requests.

    Args:
        rows: The rows, best first.
        traits: The traits that it claims to have.
        identity: The identity, for cursors.

    Attributes:
        rows: The rows.
        failures: The exceptions that the next requests raise; `None` lets a request through.
        requests: The sizes of the requests that were made.
        stopped: How many searches were stopped.
        limit: The limit at which a search claims to end; `None` for none.
    """

    traits = NATIVE  # attributes instead of properties
    identity = "list"

    def __init__(self, rows: Sequence[QueryResult], traits: SourceTraits = NATIVE, identity: str = "list") -> None:
        self.rows = list(rows)
        self.traits = traits
        self.identity = identity
        self.failures: list[BaseException | None] = []
        self.requests: list[int] = []
        self.stopped = 0
        self.limit: int | None = None

    def query(self, query: SearchQuery, count: int) -> list[QueryResult]:
        """Return the first rows that pass the filter, a function from a row to a bool."""
        return self.passing(query)[:count]

    def passing(self, query: SearchQuery) -> list[QueryResult]:
        """Return all rows that pass the filter."""
        return [row for row in self.rows if query.store_filter is None or query.store_filter(row)]

    def search(self) -> SourceSearch:
        """Return a search of the list."""
        return _ListSearch(self)

    def asearch(self) -> AsyncSourceSearch:
        """Return a search of the list for an event loop."""
        return _AsyncListSearch(_ListSearch(self))


class _ListSearch(SourceSearch):
    def __init__(self, source: ListSource) -> None:
        self._source = source
        self._query = SearchQuery()
        self._given: set[str] = set()

    def fetch_first(
        self, query: SearchQuery, count: int, *, seen: Collection[str] = (), max_idle: int = 120
    ) -> list[QueryResult]:
        self._query, self._given = query, set() if self._source.traits.keeps_open else set(seen)
        return self.fetch_next(count)

    def fetch_next(self, count: int) -> list[QueryResult]:
        self._source.requests.append(count)
        if self._source.failures and (failure := self._source.failures.pop(0)) is not None:
            raise failure
        rows = [row for row in self._source.passing(self._query) if row.id not in self._given][:count]
        self._given.update(row.id for row in rows)
        self.limit = None if rows else self._source.limit
        return rows

    def stop(self) -> None:
        self._source.stopped += 1


class _AsyncListSearch(AsyncSourceSearch):
    def __init__(self, search: _ListSearch) -> None:
        self._search = search

    async def fetch_first(
        self, query: SearchQuery, count: int, *, seen: Collection[str] = (), max_idle: int = 120
    ) -> list[QueryResult]:
        return self._search.fetch_first(query, count, seen=seen, max_idle=max_idle)

    async def fetch_next(self, count: int) -> list[QueryResult]:
        rows = self._search.fetch_next(count)
        self.limit = self._search.limit
        return rows

    async def stop(self) -> None:
        self._search.stop()
