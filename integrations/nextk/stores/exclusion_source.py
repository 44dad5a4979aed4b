"""Sources that go on by asking anew without the rows that have come. Private.

`ExclusionSource` is public, by way of `nextk.stores`.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Collection, Sequence

from nextk.sessions.query import SearchQuery
from nextk.sessions.source import AsyncSourceSearch, Continuation, ScoreKind, Source, SourceSearch, SourceTraits
from nextk.stores.exclusion import Exclusion, RowsWithout
from nextk.stores.growth import BestRows, CountRows
from nextk.stores.legs import FusedLegs, LegRequest
from nextk.stores.refetch import require_begun
from nextk.types import QueryResult
from nextk.until.effects import adrive, drive

MAX_EXCLUDED = 10_000
"""The number of ids that a request names at most, unless a source says otherwise."""


class ExclusionSource(Source):
    """A source that can be asked for the best rows without some of them.

    A subclass has an `identity` and a method `query_without`, and may have an `aquery_without` of its own, which
    otherwise is `query_without` on a thread.

    Attributes:
        scores: The meaning of the scores, an attribute of the class or of the object; nearness by default. `None` if it
            depends on the query.
        stable_order: Whether a query finds the same rows in the same order each time; `False` by default.
        filters: Whether the source reads the filter of a query; `True` by default.
        modes: Whether the source reads the retrieval mode of a query; `False` by default.
        max_excluded: The number of ids above which it is cheaper to fetch rows again than to name them.
    """

    scores: ScoreKind | None = ScoreKind.NEARNESS
    stable_order: bool = False
    filters: bool = True
    modes: bool = False
    max_excluded: int = MAX_EXCLUDED

    @property
    def traits(self) -> SourceTraits:
        """The traits, as the attributes say them."""
        return SourceTraits(
            Continuation.EXCLUSION,
            scores=self.scores,
            stable_order=self.stable_order,
            filters=self.filters,
            modes=self.modes,
        )

    @abstractmethod
    def query_without(self, query: SearchQuery, count: int, excluded: Sequence[str]) -> Sequence[QueryResult]:
        """Fetch the best rows without some of them.

        Args:
            query: The query, with its text or vectors, its filter and its mode.
            count: The number of rows, at least 1.
            excluded: The ids of the rows that are left out, in the order in which they came.

        Returns:
            At most `count` rows, best first. They may be fewer although there are more; none says that there is none.
        """

    async def aquery_without(self, query: SearchQuery, count: int, excluded: Sequence[str]) -> Sequence[QueryResult]:
        """Fetch the best rows without some of them; by default `query_without` on a thread.

        Args:
            query: The query, with its text or vectors, its filter and its mode.
            count: The number of rows, at least 1.
            excluded: The ids of the rows that are left out.
        """
        return await asyncio.to_thread(self.query_without, query, count, excluded)

    def legs(self, query: SearchQuery) -> Sequence[SearchQuery]:
        """Return the queries that are searched one beside the other, and whose rows are fused; by default the query.

        Args:
            query: The query, with its text or vectors, its filter and its mode.
        """
        return [query]

    def query(self, query: SearchQuery, count: int) -> Sequence[QueryResult]:
        """Fetch the best rows: by one request, or by those of the first page of a search that has several legs.

        Args:
            query: The query, with its text or vectors, its filter and its mode.
            count: The number of rows, at least 1.
        """
        legs = self.legs(query)
        return self.query_without(legs[0], count, ()) if len(legs) == 1 else self.search().fetch_first(query, count)

    async def aquery(self, query: SearchQuery, count: int) -> Sequence[QueryResult]:
        """Fetch the best rows without blocking the event loop; see `query`.

        Args:
            query: The query, with its text or vectors, its filter and its mode.
            count: The number of rows, at least 1.
        """
        legs = self.legs(query)
        if len(legs) == 1:
            return await self.aquery_without(legs[0], count, ())
        return await self.asearch().fetch_first(query, count)

    def search(self) -> SourceSearch:
        """Return a new search. Nothing is sent before its first call."""
        return _Excluding(self)

    def asearch(self) -> AsyncSourceSearch:
        """Return a new search for an event loop. Nothing is sent before its first call."""
        return _AsyncExcluding(self)


class _Begun:
    """A search that has begun.

    Args:
        source: The source.
        query: The query.
        seen: The ids of rows that have come already.

    Attributes:
        rows: The rows of the search.
        first_came: Whether the first page has come.
    """

    def __init__(self, source: ExclusionSource, query: SearchQuery, seen: Collection[str]) -> None:
        self.first_came = False
        self._query, self._seen = query, list(seen)
        self._legs = source.legs(query)
        scores = source.traits.scores
        if len(self._legs) == 1:
            self.rows: Exclusion | FusedLegs = Exclusion(scores, source.max_excluded, seen)
        else:
            self.rows = FusedLegs([Exclusion(scores, source.max_excluded) for _ in self._legs], seen)

    def awaits_first(self, query: SearchQuery, seen: Collection[str]) -> bool:
        """Return whether this is the search of a first page that has failed, whose other requests need no repeat."""
        return not self.first_came and self._query is query and self._seen == list(seen)

    def arguments(self, asked: RowsWithout | BestRows | LegRequest) -> tuple[SearchQuery, int, Sequence[str]]:
        """Return the arguments of `query_without` for a request."""
        number = 0
        if isinstance(asked, LegRequest):
            number, asked = asked.leg, asked.asked
        return self._legs[number], asked.count, asked.excluded if isinstance(asked, RowsWithout) else ()


class _Excluding(SourceSearch):
    def __init__(self, source: ExclusionSource) -> None:
        self._source = source
        self._begun: _Begun | None = None

    def fetch_first(
        self,
        query: SearchQuery,
        count: int,
        *,
        seen: Collection[str] = (),
        max_idle: int = 120,  # noqa: ARG002 - nothing is kept
    ) -> list[QueryResult]:
        if self._begun is None or not self._begun.awaits_first(query, seen):
            self._begun = _Begun(self._source, query, seen)
        begun = self._begun
        page = self.fetch_next(count)
        begun.first_came = True
        return page

    def fetch_next(self, count: int) -> list[QueryResult]:
        begun = require_begun(self._begun)

        def carry_out(asked: RowsWithout | BestRows | LegRequest | CountRows) -> Sequence[QueryResult] | None:
            return None if isinstance(asked, CountRows) else self._source.query_without(*begun.arguments(asked))

        try:
            return drive(begun.rows.fetch(count), carry_out)
        finally:
            self.refetched, self.limit = begun.rows.refetched, begun.rows.limit

    def stop(self) -> None:
        self._begun = None


class _AsyncExcluding(AsyncSourceSearch):
    def __init__(self, source: ExclusionSource) -> None:
        self._source = source
        self._begun: _Begun | None = None

    async def fetch_first(
        self,
        query: SearchQuery,
        count: int,
        *,
        seen: Collection[str] = (),
        max_idle: int = 120,  # noqa: ARG002 - nothing is kept
    ) -> list[QueryResult]:
        if self._begun is None or not self._begun.awaits_first(query, seen):
            self._begun = _Begun(self._source, query, seen)
        begun = self._begun
        page = await self.fetch_next(count)
        begun.first_came = True
        return page

    async def fetch_next(self, count: int) -> list[QueryResult]:
        begun = require_begun(self._begun)

        async def carry_out(asked: RowsWithout | BestRows | LegRequest | CountRows) -> Sequence[QueryResult] | None:
            return None if isinstance(asked, CountRows) else await self._source.aquery_without(*begun.arguments(asked))

        try:
            return await adrive(begun.rows.fetch(count), carry_out)
        finally:
            self.refetched, self.limit = begun.rows.refetched, begun.rows.limit

    async def stop(self) -> None:
        self._begun = None
