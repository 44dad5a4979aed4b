"""`nextk.sessions.session` for an event loop."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, TypeVar

from nextk.async_client import AsyncIndex
from nextk.errors import ClientError
from nextk.handle import AsyncResumableQueryHandle
from nextk.loop_lock import LoopLock
from nextk.sessions.base import BaseSession, is_hybrid, note_policy_error, refuse_incomplete
from nextk.sessions.config import DEFAULT_PAGE, SearchConfig
from nextk.sessions.cursor import Cursor
from nextk.sessions.effects import CallCheck, Effect, Effects, Embed, FetchInfo, Next, PlainQuery, Release, Start
from nextk.sessions.evaluation import RowReader
from nextk.sessions.locks import CALL_WITHIN_CALL
from nextk.sessions.query import RetrievalMode, SearchQuery
from nextk.until.policy import Policy

T = TypeVar("T")
R = TypeVar("R")

_calls: ContextVar[tuple[object, ...]] = ContextVar("calls", default=())  # whatever a call awaits inherits it


class AsyncRetrievalSession(BaseSession[T, AsyncResumableQueryHandle]):
    """One search, pulled from on demand. Tasks wait for each other and get disjoint pages.

    Args:
        index: The index that is searched.
        query: What is asked; without text and vectors, `embed` fills them in.
        reader: How rows are read.
        embed: Fills a question in, when the first pull needs it.
        texts: The question as the caller put it; kept in cursors.
        config: Policy, bounds, and what a fault may cost.
        cursor: Where to go on, from `cursor()` or `detach()`.

    Raises:
        ClientError: The cursor is not one, or belongs to another index, namespace, filter, fusion or weighting.
    """

    _handle_type = AsyncResumableQueryHandle

    def __init__(
        self,
        index: AsyncIndex,
        query: SearchQuery,
        reader: RowReader[T],
        *,
        embed: Callable[[SearchQuery], Awaitable[SearchQuery]] | None = None,
        texts: Sequence[str] = (),
        config: SearchConfig | None = None,
        cursor: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(index._transport, query, reader, texts, config, cursor)  # noqa: SLF001 - what it holds open
        self._index = index
        self._embed = embed
        self._lock = LoopLock()
        self._current_call: object | None = None  # the call that is under way

    async def fetch_next(self, n: int) -> list[T]:
        """The next `n` rows of this search, best first.

        Args:
            n: How many, at least 1.

        Returns:
            `n` rows, each of an id that has not been served before; fewer at the end, none after it.

        Raises:
            ClientError: The session is stopped, or `n` is below 1.
            LimitReached: A bound that was set for this search leaves nothing to hand out; or the search was lost, and
                recovering it would cost more than `max_recovery` rows.
            PageUncertain: Reply after reply was lost. No row is: ask again.
            QueryNotFound: The index dropped the query again and again. No row is lost: ask again.
            TooManyQueries: Too many searches are open. No row is lost: ask again.
            TransportError: The index could not be reached. No row is lost: ask again.
        """
        return await self._call(self._machine.fetching(n))

    async def fetch_until(self, policy: Policy | None = None) -> list[T]:
        """Rows until a policy has enough, best first; the search's guards end it otherwise.

        Args:
            policy: One of `nextk.until`, or several joined with `|` and `&`; absent: the one of this search. What that
                one does not keep is never handed out, whichever policy is given here.

        Returns:
            What was kept; `report.stop_reason` says why it ended. That may be nothing, where a guard came first: only
            `exhausted` says that it is the end.

        Raises:
            ClientError: There is no policy; or it judges scores, and those of this search are made of ranks.
            NextKError: As for `fetch_next`. An exception of a policy's function comes as it is. In each case the call
                has decided nothing: its rows wait for the next one.
        """
        return await self._call(self._machine.fetching_until(policy))

    async def pages(self, n: int = DEFAULT_PAGE) -> AsyncIterator[list[T]]:
        """Page after page of `n` rows, until the end; leaving the loop early stops the search."""
        try:
            while rows := await self.fetch_next(n):
                yield rows
        finally:
            if not self.exhausted:
                await self.stop()

    async def __aiter__(self) -> AsyncIterator[T]:
        """Every row that is left, pulled page by page; leaving the loop early stops the search.

        Each row counts as handed out when the loop gets it, so that a cursor taken in between goes on behind it.
        """
        try:
            while rows := await self._fetch_one():
                yield rows[0]
        finally:
            if not self.exhausted:
                await self.stop()

    async def _fetch_one(self) -> list[T]:
        """The next row for a loop: pulled by pages, handed out one by one."""
        return await self._call(self._machine.fetching(1, DEFAULT_PAGE))

    async def widen(self, *, retrieval_mode: RetrievalMode | str | None = None, filter: str | None = None) -> None:
        """Go on with the same question in another mode, or through another filter. No id is served again.

        Rows that a policy has set aside come first. Nothing is sent before the next pull, which may raise if a model
        for the mode is missing.

        Args:
            retrieval_mode: `"dense"`, `"sparse"` or `"hybrid"`; absent: as before.
            filter: Instead of the one before; `""` for none; absent: as before.

        Raises:
            ClientError: The session is stopped, or neither differs from what it was.
            NextKError: As for `fetch_next`.
        """
        await self._call(self._machine.widening(retrieval_mode, filter))

    def cursor(self) -> Cursor:
        """Where the search stands, as plain data: `aresume` goes on from there, in any process, as often as wanted.

        It holds no secret, no uuid and no function, and of filter and namespace only a fingerprint. It does name every
        row that was pulled, those too that a check has denied: keep it on your side. Resuming pulls as many rows again,
        unless the query is still parked (`detach`); beyond `max_recovery` of them it raises `LimitReached`.

        Raises:
            ClientError: Rows of before `widen` are set aside, and the search does not find them again in its new mode;
                or a policy remembers what is not JSON.
        """
        return self._position()

    async def detach(self) -> Cursor:
        """End this session, but leave its query open for a while for whoever resumes the cursor in this process.

        That saves the replay. Without it, or in another process, resuming replays; the rows are the same.
        """
        self._refuse_reentry()
        async with self._lock.guard():
            self._refuse_stopped()
            cursor = self._park()
            await self._release()
            return cursor

    async def stop(self) -> None:
        """End the search; calling it again does nothing, and it never raises for a query that is gone.

        It does not wait for a call that another task is in, which then raises.
        """
        self._stopped = True  # at once: a cancelled scope may not let us wait for our turn
        self._adopt_parked()
        await self._release()

    async def _call(self, effects: Effects[R]) -> R:
        self._refuse_reentry()
        async with self._lock.guard():
            self._refuse_stopped()
            self._adopt_parked()
            self._current_call = call = object()
            token = _calls.set((*_calls.get(), call))
            try:
                return await self._drive(effects)
            finally:
                self._current_call = None
                _calls.reset(token)
                if self._machine.index_exhausted:
                    await self._release()

    def _refuse_reentry(self) -> None:
        if self._current_call in _calls.get():
            raise ClientError(CALL_WITHIN_CALL)

    async def _drive(self, effects: Effects[R]) -> R:
        try:
            effect = next(effects)
            while True:
                try:
                    answer = await self._perform(effect)
                except Exception as error:
                    effect = effects.throw(error)
                else:
                    effect = effects.send(answer)
        except StopIteration as end:
            result: R = end.value
            return result
        finally:
            effects.close()

    async def _perform(self, effect: Effect) -> Any:
        if not isinstance(effect, Release):
            self._refuse_stopped()
        match effect:
            case Next(size):
                assert self._handle is not None
                return await self._handle.fetch_next(size)
            case Start(size):
                return await self._start(size)
            case PlainQuery(size):
                assert self._machine.query is not None
                self._release_slot()  # nothing is open
                return await self._index.query(top_k=size, **self._machine.query.parameters())
            case Release():
                await self._end_query()
                return []
            case Embed(template):
                return refuse_incomplete(template) if self._embed is None else await self._embed(template)
            case FetchInfo():
                return is_hybrid(await self._index.info())
            case CallCheck(check, items):
                with note_policy_error():
                    return await _call_check(check, items)

    async def _start(self, size: int) -> Any:
        await self._end_query()
        self._slot = self._slot or await self._pool.aacquire()
        if self._stopped:  # by another task, while we waited
            self._release_slot()
        self._refuse_stopped()
        assert self._machine.query is not None
        parameters = self._machine.query.parameters()
        page, self._handle = await self._index.resumable_query(top_k=size, max_idle=self._config.max_idle, **parameters)
        if self._stopped:  # by another task, while the query was being opened
            await self._release()
        self._refuse_stopped()
        return page

    async def _end_query(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            await handle.__aexit__(None, None, None)

    async def _release(self) -> None:
        try:
            await self._end_query()
        finally:
            self._release_slot()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()


async def _call_check(check: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    """What a check says; one that blocks is asked on a thread."""
    if inspect.iscoroutinefunction(check):
        return await check(items)
    answer = await asyncio.to_thread(_call, check, items)
    return await answer if inspect.isawaitable(answer) else answer


def _call(check: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    try:
        return check(items)
    except StopIteration as error:  # no future takes it, and whoever awaits it would wait for ever
        message = "the check raised StopIteration"
        raise RuntimeError(message) from error
