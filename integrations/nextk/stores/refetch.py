"""Sources that go on by asking anew for more rows. Private; `RefetchSource` is public, by way of `nextk.stores`."""

import asyncio
import logging
from collections.abc import Collection
from typing import Any

from nextk.sessions.query import SearchQuery
from nextk.sessions.source import Continuation
from nextk.stores.asking import AskingSource, Begun
from nextk.stores.growth import BestRows, CountRows, Growth

log = logging.getLogger("nextk.stores")


class RefetchSource(AskingSource):
    """A source that only takes "the k best", whose searches go on by asking anew for more.

    A subclass has an `identity` and a method `query`, and may have an `aquery` of its own, which otherwise is `query`
    on a thread. `nextk.stores` has an example.

    Attributes:
        scores: The meaning of the scores, an attribute of the class or of the object; nearness by default.
        stable_order: Whether a query finds the same rows in the same order each time; `False` by default.
        filters: Whether the source reads the filter of a query; `True` by default.
        modes: Whether the source reads the retrieval mode of a query; `False` by default.
    """

    continuation = Continuation.REFETCH

    def size(self, query: SearchQuery) -> int | None:  # noqa: ARG002
        """Return how many rows a search should find at least, if the store says so at once; by default `None`.

        It is asked for at the end of a search, to tell a store without further rows from one that gives no more.

        Args:
            query: The query. With a filter, the number of rows that pass is hardly known: 0 then says that the store
                gives all of them, however many are asked for.
        """
        return None

    def _begin(self, query: SearchQuery, seen: Collection[str]) -> Begun:
        def ask(asked: BestRows | CountRows) -> Any:
            return _size(self, query) if isinstance(asked, CountRows) else self.query(query, asked.count)

        async def aask(asked: BestRows | CountRows) -> Any:
            if isinstance(asked, CountRows):
                return await asyncio.to_thread(_size, self, query)
            return await self.aquery(query, asked.count)

        return Begun(Growth(self.traits.scores, seen), ask, aask)


def _size(source: RefetchSource, query: SearchQuery) -> int | None:
    """Return how many rows a store holds; `None` if it fails to say."""
    try:
        return source.size(query)
    except Exception:
        log.info("the store does not say how many rows it holds", exc_info=True)
        return None
