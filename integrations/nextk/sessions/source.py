"""Sources: what a session searches. An `Index` is one; `nextk.stores` makes one of any vector store.

    Source ── search() ──> SourceSearch ── fetch_first, fetch_next ──> rows ── stop()

A source says by its traits how it goes on with a search, and what its scores and its order are worth. Its rows are
`QueryResult`s: an id that no other row of the source has, a score that is higher for a nearer row, the text as `data`,
and the metadata.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nextk.sessions.query import SearchQuery
from nextk.types import QueryResult

PARKED = "_nextk_parked"
"""The attribute of a source that holds the searches of detached sessions, while they are kept."""


class Continuation(StrEnum):
    """The way in which a source goes on with a search."""

    NATIVE = "native"
    """The other side keeps the search open, as an open query or a cursor, and is asked for its next rows."""
    EXCLUSION = "exclusion"
    """The other side is asked anew for the best rows without the ids that have come. Only new rows are moved."""
    REFETCH = "refetch"
    """The other side is asked anew for more rows, and those that have come are dropped here. Rows are moved again."""


class ScoreKind(StrEnum):
    """The meaning of a source's scores."""

    NEARNESS = "nearness"
    """The score says how near a row is to the query, so that two scores can be compared with a threshold."""
    RANKS = "ranks"
    """The score is made of the rank of a row, so that it says nothing beyond the order."""


@dataclass(frozen=True, slots=True)
class SourceTraits:
    """The traits of a source, which do not change while it lives.

    Attributes:
        continuation: The way in which the source goes on with a search.
        scores: The meaning of the scores; `None` if it depends on the query and on the index, which is asked.
        stable_order: Whether one query finds the same rows in the same order each time, and however many are asked
            for, as long as nothing is written; `None` if it depends on the index, which is asked.
        filters: Whether the source takes a filter.
        modes: Whether the source takes a retrieval mode (dense, sparse, hybrid).
        exact: Whether the source can be told to find the rows in exact order, where it else may not.
    """

    continuation: Continuation
    scores: ScoreKind | None = ScoreKind.NEARNESS
    stable_order: bool | None = False
    filters: bool = True
    modes: bool = False
    exact: bool = False

    @property
    def keeps_open(self) -> bool:
        """Whether the other side keeps something open between two pages, which can be lost there."""
        return self.continuation is Continuation.NATIVE


class SourceSearch(ABC):
    """One search of a source, in blocking code. It is used by one caller at a time.

    A call that raises has brought nothing and skipped nothing: called again, it brings the same rows. A source that
    keeps a search open says by `PageUncertain` or `QueryNotFound` that this one cannot go on; the session then begins
    a new one, and drops the rows that have come before.

    Attributes:
        refetched: The number of rows that were moved although they had come before.
        limit: The number of rows that the store gives of one search at most; `None` if no such limit is known. A search
            that ends at its limit has not seen all rows.
    """

    refetched: int = 0
    limit: int | None = None

    @abstractmethod
    def fetch_first(
        self, query: SearchQuery, count: int, *, seen: Collection[str] = (), max_idle: int = 120
    ) -> list[QueryResult]:
        """Begin the search, and fetch its first rows. If that has raised, the same call may be made again.

        Args:
            query: The query, with its text or vectors, its filter and its mode.
            count: The number of rows, at least 1.
            seen: The ids of rows that have come already, if the search goes on from a cursor. They are left out. A
                source whose continuation is `native` may ignore them.
            max_idle: The number of seconds without a request after which the other side may drop the search.

        Returns:
            At most `count` rows, best first, no id twice. An empty list says that there is no row.
        """

    @abstractmethod
    def fetch_next(self, count: int) -> list[QueryResult]:
        """Fetch the next rows of the search.

        Args:
            count: The number of rows, at least 1.

        Returns:
            At most `count` rows whose ids have not come before, best first. Fewer than `count` do not mean the end; an
            empty list does.
        """

    @abstractmethod
    def stop(self) -> None:
        """Let go of the search and of what is open for it. It may be called at any time, and more than once."""


class AsyncSourceSearch(ABC):
    """One search of a source, for an event loop. `SourceSearch` describes its attributes and methods in full."""

    refetched: int = 0
    limit: int | None = None

    @abstractmethod
    async def fetch_first(
        self, query: SearchQuery, count: int, *, seen: Collection[str] = (), max_idle: int = 120
    ) -> list[QueryResult]:
        """Begin the search, and fetch its first rows; see `SourceSearch.fetch_first`.

        Args:
            query: The query, with its text or vectors, its filter and its mode.
            count: The number of rows, at least 1.
            seen: The ids of rows that have come already.
            max_idle: The number of seconds without a request after which the other side may drop the search.
        """

    @abstractmethod
    async def fetch_next(self, count: int) -> list[QueryResult]:
        """Fetch the next rows of the search; see `SourceSearch.fetch_next`.

        Args:
            count: The number of rows, at least 1.
        """

    @abstractmethod
    async def stop(self) -> None:
        """Let go of the search and of what is open for it; see `SourceSearch.stop`."""


class Source(ABC):
    """Rows that can be searched. A session searches a source, and knows nothing else about what is behind it.

    A source holds no state of a search, so that many searches can use it at the same time, from several threads.
    """

    @property
    @abstractmethod
    def traits(self) -> SourceTraits:
        """How the source goes on with a search, and what its scores and its order are worth."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """A text that names the searched rows, the same in every process, such as the store's class and collection.

        A cursor holds a fingerprint of it, and is refused by a source that has another identity.
        """

    @abstractmethod
    def query(self, query: SearchQuery, count: int) -> Sequence[QueryResult]:
        """Fetch the best rows by one request, of which nothing is kept.

        Args:
            query: The query, with its text or vectors, its filter and its mode.
            count: The number of rows, at least 1.

        Returns:
            At most `count` rows, best first.
        """

    async def aquery(self, query: SearchQuery, count: int) -> Sequence[QueryResult]:
        """Fetch the best rows by one request without blocking the event loop; by default `query` on a thread.

        Args:
            query: The query, with its text or vectors, its filter and its mode.
            count: The number of rows, at least 1.
        """
        return await asyncio.to_thread(self.query, query, count)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the attributes, without the searches that are kept for detached sessions."""
        return {name: value for name, value in vars(self).items() if name != PARKED}

    @abstractmethod
    def search(self) -> SourceSearch:
        """Return a new search. Nothing is sent before its first call."""

    @abstractmethod
    def asearch(self) -> AsyncSourceSearch:
        """Return a new search for an event loop. Nothing is sent before its first call."""
