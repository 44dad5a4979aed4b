"""The open resumable queries of an engine: their number is limited, and queries that stay idle are dropped.

    start ──> open ──fetch_next──> open
                ├──stop──────────> ended
                ├──idle too long─> ended
                └──failed page───> ended    (its rows left the order but reached nobody: to go on would skip them)

A page that is being read is finished before `stop` returns. Later calls raise `QueryNotFound`.
"""

import threading
import uuid
from collections.abc import Callable

from nextk.engine.fusion import Order
from nextk.engine.values import Match
from nextk.errors import QueryNotFound, TooManyQueries

Clock = Callable[[], float]
"""Returns the seconds since some fixed moment. It never goes back."""

ReadPage = Callable[[Order, int], list[Match]]
"""Takes the next rows from an order and reads their records: a page of the given number of matches."""


class OpenQuery:
    """An open resumable query, from which one page is read at a time.

    Args:
        order: The ranked rows that no page has taken yet.
        read: Reads the next page from the order.
        max_idle: The seconds after which the query expires if no page is read.
        now: The current time of the clock.

    Attributes:
        max_idle: The seconds after which the query expires if no page is read.
        touched: The time at which the query was started or its last page was read.
        busy: The lock that is held while a page is read or the query is stopped.
        ended: Whether the query was stopped, has expired or has failed.
    """

    def __init__(self, order: Order, read: ReadPage, max_idle: float, now: float) -> None:
        self.max_idle = max_idle
        self.touched = now
        self.busy = threading.Lock()
        self.ended = False
        self._order = order
        self._read = read

    def fetch_next(self, count: int) -> list[Match]:
        """Return the next `count` matches. The caller holds `busy`."""
        return self._read(self._order, count)

    def expired(self, now: float) -> bool:
        """Return whether the query has been idle for longer than `max_idle`. It is not idle while a page is read."""
        return now - self.touched > self.max_idle and not self.busy.locked()


class OpenQueries:
    """The open queries of one engine by their uuid.

    Args:
        cap: The number of queries that may be open at the same time.
        clock: The clock that measures idle times, in seconds; tests replace it.
    """

    def __init__(self, cap: int, clock: Clock) -> None:
        self._cap = cap
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, OpenQuery] = {}

    def __len__(self) -> int:
        return len(self._open)

    def start(self, order: Order, read: ReadPage, max_idle: float, count: int) -> tuple[str, list[Match]]:
        """Read the first page of a query and keep the query open under a new uuid.

        Args:
            order: The ranked rows.
            read: Reads the next page from the order.
            max_idle: The seconds after which the query expires if no page is read.
            count: The number of matches of the first page.

        Returns:
            The uuid and the first page.

        Raises:
            TooManyQueries: As many queries are open as the cap allows.
        """
        open_query = OpenQuery(order, read, max_idle, self._clock())
        name = str(uuid.uuid4())
        with open_query.busy:  # registered before its first page is read, so that the cap holds
            with self._lock:
                self._require_room()
                self._open[name] = open_query
            return name, self._page(name, open_query, count)

    def require_room(self) -> None:
        """Raise `TooManyQueries` if the cap is reached. Called before ranking, which would be wasted."""
        with self._lock:
            self._require_room()

    def require(self, name: str) -> OpenQuery:
        """Return the open query that has a uuid.

        Raises:
            QueryNotFound: The query was stopped, has expired, or never existed.
        """
        with self._lock:
            self._sweep()
            open_query = self._open.get(name)
        if open_query is None:
            raise _unknown(name)
        return open_query

    def fetch_next(self, name: str, count: int) -> list[Match]:
        """Return the next `count` matches of a query.

        Callers with the same uuid wait for each other and get disjoint pages.

        Raises:
            QueryNotFound: The query was stopped, has expired, or never existed.
        """
        open_query = self.require(name)
        with open_query.busy:
            if open_query.ended:
                raise _unknown(name)
            return self._page(name, open_query, count)

    def stop(self, name: str) -> None:
        """Stop a query as soon as the page that is being read is finished.

        Raises:
            QueryNotFound: The query was stopped already, has expired, or never existed.
        """
        open_query = self.require(name)
        with open_query.busy:
            if open_query.ended:
                raise _unknown(name)
            self._drop(name, open_query)

    def sweep(self) -> None:
        """Drop every query that has been idle for longer than its `max_idle`."""
        with self._lock:
            self._sweep()

    def _page(self, name: str, open_query: OpenQuery, count: int) -> list[Match]:
        try:
            page = open_query.fetch_next(count)
        except BaseException:
            self._drop(name, open_query)
            raise
        open_query.touched = self._clock()
        return page

    def _drop(self, name: str, open_query: OpenQuery) -> None:
        open_query.ended = True
        with self._lock:
            self._open.pop(name, None)

    def _require_room(self) -> None:
        self._sweep()
        if len(self._open) >= self._cap:
            message = f"Exceeded max active resumable query limit: {self._cap}"
            raise TooManyQueries(message, 403)

    def _sweep(self) -> None:
        now = self._clock()
        for name in [name for name, open_query in self._open.items() if open_query.expired(now)]:
            self._open.pop(name).ended = True


def _unknown(name: str) -> QueryNotFound:
    return QueryNotFound(f"Resumable query with uuid {name} does not exist", 404)
