"""One search, continued on demand: the first pull starts it, later ones go on where it stands.

A session is lazy, and it stops its query when it is left, however it is left. A short page is not the end: filters may
fill a page only in part. Only an empty page is.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.errors import ClientError
from nextk.handle import AsyncResumableQueryHandle, ResumableQueryHandle
from nextk.retrieval.question import Question
from nextk.types import QueryResult

T = TypeVar("T")

DEFAULT_MAX_IDLE = 120
"""Seconds without a pull after which the index may drop a session's query: short, since open queries are few."""
PAGE = 10
"""How many rows iteration pulls at a time."""
MAX_PULL = 1_000
"""The most rows that an index returns at once; a larger wish is pulled in parts."""


class _BaseSession(Generic[T]):
    """What both colours share: the question, what has been served, and whether there is more."""

    def __init__(self, convert: Callable[[list[QueryResult]], list[T]], max_idle: int) -> None:
        self._convert = convert
        self._max_idle = max_idle
        self._stopped = False
        self._served: set[str] = set()
        self._ready: list[T] = []  # pulled and not yet handed out: where a later pull of the same call fails, they stay
        self.exhausted = False
        """Whether an empty page has come: nothing is left."""

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else "exhausted" if self.exhausted else "open"
        return f"<{type(self).__name__} {state}, {len(self._served)} served>"

    def _require_usable(self, count: int) -> None:
        if self._stopped:
            message = "this session has been stopped; open a new one"
            raise ClientError(message)
        if count < 1:
            message = f"fetch_next({count}): ask for at least 1"
            raise ClientError(message)

    def _missing(self, count: int) -> int:
        """How many rows to pull next so that `count` are ready; 0 once there are enough, or no more to come."""
        return 0 if self.exhausted else min(count - len(self._ready), MAX_PULL)

    def _receive(self, page: list[QueryResult]) -> None:
        self.exhausted = not page
        fresh = [match for match in page if match.id not in self._served]
        self._served.update(match.id for match in fresh)
        self._ready += self._convert(fresh)

    def _hand_out(self, count: int) -> list[T]:
        rows, self._ready = self._ready[:count], self._ready[count:]
        return rows


class RetrievalSession(_BaseSession[T]):
    """One search of a retriever, pulled from on demand.

    Args:
        index: The index that is searched.
        ask: Makes the question, when the first pull needs it; embedding happens here.
        convert: Makes a page into what the caller works with; it may leave rows out.
        max_idle: Seconds without a pull after which the index may drop the query.
    """

    def __init__(
        self,
        index: Index,
        ask: Callable[[], Question],
        convert: Callable[[list[QueryResult]], list[T]],
        max_idle: int = DEFAULT_MAX_IDLE,
    ) -> None:
        super().__init__(convert, max_idle)
        self._index = index
        self._ask = ask
        self._handle: ResumableQueryHandle | None = None

    def fetch_next(self, n: int) -> list[T]:
        """The next `n` rows of this search, best first.

        Args:
            n: How many, at least 1.

        Returns:
            `n` rows, each of an id that has not been served before; fewer at the end, none after it.

        Raises:
            ClientError: The session is stopped, or `n` is below 1.
            PageUncertain: A page's reply was lost.
        """
        self._require_usable(n)
        while (missing := self._missing(n)) > 0:
            self._receive(self._pull(missing))
        return self._hand_out(n)

    def __iter__(self) -> Iterator[T]:
        """Every row that is left, pulled page by page; the query is stopped when the loop is left."""
        try:
            while rows := self.fetch_next(PAGE):
                yield from rows
        finally:
            self.stop()

    def stop(self) -> None:
        """End the search; calling it again does nothing, and it never raises for a query that is gone."""
        self._stopped = True
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.__exit__(None, None, None)

    def _pull(self, count: int) -> list[QueryResult]:
        if self._handle is None:
            question = self._ask()
            page, self._handle = self._index.resumable_query(
                top_k=count, max_idle=self._max_idle, **question.parameters()
            )
            return page
        return self._handle.fetch_next(count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class AsyncRetrievalSession(_BaseSession[T]):
    """One search of a retriever, pulled from on demand without blocking the event loop.

    Args:
        index: The index that is searched.
        ask: Makes the question, when the first pull needs it; embedding happens here.
        convert: Makes a page into what the caller works with; it may leave rows out.
        max_idle: Seconds without a pull after which the index may drop the query.
    """

    def __init__(
        self,
        index: AsyncIndex,
        ask: Callable[[], Awaitable[Question]],
        convert: Callable[[list[QueryResult]], list[T]],
        max_idle: int = DEFAULT_MAX_IDLE,
    ) -> None:
        super().__init__(convert, max_idle)
        self._index = index
        self._ask = ask
        self._handle: AsyncResumableQueryHandle | None = None

    async def fetch_next(self, n: int) -> list[T]:
        """The next `n` rows of this search, best first.

        Args:
            n: How many, at least 1.

        Returns:
            `n` rows, each of an id that has not been served before; fewer at the end, none after it.

        Raises:
            ClientError: The session is stopped, or `n` is below 1.
            PageUncertain: A page's reply was lost.
        """
        self._require_usable(n)
        while (missing := self._missing(n)) > 0:
            self._receive(await self._pull(missing))
        return self._hand_out(n)

    async def __aiter__(self) -> AsyncIterator[T]:
        """Every row that is left, pulled page by page; the query is stopped when the loop is left."""
        try:
            while rows := await self.fetch_next(PAGE):
                for row in rows:
                    yield row
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End the search; calling it again does nothing, and it never raises for a query that is gone."""
        self._stopped = True
        handle, self._handle = self._handle, None
        if handle is not None:
            await handle.__aexit__(None, None, None)

    async def _pull(self, count: int) -> list[QueryResult]:
        if self._handle is None:
            question = await self._ask()
            page, self._handle = await self._index.resumable_query(
                top_k=count, max_idle=self._max_idle, **question.parameters()
            )
            return page
        return await self._handle.fetch_next(count)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()
