"""Sources that go on by asking anew without the rows that have come. Private.

`ExclusionSource` is public, by way of `nextk.stores`. A request names the ids that have come, so that only new rows are
moved, and a request that is made again brings the same page: a lost reply costs nothing. The names are sent each time,
about 40 bytes an id. Above `max_excluded` of them the source is asked for more rows instead, as `RefetchSource` is, and
so is a store that gives rows although they were excluded.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from nextk.sessions.query import SearchQuery
from nextk.sessions.source import AsyncSourceSearch, Continuation, ScoreKind, Source, SourceSearch, SourceTraits
from nextk.stores.growth import GENEROUS_K, BestRows, CountRows, Growth, may_be_limit, sorted_rows, with_rank_scores
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

    def query(self, query: SearchQuery, count: int) -> Sequence[QueryResult]:
        """Fetch the best rows by one request.

        Args:
            query: The query, with its text or vectors, its filter and its mode.
            count: The number of rows, at least 1.
        """
        return self.query_without(query, count, ())

    async def aquery(self, query: SearchQuery, count: int) -> Sequence[QueryResult]:
        """Fetch the best rows by one request without blocking the event loop.

        Args:
            query: The query, with its text or vectors, its filter and its mode.
            count: The number of rows, at least 1.
        """
        return await self.aquery_without(query, count, ())

    def search(self) -> SourceSearch:
        """Return a new search. Nothing is sent before its first call."""
        return _Excluding(self)

    def asearch(self) -> AsyncSourceSearch:
        """Return a new search for an event loop. Nothing is sent before its first call."""
        return _AsyncExcluding(self)


@dataclass(frozen=True, slots=True)
class RowsWithout:
    """Ask the store for the best rows without some. The answer is a list of rows, best first.

    Attributes:
        count: The number of rows.
        excluded: The ids of the rows that are left out.
    """

    count: int
    excluded: Sequence[str]


_Fetching: TypeAlias = Generator[RowsWithout | BestRows | CountRows, Any, list[QueryResult]]


class Exclusion:
    """The rows of one search, fetched by excluding those that have come.

    Args:
        scores: The meaning of the scores of the rows; `None` if they are no nearness for sure.
        max_excluded: The number of ids that a request names at most.
        seen: The ids of rows that have come already.
    """

    def __init__(self, scores: ScoreKind | None, max_excluded: int, seen: Collection[str] = ()) -> None:
        self._scores = scores
        self._max_excluded = max_excluded
        self._given = dict.fromkeys(seen)  # in the order in which they came
        self._waiting: list[QueryResult] = []  # that came beyond what was asked for
        self._dropped = 0
        self._growth: Growth | None = None

    @property
    def refetched(self) -> int:
        """The number of rows that were moved although they had come before."""
        return self._dropped + (0 if self._growth is None else self._growth.refetched)

    @property
    def limit(self) -> int | None:
        """The number of rows that the store gives of one search at most; `None` if no such limit is known."""
        return None if self._growth is None else self._growth.limit

    def fetch(self, count: int) -> _Fetching:
        """Fetch the next rows.

        Args:
            count: The number of rows, at least 1.

        Returns:
            At most `count` rows; an empty list at the end.

        Raises:
            Exception: Whatever a request raised. The call has then brought nothing.
        """
        if not self._waiting and self._growth is None:
            yield from self._ask_without(count)
        if not self._waiting and self._growth is not None:
            return (yield from self._growth.fetch(count))
        delivered = len(self._given) - len(self._waiting)
        page, self._waiting = self._waiting[:count], self._waiting[count:]
        return with_rank_scores(page, delivered) if self._scores is ScoreKind.RANKS else page

    def _ask_without(self, count: int) -> Generator[RowsWithout, Sequence[QueryResult], None]:
        """Let the next rows wait, or note that they are to be fetched again from now on."""
        if len(self._given) > self._max_excluded:
            self._growth = Growth(self._scores, self._given)
            return
        answer = yield RowsWithout(count, list(self._given))
        if not answer and count < GENEROUS_K:
            answer = yield from self._ask_for_many(count)
        self._waiting = self._new(answer)
        self._given.update(dict.fromkeys(row.id for row in self._waiting))
        if answer and not self._waiting:  # the store does not exclude, so nothing follows from such an answer
            self._growth = Growth(self._scores, self._given)

    def _ask_for_many(self, count: int) -> Generator[RowsWithout, Sequence[QueryResult], Sequence[QueryResult]]:
        """Ask for many rows, because an index that is searched approximately may give none for few.

        A store that refuses so many is asked for few again, so that a failure is not taken for the end.
        """
        try:
            return (yield RowsWithout(GENEROUS_K, list(self._given)))
        except Exception as error:
            if not may_be_limit(error):
                raise
        return (yield RowsWithout(count, list(self._given)))

    def _new(self, answer: Sequence[QueryResult]) -> list[QueryResult]:
        """Return the rows of an answer that have not come, each once, best first."""
        distinct: dict[str, QueryResult] = {}
        for row in answer:
            if row.id not in self._given:
                distinct.setdefault(row.id, row)
        self._dropped += len(answer) - len(distinct)
        return list(sorted_rows(distinct, self._scores).values())


class _Excluding(SourceSearch):
    def __init__(self, source: ExclusionSource) -> None:
        self._source = source
        self._begun: tuple[SearchQuery, Exclusion] | None = None

    def fetch_first(
        self,
        query: SearchQuery,
        count: int,
        *,
        seen: Collection[str] = (),
        max_idle: int = 120,  # noqa: ARG002 - nothing is kept
    ) -> list[QueryResult]:
        self._begun = query, Exclusion(self._source.traits.scores, self._source.max_excluded, seen)
        return self.fetch_next(count)

    def fetch_next(self, count: int) -> list[QueryResult]:
        query, exclusion = require_begun(self._begun)

        def carry_out(asked: RowsWithout | BestRows | CountRows) -> Sequence[QueryResult] | None:
            if isinstance(asked, CountRows):
                return None
            if isinstance(asked, BestRows):
                return self._source.query(query, asked.count)
            return self._source.query_without(query, asked.count, asked.excluded)

        try:
            return drive(exclusion.fetch(count), carry_out)
        finally:
            self.refetched, self.limit = exclusion.refetched, exclusion.limit

    def stop(self) -> None:
        self._begun = None


class _AsyncExcluding(AsyncSourceSearch):
    def __init__(self, source: ExclusionSource) -> None:
        self._source = source
        self._begun: tuple[SearchQuery, Exclusion] | None = None

    async def fetch_first(
        self,
        query: SearchQuery,
        count: int,
        *,
        seen: Collection[str] = (),
        max_idle: int = 120,  # noqa: ARG002 - nothing is kept
    ) -> list[QueryResult]:
        self._begun = query, Exclusion(self._source.traits.scores, self._source.max_excluded, seen)
        return await self.fetch_next(count)

    async def fetch_next(self, count: int) -> list[QueryResult]:
        query, exclusion = require_begun(self._begun)

        async def carry_out(asked: RowsWithout | BestRows | CountRows) -> Sequence[QueryResult] | None:
            if isinstance(asked, CountRows):
                return None
            if isinstance(asked, BestRows):
                return await self._source.aquery(query, asked.count)
            return await self._source.aquery_without(query, asked.count, asked.excluded)

        try:
            return await adrive(exclusion.fetch(count), carry_out)
        finally:
            self.refetched, self.limit = exclusion.refetched, exclusion.limit

    async def stop(self) -> None:
        self._begun = None
