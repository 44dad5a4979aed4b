"""Sources that go on by asking anew without the rows that have come. Private.

`ExclusionSource` is public, by way of `nextk.stores`.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Collection, Sequence

from nextk.sessions.query import SearchQuery
from nextk.sessions.source import Continuation
from nextk.stores.asking import AskingSource, Begun
from nextk.stores.exclusion import Exclusion, RowsWithout
from nextk.stores.growth import BestRows, CountRows
from nextk.stores.legs import FusedLegs
from nextk.types import QueryResult

MAX_EXCLUDED = 10_000
"""The number of ids that a request names at most, unless a source says otherwise."""


class ExclusionSource(AskingSource):
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

    continuation = Continuation.EXCLUSION
    max_excluded: int = MAX_EXCLUDED

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

    def _begin(self, query: SearchQuery, seen: Collection[str]) -> Begun:
        legs, scores = self.legs(query), self.traits.scores
        rows: Exclusion | FusedLegs
        if len(legs) == 1:
            rows = Exclusion(scores, self.max_excluded, seen)
        else:
            rows = FusedLegs([Exclusion(scores, self.max_excluded) for _ in legs], seen)

        def arguments(asked: RowsWithout | BestRows) -> tuple[SearchQuery, int, Sequence[str]]:
            return legs[rows.leg], asked.count, asked.excluded if isinstance(asked, RowsWithout) else ()

        def ask(asked: RowsWithout | BestRows | CountRows) -> Sequence[QueryResult] | None:
            return None if isinstance(asked, CountRows) else self.query_without(*arguments(asked))

        async def aask(asked: RowsWithout | BestRows | CountRows) -> Sequence[QueryResult] | None:
            return None if isinstance(asked, CountRows) else await self.aquery_without(*arguments(asked))

        return Begun(rows, ask, aask)
