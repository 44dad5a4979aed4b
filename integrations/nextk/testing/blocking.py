"""Blocking tests made of coroutines, for compliance suites that are written once for both colours. Private.

Blocking sessions and searches get the methods of asynchronous ones, and a test that is a coroutine is run without an
event loop: nothing in it ever waits.
"""

import functools
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from nextk.sessions import Cursor, RetrievalSession, SearchQuery
from nextk.sessions.source import AsyncSourceSearch, SourceSearch
from nextk.types import QueryResult

R = TypeVar("R")


def run_blocking(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine that never waits. No event loop is needed.

    Args:
        coroutine: The coroutine.

    Raises:
        AssertionError: The coroutine waits for something.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    coroutine.close()
    message = "a test of the blocking suite waits for an event loop"
    raise AssertionError(message)


def blocking(test: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[[Any], None]:
    """Make a blocking test of a test that is a coroutine function, and that never waits in a blocking suite.

    Args:
        test: The method of the asynchronous suite.
    """

    @functools.wraps(test)
    def run(self: Any) -> None:
        run_blocking(test(self))

    return run


class AwaitableSession:
    """A blocking session with the methods of an asynchronous one. Awaiting them never waits.

    Args:
        session: The blocking session.
    """

    def __init__(self, session: RetrievalSession[Any]) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def fetch_next(self, n: int) -> list[Any]:
        """Return the next `n` results."""
        return self._session.fetch_next(n)

    async def stop(self) -> None:
        """Stop the session."""
        self._session.stop()

    async def detach(self) -> Cursor:
        """Detach the session."""
        return self._session.detach()

    async def __aiter__(self) -> AsyncIterator[Any]:
        for row in self._session:
            yield row

    async def __aenter__(self) -> Self:
        self._session.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._session.__exit__(kind, error, traceback)


class AwaitableSearch(AsyncSourceSearch):
    """A blocking search of a source with the methods of an asynchronous one. Awaiting them never waits.

    Args:
        search: The blocking search.
    """

    def __init__(self, search: SourceSearch) -> None:
        self._search = search

    async def fetch_first(
        self, query: SearchQuery, count: int, *, seen: Collection[str] = (), max_idle: int = 120
    ) -> list[QueryResult]:
        """Begin the search, and fetch its first rows."""
        try:
            return self._search.fetch_first(query, count, seen=seen, max_idle=max_idle)
        finally:
            self._note_counts()

    async def fetch_next(self, count: int) -> list[QueryResult]:
        """Fetch the next rows of the search."""
        try:
            return self._search.fetch_next(count)
        finally:
            self._note_counts()

    async def stop(self) -> None:
        """Let go of the search."""
        self._search.stop()

    def _note_counts(self) -> None:
        self.refetched, self.limit = self._search.refetched, self._search.limit
