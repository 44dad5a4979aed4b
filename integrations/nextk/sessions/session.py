"""One search, continued on demand: the first pull starts it, later ones go on where it stands.

A session is lazy, and it stops its query when it is left, however it is left, and when it is exhausted. A short page is
not the end: filters may fill a page only in part. Only an empty page is. A lost reply or a lost query is recovered
without a gap and without a repeat. What it decides is in `nextk.sessions.machine`; here it is carried out.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from nextk.client import Index
from nextk.errors import ClientError
from nextk.handle import ResumableQueryHandle
from nextk.sessions.base import BaseSession, is_hybrid, note_policy_error, refuse_incomplete
from nextk.sessions.config import DEFAULT_PAGE, SearchConfig
from nextk.sessions.cursor import Cursor
from nextk.sessions.effects import CallCheck, Effect, Effects, Embed, FetchInfo, Next, PlainQuery, Release, Start
from nextk.sessions.evaluation import RowReader
from nextk.sessions.locks import ThreadLock, collecting
from nextk.sessions.query import RetrievalMode, SearchQuery
from nextk.until.policy import Policy

T = TypeVar("T")
R = TypeVar("R")


class RetrievalSession(BaseSession[T, ResumableQueryHandle]):
    """One search, pulled from on demand. Threads wait for each other and get disjoint pages.

    A call that fails decides nothing: its rows wait for the next one. One that is interrupted by the keyboard just when
    it returns may have handed rows out to nobody; go on from a cursor of before, then.

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

    _handle_type = ResumableQueryHandle

    def __init__(
        self,
        index: Index,
        query: SearchQuery,
        reader: RowReader[T],
        *,
        embed: Callable[[SearchQuery], SearchQuery] | None = None,
        texts: Sequence[str] = (),
        config: SearchConfig | None = None,
        cursor: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(index._transport, query, reader, texts, config, cursor)  # noqa: SLF001 - what it holds open
        self._index = index
        self._embed = embed
        self._lock = ThreadLock()

    def fetch_next(self, n: int) -> list[T]:
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
        return self._call(self._machine.fetching(n))

    def fetch_until(self, policy: Policy | None = None) -> list[T]:
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
        return self._call(self._machine.fetching_until(policy))

    def pages(self, n: int = DEFAULT_PAGE) -> Iterator[list[T]]:
        """Page after page of `n` rows, until the end; leaving the loop early stops the search."""
        try:
            while rows := self.fetch_next(n):
                yield rows
        finally:
            self._end_loop()

    def __iter__(self) -> Iterator[T]:
        """Every row that is left, pulled page by page; leaving the loop early stops the search.

        Each row counts as handed out when the loop gets it, so that a cursor taken in between goes on behind it.
        """
        try:
            while rows := self._fetch_one():
                yield rows[0]
        finally:
            self._end_loop()

    def _fetch_one(self) -> list[T]:
        """The next row for a loop: pulled by pages, handed out one by one."""
        return self._call(self._machine.fetching(1, DEFAULT_PAGE))

    def widen(self, *, retrieval_mode: RetrievalMode | str | None = None, filter: str | None = None) -> None:
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
        self._call(self._machine.widening(retrieval_mode, filter))

    def cursor(self) -> Cursor:
        """Where the search stands, as plain data: `resume` goes on from there, in any process and as often as wanted.

        It holds no secret, no uuid and no function, and of filter and namespace only a fingerprint. It does name every
        row that was pulled, those too that a check has denied: keep it on your side. Resuming pulls as many rows again,
        unless the query is still parked (`detach`); beyond `max_recovery` of them it raises `LimitReached`.

        Raises:
            ClientError: Rows of before `widen` are set aside, and the search does not find them again in its new mode;
                or a policy remembers what is not JSON.
        """
        with self._lock.guard():
            return self._position()

    def detach(self) -> Cursor:
        """End this session, but leave its query open for a while for whoever resumes the cursor in this process.

        That saves the replay. Without it, or in another process, resuming replays; the rows are the same.
        """
        with self._lock.guard():
            self._refuse_stopped()
            cursor = self._park()
            self._release()
            return cursor

    def stop(self) -> None:
        """End the search; calling it again does nothing, and it never raises for a query that is gone.

        It waits for a call that another thread is in, which asks for no further page.
        """
        self._stopped = True
        with self._lock.guard():
            self._adopt_parked()
            self._release()

    def _end_loop(self) -> None:
        """End the search when a loop over it is left. That may happen in a finaliser, which must not wait."""
        if self.exhausted:
            return
        self._stopped = True
        if collecting():  # this thread may hold any lock of the index's: let the next request end it
            self._orphan_query()
        elif self._lock.is_free():  # else whoever is in a call lets go
            self.stop()

    def _orphan_query(self) -> None:
        if self._lock.is_free():
            handle, self._handle = self._handle, None
            uuid = None if handle is None else handle.detach_uuid()
            if uuid is not None:
                self._transport.orphans.append(uuid)
            self._release_slot()

    def _call(self, effects: Effects[R]) -> R:
        with self._lock.guard():
            self._refuse_stopped()
            self._adopt_parked()
            try:
                return self._drive(effects)
            finally:
                if self._machine.index_exhausted or self._stopped:
                    self._release()

    def _drive(self, effects: Effects[R]) -> R:
        try:
            effect = next(effects)
            while True:
                try:
                    answer = self._perform(effect)
                except Exception as error:
                    effect = effects.throw(error)
                else:
                    effect = effects.send(answer)
        except StopIteration as end:
            result: R = end.value
            return result
        finally:
            effects.close()

    def _perform(self, effect: Effect) -> Any:
        if not isinstance(effect, Release):
            self._refuse_stopped()
        match effect:
            case Next(size):
                assert self._handle is not None
                return self._handle.fetch_next(size)
            case Start(size):
                return self._start(size)
            case PlainQuery(size):
                assert self._machine.query is not None
                self._release_slot()  # nothing is open
                return self._index.query(top_k=size, **self._machine.query.parameters())
            case Release():
                self._end_query()
                return []
            case Embed(template):
                return refuse_incomplete(template) if self._embed is None else self._embed(template)
            case FetchInfo():
                return is_hybrid(self._index.info())
            case CallCheck(check, items):
                with note_policy_error():
                    return _not_awaitable(check(items))

    def _start(self, size: int) -> Any:
        self._end_query()
        self._slot = self._slot or self._pool.acquire()
        assert self._machine.query is not None
        parameters = self._machine.query.parameters()
        page, self._handle = self._index.resumable_query(top_k=size, max_idle=self._config.max_idle, **parameters)
        return page

    def _end_query(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.__exit__(None, None, None)

    def _release(self) -> None:
        try:
            self._end_query()
        finally:
            self._release_slot()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _not_awaitable(answer: Any) -> Any:
    """An answer that is there already; a coroutine would have to be awaited, which a blocking search cannot."""
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        message = "the check has to be awaited: give a blocking one, or search by ainvoke(), aretrieve() or aopen()"
        raise ClientError(message)
    return answer
