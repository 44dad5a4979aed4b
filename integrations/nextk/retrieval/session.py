"""One search, continued on demand: the first pull starts it, later ones go on where it stands.

A session is lazy, and it stops its query when it is left, however it is left, and when it is exhausted. A short page is
not the end: filters may fill a page only in part. Only an empty page is. A lost reply or a lost query is recovered
without a gap and without a repeat; see `nextk.retrieval.trail`.
"""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.errors import ClientError, NextKError
from nextk.handle import AsyncResumableQueryHandle, ResumableQueryHandle
from nextk.loops import LoopLock
from nextk.requests import MAX_ROWS
from nextk.retrieval.question import Question
from nextk.retrieval.trail import MAX_RECOVERY, Next, Report, Start, Step, Trail
from nextk.types import QueryResult

T = TypeVar("T")

DEFAULT_MAX_IDLE = 120
"""Seconds without a pull after which the index may drop a session's query: short, since open queries are few."""
PAGE = 10
"""How many rows iteration pulls at a time."""


class _BaseSession(Generic[T]):
    """What both colours share: where the search stands, and what waits to be handed out."""

    def __init__(self, convert: Callable[[list[QueryResult]], list[T]], max_idle: int, max_recovery: int) -> None:
        self._convert = convert
        self._max_idle = max_idle
        self._trail = Trail(max_recovery)
        self._stopped = False
        self._waiting: list[QueryResult] = []  # pulled and not yet converted: what fails on the way out stays here
        self._ready: list[T] = []  # converted and not yet handed out
        self._kept = 0

    def __repr__(self) -> str:
        state = "exhausted" if self.exhausted else "stopped" if self._stopped else "open"
        return f"<{type(self).__name__} {state}, {self._kept} served>"

    @property
    def exhausted(self) -> bool:
        """Whether an empty page has come: nothing is left to pull."""
        return self._trail.exhausted

    @property
    def report(self) -> Report:
        """What the search has done so far."""
        trail = self._trail
        return Report(
            pulls=trail.pulls,
            pulled=trail.pulled,
            kept=self._kept,
            repeated=trail.repeated,
            recovered=trail.recovered,
            changed=trail.changed,
            exhausted=trail.exhausted,
        )

    def _refuse_stopped(self) -> None:
        if self._stopped:
            message = "this session has been stopped; open a new one"
            raise ClientError(message)

    def _require_usable(self, count: int) -> None:
        self._refuse_stopped()
        if count < 1:
            message = f"fetch_next({count}): ask for at least 1"
            raise ClientError(message)

    def _missing(self, count: int) -> int:
        """How many rows to pull next so that `count` are ready; 0 once there are enough, or no more to come.

        An index returns so many at once and no more; a larger wish is pulled in parts.
        """
        return 0 if self.exhausted else min(count - len(self._ready), MAX_ROWS)

    def _receive(self, fresh: list[QueryResult]) -> None:
        """Take rows in. If converting them fails, they wait, and the next call converts them anew."""
        self._waiting += fresh
        if self._waiting:
            self._ready += self._convert(self._waiting)
            self._waiting = []

    def _hand_out(self, count: int) -> list[T]:
        rows, self._ready = self._ready[:count], self._ready[count:]
        self._kept += len(rows)
        return rows


class RetrievalSession(_BaseSession[T]):
    """One search of a retriever, pulled from on demand. Threads wait for each other and get disjoint pages.

    Args:
        index: The index that is searched.
        ask: Makes the question, when the first pull needs it; embedding happens here.
        convert: Makes a page into what the caller works with; it may leave rows out.
        max_idle: Seconds without a pull after which the index may drop the query.
        max_recovery: How many rows may be pulled again after a fault.
    """

    def __init__(
        self,
        index: Index,
        ask: Callable[[], Question],
        convert: Callable[[list[QueryResult]], list[T]],
        max_idle: int = DEFAULT_MAX_IDLE,
        max_recovery: int = MAX_RECOVERY,
    ) -> None:
        super().__init__(convert, max_idle, max_recovery)
        self._index = index
        self._ask = ask
        self._question: Question | None = None
        self._handle: ResumableQueryHandle | None = None
        self._busy = threading.Lock()

    def fetch_next(self, n: int) -> list[T]:
        """The next `n` rows of this search, best first.

        Args:
            n: How many, at least 1.

        Returns:
            `n` rows, each of an id that has not been served before; fewer at the end, none after it.

        Raises:
            ClientError: The session is stopped, or `n` is below 1.
            LimitReached: The search was lost, and recovering it would cost more than `max_recovery` rows.
            PageUncertain: Reply after reply was lost. No row is: ask again.
            QueryNotFound: The index dropped the query again and again. No row is lost: ask again.
            TransportError: The index could not be reached. No row is lost: ask again.
        """
        with self._busy:
            self._require_usable(n)
            self._receive([])
            while (missing := self._missing(n)) > 0:
                self._receive(self._pull(missing))
            if self.exhausted:
                self._let_go()
            return self._hand_out(n)

    def __iter__(self) -> Iterator[T]:
        """Every row that is left, pulled page by page; leaving the loop early stops the search."""
        try:
            while rows := self.fetch_next(PAGE):
                yield from rows
        finally:
            if not self.exhausted:
                self.stop()

    def stop(self) -> None:
        """End the search; calling it again does nothing, and it never raises for a query that is gone."""
        with self._busy:
            self._stopped = True
            self._let_go()

    def _pull(self, size: int) -> list[QueryResult]:
        steps = self._trail.pull(size)
        try:
            step = next(steps)
            while True:
                try:
                    page = self._do(step)
                except NextKError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(page)
        except StopIteration as end:
            rows: list[QueryResult] = end.value
            return rows
        finally:
            steps.close()

    def _do(self, step: Step) -> list[QueryResult]:
        match step:
            case Start(size):
                self._let_go()
                self._question = self._question or self._ask()
                parameters = self._question.parameters()
                page, self._handle = self._index.resumable_query(top_k=size, max_idle=self._max_idle, **parameters)
                return page
            case Next(size):
                assert self._handle is not None
                return self._handle.fetch_next(size)
            case _:
                self._let_go()
                return []

    def _let_go(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class AsyncRetrievalSession(_BaseSession[T]):
    """One search of a retriever, pulled from on demand. Tasks wait for each other and get disjoint pages.

    Args:
        index: The index that is searched.
        ask: Makes the question, when the first pull needs it; embedding happens here.
        convert: Makes a page into what the caller works with; it may leave rows out.
        max_idle: Seconds without a pull after which the index may drop the query.
        max_recovery: How many rows may be pulled again after a fault.
    """

    def __init__(
        self,
        index: AsyncIndex,
        ask: Callable[[], Awaitable[Question]],
        convert: Callable[[list[QueryResult]], list[T]],
        max_idle: int = DEFAULT_MAX_IDLE,
        max_recovery: int = MAX_RECOVERY,
    ) -> None:
        super().__init__(convert, max_idle, max_recovery)
        self._index = index
        self._ask = ask
        self._question: Question | None = None
        self._handle: AsyncResumableQueryHandle | None = None
        self._busy = LoopLock()

    async def fetch_next(self, n: int) -> list[T]:
        """The next `n` rows of this search, best first.

        Args:
            n: How many, at least 1.

        Returns:
            `n` rows, each of an id that has not been served before; fewer at the end, none after it.

        Raises:
            ClientError: The session is stopped, or `n` is below 1.
            LimitReached: The search was lost, and recovering it would cost more than `max_recovery` rows.
            PageUncertain: Reply after reply was lost. No row is: ask again.
            QueryNotFound: The index dropped the query again and again. No row is lost: ask again.
            TransportError: The index could not be reached. No row is lost: ask again.
        """
        async with self._busy.here():
            self._require_usable(n)
            self._receive([])
            while (missing := self._missing(n)) > 0:
                self._receive(await self._pull(missing))
            if self.exhausted:
                await self._let_go()
            return self._hand_out(n)

    async def __aiter__(self) -> AsyncIterator[T]:
        """Every row that is left, pulled page by page; leaving the loop early stops the search."""
        try:
            while rows := await self.fetch_next(PAGE):
                for row in rows:
                    yield row
        finally:
            if not self.exhausted:
                await self.stop()

    async def stop(self) -> None:
        """End the search; calling it again does nothing, and it never raises for a query that is gone."""
        self._stopped = True  # at once: a cancelled scope may not let us wait for our turn
        await self._let_go()

    async def _pull(self, size: int) -> list[QueryResult]:
        steps = self._trail.pull(size)
        try:
            step = next(steps)
            while True:
                try:
                    page = await self._do(step)
                except NextKError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(page)
        except StopIteration as end:
            rows: list[QueryResult] = end.value
            return rows
        finally:
            steps.close()

    async def _do(self, step: Step) -> list[QueryResult]:
        match step:
            case Start(size):
                self._refuse_stopped()
                await self._let_go()
                self._question = self._question or await self._ask()
                parameters = self._question.parameters()
                page, self._handle = await self._index.resumable_query(
                    top_k=size, max_idle=self._max_idle, **parameters
                )
                if self._stopped:  # by another task, while the query was being opened
                    await self._let_go()
                self._refuse_stopped()
                return page
            case Next(size):
                self._refuse_stopped()
                assert self._handle is not None
                return await self._handle.fetch_next(size)
            case _:
                await self._let_go()
                return []

    async def _let_go(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            await handle.__aexit__(None, None, None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()
