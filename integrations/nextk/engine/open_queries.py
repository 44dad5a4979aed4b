"""The open resumable queries of an engine: their number is limited, and queries that stay idle are dropped.

    start ──> open ──fetch_next──> open
                ├──stop──────────> ended
                ├──idle too long─> ended
                ├──makes room────> ended    (for another one, after some idle time: `nextk.engine.shares`)
                ├──page too large> open     (the query goes back to where a new page began, for a smaller one)
                └──failed page───> ended    (its rows left the order but reached nobody: to go on would skip them)

A page that is being read is finished before `stop` returns. Later calls raise `QueryNotFound`.

Pages are counted; the page of the start has the number 1. A request for a page by its number may be repeated as long as
it is the last page. If such a request fails, the query stays open, and the page keeps its rows until it is requested
again. A start with a uuid that the client has chosen may be repeated as long as no other page was requested.
"""

import math
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nextk.engine.fusion import Order
from nextk.engine.pages import LoadRows, RepeatablePage
from nextk.engine.reply_budget import ReplyRefused
from nextk.engine.rewinding import RewindableOrder, rewindable
from nextk.engine.shares import NO_SHARE, Share, query_to_evict
from nextk.engine.values import Match
from nextk.errors import QueryNotFound, RefusedError
from nextk.plain import shortened

_MAX_STOPPED = 1_000  # uuids that are remembered as stopped; the oldest ones are forgotten
_UUID_LENGTH = 36

Clock = Callable[[], float]
"""Returns the seconds since some fixed moment. It never goes back."""

TakeSnapshot = Callable[[], tuple[Callable[[], Order], LoadRows] | None]
"""Takes a snapshot and returns a function that ranks it and one that reads its records; `None` if there is nothing."""


@dataclass(frozen=True, slots=True)
class QueryStart:
    """A request to open a query.

    Attributes:
        take_snapshot: Takes the snapshot that the query searches.
        max_idle: The seconds after which the query expires if no page is read.
        count: The number of matches of the first page.
        uuid: The uuid that the client has chosen; `None` lets the engine choose.
        digest: A digest of the search, by which a repeated start is recognized; unused without `uuid`.
        share: The share that the query is counted in.
    """

    take_snapshot: TakeSnapshot
    max_idle: float
    count: int
    uuid: str | None = None
    digest: bytes = b""
    share: Share = NO_SHARE


class OpenQuery:
    """A resumable query, from which one page is read at a time.

    Args:
        start: The request to open it.

    Attributes:
        max_idle: The seconds after which the query expires if no page is read.
        digest: The digest of the search; `None` if the uuid was not chosen by the client.
        share: The share that the query is counted in.
        touched: The time at which a page was last read, or failed.
        busy: The lock that is held while the query is started, while a page is read, and while the query is stopped.
        ended: Whether the query was stopped, has expired or has failed.
    """

    def __init__(self, start: QueryStart) -> None:
        self.max_idle = start.max_idle
        self.digest = None if start.uuid is None else start.digest
        self.share = start.share
        self.touched = 0.0
        self.busy = threading.Lock()
        self.ended = False
        self._page = RepeatablePage(start.count)
        self._page_before: RepeatablePage | None = None
        self._source: tuple[RewindableOrder, LoadRows] | None = None

    def begin(self, order: Order, load: LoadRows) -> RepeatablePage:
        """Set what the pages are read from, and return the first page. The caller holds `busy`.

        Args:
            order: The ranked rows.
            load: Reads the records of rows.
        """
        self._source = rewindable(order), load
        return self._page

    def first_page(self, name: str, digest: bytes) -> RepeatablePage:
        """Return the first page for a repeated start. The caller holds `busy`.

        Args:
            name: The uuid of the query.
            digest: The digest of the search of the repeated start.

        Raises:
            RefusedError: The query was started with another search, or has gone on to another page.
        """
        if digest != self.digest:
            message = f"Resumable query with uuid {name} is another search: choose a new uuid for this one"
            raise RefusedError(message, 409)
        if self._page.number > 1:
            message = (
                f"Resumable query with uuid {name} has gone on to page {self._page.number}: request that page by its "
                "number, or start the search with a new uuid"
            )
            raise RefusedError(message, 409)
        return self._page

    def choose_page(self, name: str, count: int, number: int | None) -> RepeatablePage:
        """Return the page that a request is for: the last one, or a new one. The caller holds `busy`.

        Args:
            name: The uuid of the query.
            count: The number of matches.
            number: The number of the page; `None` for the next one.

        Raises:
            RefusedError: The page is neither the last one nor the next one, it was requested with another number of
                matches, or the last page has failed and was not requested again.
        """
        last = self._page
        complaint = ""
        if number not in (None, last.number, last.number + 1):
            complaint = f"page {number} cannot be read, because its last page is {last.number}: start the search anew"
        elif number == last.number and count != last.count:
            complaint = f"page {number} was requested with additionalK {last.count}: repeat the request with that"
        elif number != last.number and not last.complete:
            complaint = f"page {last.number} has failed: request it again by its number before any other page"
        if complaint:
            message = f"Resumable query with uuid {name}: {complaint}"
            raise RefusedError(message, 409)
        return last if number == last.number else RepeatablePage(count, last.number + 1)

    def read(self, page: RepeatablePage) -> list[Match]:
        """Make a page the last one and return its matches. The caller holds `busy`."""
        assert self._source is not None, "no page is read before the query begins"
        order, load = self._source
        if page is not self._page:
            order.mark()
            self._page, self._page_before = page, self._page
        return page.read(order, load)

    def withdraw_page(self) -> None:
        """Go back to where the last page began, so that it can be read with fewer matches. The caller holds `busy`.

        Nothing changes if the page before it is not remembered: only one page is withdrawn at a time.
        """
        assert self._source is not None, "no page is withdrawn before it is read"
        if self._page_before is not None:
            self._source[0].rewind()
            self._page, self._page_before = self._page_before, None

    def expired(self, now: float) -> bool:
        """Return whether the query has been idle for longer than `max_idle`. It is not idle while a page is read."""
        return self.idle_seconds(now) > self.max_idle

    def idle_seconds(self, now: float) -> float:
        """Return the seconds since a page was last read; 0 while one is being read."""
        return 0.0 if self.busy.locked() else now - self.touched

    def earliest_expiry(self, now: float) -> float:
        """Return a time before which the query does not expire."""
        return (now if self.busy.locked() else self.touched) + self.max_idle


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
        with open_query.busy:
            if open_query.ended:
                raise _unknown(name)
            page = open_query.choose_page(name, count, number)
            return self._read(name, open_query, page, keep=number is not None)

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
                if not open_query.ended:
                    self._drop(name, open_query, stopped=True)
                    return

    def sweep(self) -> None:
        """Drop every query that has been idle for longer than its `max_idle`."""
        with self._lock:
            self._sweep()

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
            self._make_room(start.share)
            self._open[name] = self._starting.pop(name)
            self._next_sweep = min(self._next_sweep, self._clock() + start.max_idle)
        return name, self._read(name, new, new.begin(rank(), load), keep=False)

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
            open_query.ended = True
            if stopped and open_query.digest is not None:  # no start ever comes with a uuid that the engine has chosen
                self._remember_stopped(name)

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
            self._open.pop(leaving).ended = True
            self.evicted += 1

    def _sweep(self) -> None:
        now = self._clock()
        if now <= self._next_sweep:  # there may be thousands of queries, and this is called for each page
            return
        for name in [name for name, open_query in self._open.items() if open_query.expired(now)]:
            self._open.pop(name).ended = True
        expiries = (open_query.earliest_expiry(now) for open_query in self._open.values())
        self._next_sweep = min(expiries, default=math.inf)


def _unknown(name: str) -> QueryNotFound:
    return QueryNotFound(f"Resumable query with uuid {shortened(name)} does not exist", 404)
