"""The asynchronous session: one search, continued on demand, for an event loop. See `nextk.sessions.session`."""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, TypeVar

from nextk.arguments import require_kind
from nextk.async_client import AsyncIndex
from nextk.errors import ClientError
from nextk.loop_lock import LoopLock
from nextk.sessions.base import BaseSession
from nextk.sessions.config import DEFAULT_PAGE, SearchConfig
from nextk.sessions.cursor import Cursor
from nextk.sessions.effects import Effects, StartQuery
from nextk.sessions.evaluation import RowReader
from nextk.sessions.index_link import AsyncIndexLink
from nextk.sessions.link import AsyncLink, AsyncSourceLink
from nextk.sessions.locks import CALL_WITHIN_CALL
from nextk.sessions.query import RetrievalMode, SearchQuery
from nextk.sessions.read_cursor import ReadCursor
from nextk.sessions.source import Source
from nextk.types import QueryResult
from nextk.until.effects import acall_check, adrive
from nextk.until.policy import Policy

T = TypeVar("T")
R = TypeVar("R")
_calls: ContextVar[tuple[object, ...]] = ContextVar("calls", default=())  # everything that a call awaits inherits it


class AsyncRetrievalSession(BaseSession[T, AsyncLink]):
    """One search, from which results are pulled on demand. Tasks wait for each other and get disjoint pages.

    A call that raises or is cancelled decides nothing: its matches wait for the next call. `RetrievalSession` is the
    blocking twin; it describes every method in full.

    Args:
        source: The `AsyncIndex` that is searched, or another source, of `nextk.stores`.
        query: The query. If it has neither text nor vectors, `embed` fills them in.
        reader: The conversion of matches into results.
        embed: A coroutine function that returns the query with its text or vectors. It is awaited when the first pull
            needs them.
        texts: The texts of the query as the caller wrote them. They are stored in cursors.
        config: The policy of the search, its limits, and how much a recovery may cost; default `SearchConfig()`.
        cursor: The position at which to go on, from `cursor()` or `detach()`; default: a new search.
        without_policies: Whether the search may go on without a policy that it had when the cursor was made, or with
            another one in its place. Default: `False`.

    Raises:
        ClientError: The cursor is not one, was edited, or belongs to another index, namespace, filter, fusion or
            weighting.
        PolicyMismatch: A policy that the search had, and that may drop matches, is missing or differs.
    """

    def __init__(
        self,
        source: AsyncIndex | Source,
        query: SearchQuery,
        reader: RowReader[T],
        *,
        embed: Callable[[SearchQuery], Awaitable[SearchQuery]] | None = None,
        texts: Sequence[str] = (),
        config: SearchConfig | None = None,
        cursor: Mapping[str, Any] | ReadCursor | None = None,
        without_policies: bool = False,
    ) -> None:
        super().__init__(_link_to(source), query, reader, embed, texts, config, cursor, without_policies)
        self._lock = LoopLock()
        self._wake: asyncio.Event | None = None  # ends the present pause when the session is stopped
        self._current_call: object | None = None  # the call that is under way

    async def fetch_next(self, n: int) -> list[T]:
        """Fetch the next `n` results of this search, best first, without blocking the event loop.

        At the end of the search there are fewer than `n`, and none after it. `RetrievalSession.fetch_next` describes
        the errors.

        Args:
            n: The number of results, at least 1.
        """
        return await self._call(self._machine.fetch_next(n))

    async def fetch_until(self, policy: Policy | None = None) -> list[T]:
        """Fetch results until a policy has enough, best first, without blocking the event loop.

        The list may be empty before the end of the search, if a guard ended the call. `RetrievalSession.fetch_until`
        describes the result and the errors.

        Args:
            policy: A policy of `nextk.until`, or several joined with `|` and `&`; default: the policy of this search.
        """
        return await self._call(self._machine.fetch_until(policy))

    async def pages(self, n: int = DEFAULT_PAGE) -> AsyncIterator[list[T]]:
        """Yield pages of `n` results until the end of the search.

        Leaving the loop early ends the session, and stops its query as soon as the event loop closes this generator. To
        stop it at once, close the generator by `contextlib.aclosing`, or leave the session by `async with`.

        Args:
            n: The number of results on each page, at least 1; default 10.
        """
        try:
            while page := await self.fetch_next(n):
                yield page
        finally:
            if not self.exhausted:
                await self.stop()

    async def __aiter__(self) -> AsyncIterator[T]:
        """Yield every result that is left, pulled page by page. Leaving the loop early ends the session as in `pages`.

        A result counts as handed out when the loop gets it: a cursor that is taken inside the loop goes on behind it.
        """
        try:
            while page := await self._fetch_one():
                yield page[0]
        finally:
            if not self.exhausted:
                await self.stop()

    async def _fetch_one(self) -> list[T]:
        """Return the next result for a loop: matches are pulled by pages, and results handed out one by one."""
        return await self._call(self._machine.fetch_next(1, DEFAULT_PAGE))

    async def widen(self, *, retrieval_mode: RetrievalMode | str | None = None, filter: Any = None) -> None:
        """Go on with the same query in another mode, or through another filter. No id is handed out again.

        Nothing is requested before the next pull. `RetrievalSession.widen` describes the errors.

        Args:
            retrieval_mode: `"dense"`, `"sparse"` or `"hybrid"`; default: the present mode.
            filter: The filter that replaces the present one, `""` for none; default: the present filter. Another source
                than an index takes it as its store does, for example a dict.
        """
        await self._call(self._machine.widen(retrieval_mode, filter))

    def cursor(self) -> Cursor:
        """Return the position of the search as plain data. `aresume` goes on from it, in any process and repeatedly.

        A cursor holds no secret, but it names every match that was pulled: `RetrievalSession.cursor` describes what it
        holds and the errors.
        """
        return self._position()

    async def detach(self) -> Cursor:
        """End this session and return its cursor, but leave the query open for a while.

        A session of this process that resumes the cursor goes on with the open query. `RetrievalSession.detach`
        describes the errors.
        """
        self._refuse_reentry()
        async with self._lock.guard():
            self._refuse_stopped()
            cursor = self._park()
            await self._link.stop()
            return cursor

    async def stop(self) -> None:
        """End the search and stop its query. A second call does nothing, and a query that is gone is no error.

        If another task is inside a call, `stop` does not wait for it; that call raises `ClientError`.
        """
        self._stopped = True  # at once: a cancelled scope may not let us wait for our turn
        if self._wake is not None:
            self._wake.set()
        self._adopt_parked()
        await self._link.stop()

    async def _call(self, effects: Effects[R]) -> R:
        self._refuse_reentry()
        async with self._lock.guard():
            self._refuse_stopped()
            self._adopt_parked()
            self._current_call = call = object()
            token = _calls.set((*_calls.get(), call))
            try:
                return await adrive(effects, self._carry_out)
            finally:
                self._current_call = None
                _calls.reset(token)
                if self._state.index_exhausted:
                    await self._link.stop()

    def _refuse_reentry(self) -> None:
        if self._current_call in _calls.get():
            raise ClientError(CALL_WITHIN_CALL)

    async def _start_query(self, start: StartQuery) -> list[QueryResult]:
        await self._link.prepare()
        await self._end_stopped()  # stopped by another task, while this one waited
        with self._explaining_models():
            page: list[QueryResult] = await self._fetch_first(start)
        await self._end_stopped()  # or while the query was being opened
        return page

    async def _end_stopped(self) -> None:
        if self._stopped:
            await self._link.stop()
        self._refuse_stopped()

    async def _pause(self, seconds: float) -> None:
        if self._config.sleep is not None:
            waited = self._config.sleep(seconds)
            if inspect.isawaitable(waited):
                await waited
            return
        self._wake = wake = asyncio.Event()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await wake.wait()
        finally:
            self._wake = None

    async def _call_check(self, check: Callable[[list[Any]], Any], items: list[Any]) -> Any:
        return await acall_check(check, items)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()


def _link_to(source: object) -> AsyncLink:
    if isinstance(source, Source):
        return AsyncSourceLink(source)
    return AsyncIndexLink(require_kind(source, AsyncIndex, "source"))
