"""Searches that a cursor of PostgreSQL carries on, in both colours. Private."""

import asyncio
import os
import threading
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from nextk.errors import ClientError, PageUncertain, QueryNotFound
from nextk.sessions.query import SearchQuery
from nextk.sessions.source import AsyncSourceSearch, SourceSearch
from nextk.types import QueryResult

if TYPE_CHECKING:
    from psycopg import Connection

    from nextk.postgres.scan import RankedScan
    from nextk.stores.postgres.source import PostgresSource

P = ParamSpec("P")
R = TypeVar("R")


class CursorSearch(SourceSearch):
    """One search by a cursor, which has a connection of its own from the first page to the end.

    A forked process lets the cursor of its parent alone: there the search has ended, and can begin anew.

    Args:
        source: The source.
    """

    def __init__(self, source: "PostgresSource") -> None:
        self._source = source
        self._process = os.getpid()
        self._lock = threading.Lock()  # a request that was cancelled may still run
        self._held: tuple[Connection[Any], RankedScan] | None = None
        self._begun = self._abandoned = self._left = False

    def fetch_first(
        self,
        query: SearchQuery,
        count: int,
        *,
        seen: Collection[str] = (),  # noqa: ARG002 - a cursor begins anew
        max_idle: int = 120,
    ) -> list[QueryResult]:
        """Begin the search, and fetch its first rows; see `SourceSearch.fetch_first`."""
        self._leave_to_parent()
        with self._lock:
            self._release()
            self._held = self._source._open_scan(query, max_idle)  # noqa: SLF001
            self._begun, self._abandoned, self._left = True, False, False
            return self._fetch(count)

    def fetch_next(self, count: int) -> list[QueryResult]:
        """Fetch the next rows; see `SourceSearch.fetch_next`."""
        self._leave_to_parent()
        with self._lock:
            if not self._begun:
                message = "this search has not begun, or was stopped: call fetch_first"
                raise ClientError(message)
            if self._left:
                message = "this search was begun before the process was forked, and is its parent's: start it again"
                raise QueryNotFound(message, 404)
            if self._abandoned:
                message = "a request for a page was cancelled, so that the page is lost: start the search again"
                raise PageUncertain(message)
            return self._fetch(count)

    def stop(self) -> None:
        """Give the connection back."""
        self._leave_to_parent()
        with self._lock:
            self._begun = False
            self._release()

    def abandon(self) -> None:
        """Note that the reply of the present request is lost, because nobody waits for it any more."""
        self._abandoned = True

    def _leave_to_parent(self) -> None:
        """In a forked process, forget the connection, which is the parent's, and the lock, which may never be free."""
        if self._process != os.getpid():
            self._process, self._lock = os.getpid(), threading.Lock()
            self._left, self._held = self._held is not None, None

    def _fetch(self, count: int) -> list[QueryResult]:
        if self._held is None:
            return []
        rows = self._source._scan_page(self._held[1], count)  # noqa: SLF001
        if not rows:
            self._release()  # the connection is free for another search
        return rows

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._source._close_scan(*held)  # noqa: SLF001

    def __del__(self) -> None:
        if self._held is not None and self._process == os.getpid():
            self._source._connections.orphan(self._held[0])  # noqa: SLF001


class AsyncCursorSearch(AsyncSourceSearch):
    """One search by a cursor, whose requests run on threads, so that the event loop goes on.

    Args:
        source: The source.
    """

    def __init__(self, source: "PostgresSource") -> None:
        self._search = CursorSearch(source)

    async def fetch_first(
        self, query: SearchQuery, count: int, *, seen: Collection[str] = (), max_idle: int = 120
    ) -> list[QueryResult]:
        """Begin the search, and fetch its first rows; see `SourceSearch.fetch_first`."""
        return await self._run(self._search.fetch_first, query, count, seen=seen, max_idle=max_idle)

    async def fetch_next(self, count: int) -> list[QueryResult]:
        """Fetch the next rows; see `SourceSearch.fetch_next`."""
        return await self._run(self._search.fetch_next, count)

    async def stop(self) -> None:
        """Give the connection back, once a request that was cancelled has ended."""
        await asyncio.to_thread(self._search.stop)

    async def _run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await asyncio.to_thread(function, *args, **kwargs)
        except asyncio.CancelledError:
            self._search.abandon()
            raise
