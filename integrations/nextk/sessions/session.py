"""The blocking session: one search, continued on demand.

A session is lazy: its first pull starts the query, and later pulls continue it. The query is stopped when the session
is exhausted or left. A page that is shorter than requested is not the end, because filters may fill a page only in
part; only an empty page is. After a lost reply or a lost query a session goes on without a gap and without a repeat.
`nextk.sessions.machine` decides what a session does; this module carries it out.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from nextk.arguments import require_kind
from nextk.client import Index
from nextk.sessions.base import BaseSession
from nextk.sessions.config import DEFAULT_PAGE, SearchConfig
from nextk.sessions.cursor import Cursor
from nextk.sessions.effects import Effects, StartQuery
from nextk.sessions.evaluation import RowReader
from nextk.sessions.index_link import IndexLink
from nextk.sessions.link import Link, SourceLink
from nextk.sessions.locks import ThreadLock
from nextk.sessions.query import RetrievalMode, SearchQuery
from nextk.sessions.read_cursor import ReadCursor
from nextk.sessions.source import Source
from nextk.types import QueryResult
from nextk.until.effects import call_check, drive
from nextk.until.policy import Policy

T = TypeVar("T")
R = TypeVar("R")


class RetrievalSession(BaseSession[T, Link]):
    """One search, from which results are pulled on demand. Threads wait for each other and get disjoint pages.

    A call that raises decides nothing: its matches wait for the next call. A call that is interrupted by the keyboard
    just when it returns may have handed out results that nobody received; to get them, resume an earlier cursor.

    Args:
        source: The `Index` that is searched, or another source, of `nextk.stores`.
        query: The query. If it has neither text nor vectors, `embed` fills them in.
        reader: The conversion of matches into results.
        embed: A function that returns the query with its text or vectors. It is called when the first pull needs them.
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
        source: Index | Source,
        query: SearchQuery,
        reader: RowReader[T],
        *,
        embed: Callable[[SearchQuery], SearchQuery] | None = None,
        texts: Sequence[str] = (),
        config: SearchConfig | None = None,
        cursor: Mapping[str, Any] | ReadCursor | None = None,
        without_policies: bool = False,
    ) -> None:
        super().__init__(_link_to(source), query, reader, embed, texts, config, cursor, without_policies)
        self._lock = ThreadLock()
        self._wake = threading.Event()  # ends a pause when the session is stopped

    def fetch_next(self, n: int) -> list[T]:
        """Return the next `n` results of this search, best first.

        Args:
            n: The number of results, at least 1.

        Returns:
            `n` results, each with an id that this search has not handed out before. They are fewer at the end of the
            search or at a limit of it, and there are none after the end.

        Raises:
            ClientError: The session is stopped, or `n` is below 1.
            LimitReached: A limit of this search leaves nothing to hand out; or the query was lost, and recovering it
                would pull more than `max_recovery` matches again.
            PageUncertain: Ten requests in a row failed without progress (20 if the server numbers pages), or the
                deadline of the call or of the search was near. The last request failed by a lost reply. No match is
                lost; call again.
            QueryNotFound: The last one failed because the index had dropped the query. No match is lost; call again.
            TooManyQueries: Too many searches are open. No match is lost; call again.
            TransportError: The last one failed since the index could not be reached, or gave no usable answer. No match
                is lost; call again. An index that was never reached is tried four times, and so is one that says itself
                that it failed (`RefusedError` with a status such as 500).
        """
        return self._call(self._machine.fetch_next(n))

    def fetch_until(self, policy: Policy | None = None) -> list[T]:
        """Return results until a policy has enough, best first. The guards of the search end the call otherwise.

        Args:
            policy: A policy of `nextk.until`, or several joined with `|` and `&`; default: the policy of this search.
                Results that the policy of this search does not keep are never handed out, whichever policy is given.

        Returns:
            The results that were kept; `report.stop_reason` says why the call ended. The list may be empty if a guard
            ended the call; only `exhausted` says that the search is at its end. If a guard ended the call before the
            policy had enough, `report.shortfall` says so, and a warning in the log of `nextk.sessions`.

        Raises:
            ClientError: There is no policy; or the policy compares scores, and the scores of this search are fused
                ranks.
            NextKError: For the reasons given at `fetch_next`. An exception of a policy's own function is raised
                unchanged. In each case the call has decided nothing: its matches wait for the next call.
        """
        return self._call(self._machine.fetch_until(policy))

    def pages(self, n: int = DEFAULT_PAGE) -> Iterator[list[T]]:
        """Yield pages of `n` results until the end of the search.

        Leaving the loop early ends the session, and so does an error. After an error the query is stopped at once.
        After the loop was left it is stopped by `stop()`, by leaving the session's `with` block, by the next request on
        the index, by `Index.close()` or when the process ends, whichever comes first.

        Args:
            n: The number of results on each page, at least 1; default 10.
        """
        try:
            while page := self.fetch_next(n):
                yield page
        except BaseException as error:
            self._end_loop(error)
            raise

    def __iter__(self) -> Iterator[T]:
        """Yield every result that is left, pulled page by page. Leaving the loop early ends the session as in `pages`.

        A result counts as handed out when the loop gets it: a cursor that is taken inside the loop goes on behind it.
        """
        try:
            while page := self._fetch_one():
                yield page[0]
        except BaseException as error:
            self._end_loop(error)
            raise

    def _fetch_one(self) -> list[T]:
        """Return the next result for a loop: matches are pulled by pages, and results handed out one by one."""
        return self._call(self._machine.fetch_next(1, DEFAULT_PAGE))

    def widen(self, *, retrieval_mode: RetrievalMode | str | None = None, filter: Any = None) -> None:
        """Go on with the same query in another mode, or through another filter. No id is handed out again.

        Matches that a policy has set aside come first. Nothing is requested before the next pull, which may raise
        `ClientError` if a model for the mode is missing.

        Args:
            retrieval_mode: `"dense"`, `"sparse"` or `"hybrid"`; default: the present mode.
            filter: The filter that replaces the present one, `""` for none; default: the present filter. Another source
                than an index takes it as its store does, for example a dict.

        Raises:
            ClientError: The session is stopped, neither the mode nor the filter changes, or the source takes none.
            NextKError: For the reasons given at `fetch_next`.
        """
        self._call(self._machine.widen(retrieval_mode, filter))

    def cursor(self) -> Cursor:
        """Return the position of the search as plain data. `resume` goes on from it, in any process and repeatedly.

        A cursor holds no secret, no uuid and no function; of filter, namespace and policies it holds only fingerprints,
        and it is only resumed with the same ones. It names every match that was pulled, including those that a check
        has denied, so keep it on your side. Resuming a cursor pulls as many matches again, unless `detach` has left the
        query open; beyond `max_recovery` matches the next pull raises `LimitReached`.

        Raises:
            ClientError: Matches from before `widen` are set aside, and the search does not find them in its new mode;
                or a policy remembers data that is not JSON.
        """
        return self._lock.run(self._position)

    def detach(self) -> Cursor:
        """End this session and return its cursor, but leave the query open for a while.

        A session of this process that resumes the cursor goes on with the open query. In another process, or when the
        query is gone, the session pulls the same pages again; the results are the same.

        Raises:
            ClientError: The session is stopped, or there is no cursor for the reasons given at `cursor`.
        """
        return self._lock.run(self._detach)

    def _detach(self) -> Cursor:
        self._refuse_stopped()
        cursor = self._park()
        self._link.stop()
        return cursor

    def stop(self) -> None:
        """End the search and stop its query. A second call does nothing, and a query that is gone is no error.

        If another thread is inside a call, `stop` waits for it; that call requests no further page.
        """
        self._stopped = True
        self._wake.set()
        self._lock.run(self._stop_alone)

    def _stop_alone(self) -> None:
        self._adopt_parked()
        self._link.reclaim()
        self._link.stop()

    def _end_loop(self, error: BaseException) -> None:
        """End the session when a loop over it ends before the search.

        Args:
            error: The error of a call, after which the query is stopped at once; or `GeneratorExit` if the loop was
                left. Python may close a loop in a finaliser, in the middle of a request of this thread and under any
                lock. So the query is then left to `stop` or to the next request, without a wait.
        """
        if self.exhausted:
            return
        self._stopped = True
        if not self._lock.is_free():
            return  # the call that is under way releases the query
        if isinstance(error, GeneratorExit):
            self._link.orphan()
        else:
            self.stop()

    def _call(self, effects: Effects[R]) -> R:
        return self._lock.run(partial(self._call_alone, effects))

    def _call_alone(self, effects: Effects[R]) -> R:
        self._refuse_stopped()
        self._adopt_parked()
        try:
            return drive(effects, self._carry_out)
        finally:
            if self._state.index_exhausted or self._stopped:
                self._link.stop()

    def _start_query(self, start: StartQuery) -> list[QueryResult]:
        self._link.prepare()
        with self._explaining_models():
            page: list[QueryResult] = self._fetch_first(start)
        return page

    def _pause(self, seconds: float) -> None:
        if self._config.sleep is None:
            self._wake.wait(seconds)
        else:
            self._config.sleep(seconds)

    def _call_check(self, check: Callable[[list[Any]], Any], items: list[Any]) -> Any:
        return call_check(check, items, "search by ainvoke(), aretrieve() or aopen()")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _link_to(source: object) -> Link:
    return SourceLink(source) if isinstance(source, Source) else IndexLink(require_kind(source, Index, "source"))
