"""Links: how a session reaches what it searches. Private.

A session carries the effects of its machine out on a link. The link of an `Index` (`nextk.sessions.index_link`) keeps
an open query, a slot of the pool and the start that may have to be repeated; that of any other source keeps one
`SourceSearch`.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from nextk.sessions.pulls import PulledMatch
from nextk.sessions.query import SearchQuery
from nextk.sessions.source import PARKED, AsyncSourceSearch, Source, SourceSearch, SourceTraits
from nextk.types import InfoResult, QueryResult

MAX_PARKED = 32
"""The number of searches of detached sessions that are kept for one source."""
MAX_PARKED_SECONDS = 120.0
"""The seconds for which they are kept: as long as an index keeps an open query."""


@dataclass(slots=True)
class Undecided:
    """The matches of a detached session that were pulled and are not decided.

    Attributes:
        waiting: The matches.
        set_aside: The number of them that were set aside, the first ones.
    """

    waiting: Sequence[PulledMatch]
    set_aside: int


class BaseLink(ABC):
    """The part of a link that does no I/O.

    Attributes:
        traits: The traits of the source.
        identity: The identity of the source, for cursors.
        filter_field: The field of a `SearchQuery` that holds filters for this source.
    """

    traits: SourceTraits
    identity: str
    filter_field: Literal["filter", "store_filter"] = "store_filter"

    @property
    def refetched(self) -> int:
        """The number of rows that were moved although they had come before."""
        return 0

    @property
    def limit(self) -> int | None:
        """The number of rows that the store gives of one search at most; `None` if no such limit is known."""
        return None

    def go_on_after_loss(self) -> None:  # noqa: B027 - most links have nothing to do
        """Let the next page be requested although the last one was lost; its ids tell whether one was passed."""

    def forget(self) -> None:  # noqa: B027 - most links have nothing to do
        """Forget what is open, in a forked child: it belongs to the parent."""

    def orphan(self) -> None:  # noqa: B027 - most links have nothing to do
        """Queue what is open to be stopped later. Never waits, so that a finaliser may call it."""

    def reclaim(self) -> None:  # noqa: B027 - most links have nothing to do
        """Take back what `orphan` queued, unless it was stopped meanwhile."""

    @abstractmethod
    def park(self, key: str, undecided: Undecided) -> None:
        """Keep what is open for the session that resumes a cursor.

        Args:
            key: The digest of the cursor.
            undecided: The matches that wait.
        """

    @abstractmethod
    def adopt(self, key: str) -> Undecided | None:
        """Go on with what was kept for a cursor, if it still is.

        Args:
            key: The digest of the cursor.

        Returns:
            The matches that wait; `None` if nothing was kept.
        """


class Link(BaseLink):
    """A link of a blocking session."""

    @abstractmethod
    def prepare(self) -> None:
        """End what is open, and wait for room for a search."""

    @abstractmethod
    def fetch_first(self, query: SearchQuery, count: int, *, seen: Collection[str], max_idle: int) -> list[QueryResult]:
        """Begin the search, and fetch its first matches; see `SourceSearch.fetch_first`."""

    @abstractmethod
    def fetch_next(self, count: int) -> list[QueryResult]:
        """Fetch the next matches; see `SourceSearch.fetch_next`."""

    @abstractmethod
    def query(self, query: SearchQuery, count: int) -> list[QueryResult]:
        """Fetch matches by one plain query, while nothing is open."""

    @abstractmethod
    def fetch_info(self) -> InfoResult | None:
        """Return the description of the index; `None` for another source."""

    @abstractmethod
    def can_repeat(self) -> bool:
        """Return whether the request whose reply was lost may be made again without skipping a page."""

    @abstractmethod
    def end(self) -> None:
        """Stop the open search, but keep the room for another one."""

    @abstractmethod
    def stop(self) -> None:
        """Let go of everything."""


class AsyncLink(BaseLink):
    """A link of an asynchronous session. `Link` describes the methods."""

    @abstractmethod
    async def prepare(self) -> None:
        """End what is open, and wait for room for a search."""

    @abstractmethod
    async def fetch_first(
        self, query: SearchQuery, count: int, *, seen: Collection[str], max_idle: int
    ) -> list[QueryResult]:
        """Begin the search, and fetch its first matches."""

    @abstractmethod
    async def fetch_next(self, count: int) -> list[QueryResult]:
        """Fetch the next matches."""

    @abstractmethod
    async def query(self, query: SearchQuery, count: int) -> list[QueryResult]:
        """Fetch matches by one plain query, while nothing is open."""

    @abstractmethod
    async def fetch_info(self) -> InfoResult | None:
        """Return the description of the index; `None` for another source."""

    @abstractmethod
    async def can_repeat(self) -> bool:
        """Return whether the request whose reply was lost may be made again without skipping a page."""

    @abstractmethod
    async def end(self) -> None:
        """Stop the open search, but keep the room for another one."""

    @abstractmethod
    async def stop(self) -> None:
        """Let go of everything."""


Search = TypeVar("Search", SourceSearch, AsyncSourceSearch)


@dataclass(frozen=True, slots=True)
class _ParkedSearch(Generic[Search]):
    """The search of a detached session.

    Attributes:
        search: The search.
        undecided: The matches that wait.
        since: The time at which it was parked, by `time.monotonic`.
    """

    search: Search
    undecided: Undecided
    since: float


_lock = threading.Lock()


def _searches_of(source: Source, colour: type) -> OrderedDict[str, _ParkedSearch[Any]]:
    """Return the searches of detached sessions over a source, by the digest of their cursor.

    A source that keeps nothing open is asked for all rows anew when a cursor is resumed, unless its search is here.
    They are kept by the source object itself: two stores in memory may have the same identity, and a map of all sources
    would keep each alive, since its searches refer to it.

    Args:
        source: The source.
        colour: The class of the link, since a search of the other colour is of no use.
    """
    kept: dict[type, OrderedDict[str, _ParkedSearch[Any]]] = getattr(source, "__dict__", {}).setdefault(PARKED, {})
    return kept.setdefault(colour, OrderedDict())


class _BaseSourceLink(BaseLink, Generic[Search]):
    def __init__(self, source: Source) -> None:
        self.traits = source.traits
        self.identity = source.identity
        self._source = source
        self._search: Search | None = None
        self._begun = False  # whether the first page of the search has come
        self._refetched_before = 0  # by searches that have ended
        self._limit: int | None = None

    @property
    def refetched(self) -> int:
        return self._refetched_before + (0 if self._search is None else self._search.refetched)

    @property
    def limit(self) -> int | None:
        return self._limit if self._search is None else self._search.limit

    @property
    def _can_begin(self) -> bool:
        """Whether the present search is one whose first page has failed, and that may be asked for it again."""
        return self._search is not None and not self._begun and not self.traits.keeps_open

    def _take_search(self) -> Search | None:
        """Return the search that is to end, and note its counts."""
        search, self._search = self._search, None
        if search is not None:
            self._refetched_before += search.refetched
            self._limit = search.limit
        return search

    def forget(self) -> None:
        if self.traits.keeps_open:
            self._take_search()

    def park(self, key: str, undecided: Undecided) -> None:
        if not self.traits.keeps_open and self._search is not None:
            search = self._take_search()
            assert search is not None
            search.refetched = 0  # they stand in the cursor
            with _lock:
                kept = _searches_of(self._source, type(self))
                kept[key] = _ParkedSearch(search, undecided, time.monotonic())
                if len(kept) > MAX_PARKED:
                    kept.popitem(last=False)

    def adopt(self, key: str) -> Undecided | None:
        with _lock:
            parked = _searches_of(self._source, type(self)).pop(key, None)
        # Rows that wait are as they were when they came, so they are not handed out for ever.
        if parked is None or time.monotonic() - parked.since > MAX_PARKED_SECONDS:
            return None
        self._search, self._begun = parked.search, True
        return parked.undecided


class SourceLink(_BaseSourceLink[SourceSearch], Link):
    """The link of a blocking session to a source that is no `Index`."""

    def prepare(self) -> None:
        if not self._can_begin:
            self.end()

    def fetch_first(self, query: SearchQuery, count: int, *, seen: Collection[str], max_idle: int) -> list[QueryResult]:
        self._search = search = self._search or self._source.search()
        self._begun = False
        page = search.fetch_first(query, count, seen=seen, max_idle=max_idle)
        self._begun = True
        return page

    def fetch_next(self, count: int) -> list[QueryResult]:
        assert self._search is not None
        return self._search.fetch_next(count)

    def query(self, query: SearchQuery, count: int) -> list[QueryResult]:
        return list(self._source.query(query, count))

    def fetch_info(self) -> None:
        return None

    def can_repeat(self) -> bool:
        return not self.traits.keeps_open

    def end(self) -> None:
        search = self._take_search()
        if search is not None:
            search.stop()

    def stop(self) -> None:
        self.end()


class AsyncSourceLink(_BaseSourceLink[AsyncSourceSearch], AsyncLink):
    """The link of an asynchronous session to a source that is no `AsyncIndex`."""

    async def prepare(self) -> None:
        if not self._can_begin:
            await self.end()

    async def fetch_first(
        self, query: SearchQuery, count: int, *, seen: Collection[str], max_idle: int
    ) -> list[QueryResult]:
        self._search = search = self._search or self._source.asearch()
        self._begun = False
        page = await search.fetch_first(query, count, seen=seen, max_idle=max_idle)
        self._begun = True
        return page

    async def fetch_next(self, count: int) -> list[QueryResult]:
        assert self._search is not None
        return await self._search.fetch_next(count)

    async def query(self, query: SearchQuery, count: int) -> list[QueryResult]:
        return list(await self._source.aquery(query, count))

    async def fetch_info(self) -> None:
        return None

    async def can_repeat(self) -> bool:
        return not self.traits.keeps_open

    async def end(self) -> None:
        search = self._take_search()
        if search is not None:
            await search.stop()

    async def stop(self) -> None:
        await self.end()
