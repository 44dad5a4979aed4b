"""The open resumable queries of an engine: their number is limited, and queries that stay idle are dropped.

    start ──> open ──fetch_next──> open
                ├──stop──────────> ended
                ├──idle too long─> ended
                ├──makes room────> ended    (for another one, after some idle time: `nextk.engine.shares`)
                ├──page too large> open     (the query goes back to where a new page began, for a smaller one)
                └──failed page───> ended    (its rows left the order but reached nobody: to go on would skip them)

A page that is being read is finished before `stop` returns. Later calls raise `QueryNotFound`. An order that holds
something, such as a connection, is closed as soon as its query has ended.

Pages are counted; the page of the start has the number 1. A request for a page by its number may be repeated as long as
it is the last page. If such a request fails, the query stays open, and the page keeps its rows until it is requested
again. A start with a uuid that the client has chosen may be repeated as long as no other page was requested.
"""

import math
import threading
import uuid
from collections import Counter, deque
from collections.abc import Callable, Mapping

from nextk.engine.open_query import OpenQuery, QueryStart
from nextk.engine.pages import RepeatablePage
from nextk.engine.reply_budget import ReplyRefused
from nextk.engine.shares import Share, query_to_evict
from nextk.engine.values import Match
from nextk.errors import QueryNotFound
from nextk.plain import shortened

_MAX_STOPPED = 1_000  # uuids that are remembered as stopped; the oldest ones are forgotten
_UUID_LENGTH = 36

Clock = Callable[[], float]
"""Returns the seconds since some fixed moment. It never goes back."""


class OpenQueries:
    """The open queries of one engine by their uuid.

    Args:
        cap: The number of queries that may be open at the same time. One share may have half of them.
        clock: The clock that measures idle times, in seconds; tests replace it.

    Attributes:
        evicted: The number of queries that were dropped so far to make room for others.
    """

    def __init__(self, cap: int, clock: Clock) -> None:
        self._cap = cap
        self._clock = clock
        self._lock = threading.Lock()
        self._starting: dict[str, OpenQuery] = {}  # those whose snapshot is not taken yet; they need no room so far
        self._open: dict[str, OpenQuery] = {}
        self._ended: deque[OpenQuery] = deque()  # those whose orders are not released yet
        self._stopped: dict[str, None] = {}  # uuids in the order in which they were stopped
        self.evicted = 0
        self._next_sweep = math.inf  # no query expires before this time

    def __len__(self) -> int:
        return len(self._open)

    def shares(self) -> Mapping[Share, int]:
        """Return the number of open queries of each share that has any."""
        with self._lock:
            return Counter(open_query.share for open_query in self._open.values())

    def start(self, start: QueryStart) -> tuple[str, list[Match]]:
        """Open a query and read its first page, or read the first page again if the start is a repeated one.

        A start that is repeated while the first one is still being answered waits for it, and searches nothing.

        Args:
            start: The request.

        Returns:
            The uuid and the first page; `""` and no matches if there is nothing to search.

        Raises:
            TooManyQueries: As many queries are open as the cap allows, or as one share may have, and none of those
                that could make room has been idle for long enough.
            QueryNotFound: The uuid that the client has chosen was stopped already.
            RefusedError: That uuid belongs to another search, or its query has gone on to another page.
        """
        name = start.uuid or str(uuid.uuid4())
        try:
            return self._start(name, start)
        finally:
            self._release_ended()

    def require(self, name: str) -> OpenQuery:
        """Return the open query that has a uuid.

        Raises:
            QueryNotFound: The query was stopped, has expired, or never existed.
        """
        with self._lock:
            open_query = self._find(name)
        if open_query is None:
            raise _unknown(name)
        return open_query

    def fetch_next(self, name: str, count: int, number: int | None = None) -> list[Match]:
        """Return the next matches of a query, or those of its last page again.

        Callers with the same uuid wait for each other. Those that give no number get disjoint pages.

        Args:
            name: The uuid of the query.
            count: The number of matches.
            number: The number of the page, which may be the last one again; `None` for the next page.

        Raises:
            QueryNotFound: The query was stopped, has expired, or never existed.
            RefusedError: The query has no such page to give; see `OpenQuery.choose_page`.
        """
        open_query = self.require(name)
        try:
            with open_query.busy:
                if open_query.ended:
                    raise _unknown(name)
                page = open_query.choose_page(name, count, number)
                return self._read(name, open_query, page, keep=number is not None)
        finally:
            self._release_ended()

    def stop(self, name: str) -> None:
        """Stop a query as soon as it is started, or the page that is being read is finished.

        A start that comes later than the stop of the uuid that its client has chosen opens nothing.

        Raises:
            QueryNotFound: The query was stopped already, has expired, or never existed.
        """
        while True:
            with self._lock:
                open_query = self._find(name)
                if open_query is None:
                    self._remember_stopped(name)
                    raise _unknown(name)
            with open_query.busy:
                if open_query.ended:
                    continue
                self._drop(name, open_query, stopped=True)
            self._release_ended()
            return

    def sweep(self) -> None:
        """Drop every query that has been idle for longer than its `max_idle`."""
        with self._lock:
            self._sweep()
        self._release_ended()

    def close(self) -> None:
        """Drop all queries, once the pages that are being read are finished. Later calls raise `QueryNotFound`."""
        with self._lock:
            for open_query in (*self._open.values(), *self._starting.values()):
                self._end(open_query)
            self._open.clear()
            self._starting.clear()
        self._release_ended(wait=True)

    def _start(self, name: str, start: QueryStart) -> tuple[str, list[Match]]:
        while True:
            new = OpenQuery(start)
            with new.busy:  # registered before it is ranked, so that whoever repeats the start waits for it
                try:
                    known = self._register(name, new)
                    if known is None:
                        return self._begin(name, new, start)
                except BaseException:
                    self._drop(name, new)
                    raise
            with known.busy:
                if not known.ended:
                    return name, self._read(name, known, known.first_page(name, start.digest), keep=True)

    def _register(self, name: str, new: OpenQuery) -> OpenQuery | None:
        """Register a query that is about to be started, or return the one that has the uuid already."""
        with self._lock:
            known = self._find(name)
            if known is None:
                if name in self._stopped:
                    raise _unknown(name)
                self._starting[name] = new
        return known

    def _begin(self, name: str, new: OpenQuery, start: QueryStart) -> tuple[str, list[Match]]:
        found = start.take_snapshot()
        if found is None:
            self._drop(name, new)
            return "", []
        rank, load = found
        with self._lock:  # before ranking, which would be wasted
            if new.ended:  # the engine was closed meanwhile
                raise _unknown(name)
            self._make_room(start.share)
            self._open[name] = self._starting.pop(name)
            self._next_sweep = min(self._next_sweep, self._clock() + start.max_idle)
        self._release_ended()  # the new order may need what the one holds that has made room
        first_page = new.begin(rank(), load)
        with self._lock:
            if new.ended:  # by a close, when there was no order yet
                self._end(new)
                raise _unknown(name)
        return name, self._read(name, new, first_page, keep=False)

    def _read(self, name: str, open_query: OpenQuery, page: RepeatablePage, *, keep: bool) -> list[Match]:
        """Read a page. If that fails, the query stays open only if `keep` is true and no row can be lost.

        If the page is too large for a reply, the query stays open, for a smaller one if it was never read to its end;
        but a start opens nothing.
        """
        try:
            try:
                return open_query.read(page)
            except ReplyRefused:
                keep = page.number > 1
                if keep and not page.complete:  # a complete one was sent, and whoever has it goes on from there
                    open_query.withdraw_page()
                raise
        except BaseException:
            if not keep or page.torn:
                self._drop(name, open_query)
            raise
        finally:
            open_query.touched = self._clock()

    def _drop(self, name: str, open_query: OpenQuery, *, stopped: bool = False) -> None:
        with self._lock:
            for queries in (self._open, self._starting):
                if queries.get(name) is open_query:
                    del queries[name]
            self._end(open_query)
            if stopped and open_query.digest is not None:  # no start ever comes with a uuid that the engine has chosen
                self._remember_stopped(name)

    def _end(self, open_query: OpenQuery) -> None:
        """Let a query have ended. The caller holds the lock, and releases what has ended once it does not."""
        open_query.ended = True
        if open_query.holds:
            self._ended.append(open_query)

    def _release_ended(self, *, wait: bool = False) -> None:
        """Release what the orders of the queries hold that have ended, but for those that are being read."""
        for _ in range(len(self._ended)):
            try:
                open_query = self._ended.popleft()
            except IndexError:  # another thread has released it
                return
            if not open_query.release(wait=wait):
                self._ended.append(open_query)

    def _remember_stopped(self, name: str) -> None:
        if len(name) != _UUID_LENGTH:  # no start could have it
            return
        self._stopped.pop(name, None)
        self._stopped[name] = None
        if len(self._stopped) > _MAX_STOPPED:
            del self._stopped[next(iter(self._stopped))]

    def _find(self, name: str) -> OpenQuery | None:
        self._sweep()
        return self._open.get(name) or self._starting.get(name)

    def _make_room(self, share: Share) -> None:
        self._sweep()
        now = self._clock()
        shares = {name: open_query.share for name, open_query in self._open.items()}
        leaving = query_to_evict(shares, lambda name: self._open[name].idle_seconds(now), share, self._cap)
        if leaving is not None:
            self._end(self._open.pop(leaving))
            self.evicted += 1

    def _sweep(self) -> None:
        now = self._clock()
        if now <= self._next_sweep:  # there may be thousands of queries, and this is called for each page
            return
        for name in [name for name, open_query in self._open.items() if open_query.expired(now)]:
            self._end(self._open.pop(name))
        expiries = (open_query.earliest_expiry(now) for open_query in self._open.values())
        self._next_sweep = min(expiries, default=math.inf)


def _unknown(name: str) -> QueryNotFound:
    return QueryNotFound(f"Resumable query with uuid {shortened(name)} does not exist", 404)
