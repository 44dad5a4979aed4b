"""Open resumable queries: one cursor each, a cap on their number, and an end to those that nobody touches.

    start ──> open ──fetch_next──> open
                ├──stop──────────> gone
                ├──idle too long─> gone
                └──failed page───> gone     (its rows left the order but reached nobody: to go on would skip them)

A page that is being read finishes before a stop returns; whoever asks later is told that the query does not exist.
"""

import threading
import uuid
from collections.abc import Callable

from nextk.engine.fusion import Order
from nextk.engine.values import Match
from nextk.errors import QueryNotFound, TooManyQueries

Clock = Callable[[], float]
"""Seconds from some fixed moment; never goes back."""

Read = Callable[[Order, int], list[Match]]
"""Takes the next rows from an order and reads them: the page of a given size."""


class OpenQuery:
    """One open query: an order, and how to read from it. One page at a time."""

    def __init__(self, order: Order, read: Read, max_idle: float, now: float) -> None:
        self.max_idle = max_idle
        self.touched = now
        self.busy = threading.Lock()
        self.ended = False
        self._order = order
        self._read = read

    def fetch_next(self, count: int) -> list[Match]:
        """The next `count` matches."""
        return self._read(self._order, count)

    def expired(self, now: float) -> bool:
        """Whether nobody has touched it for too long; a page being read counts as a touch."""
        return now - self.touched > self.max_idle and not self.busy.locked()


class OpenQueries:
    """The cursors of one engine, by uuid.

    Args:
        cap: How many may be open at once.
        clock: Seconds; injected for tests.
    """

    def __init__(self, cap: int, clock: Clock) -> None:
        self._cap = cap
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, OpenQuery] = {}

    def __len__(self) -> int:
        return len(self._open)

    def start(self, order: Order, read: Read, max_idle: float, count: int) -> tuple[str, list[Match]]:
        """Read the first page and keep the rest open under a new uuid.

        Raises:
            TooManyQueries: The cap is reached.
        """
        open_query = OpenQuery(order, read, max_idle, self._clock())
        name = str(uuid.uuid4())
        with open_query.busy:  # in its place before its first page is read, so that the cap holds
            with self._lock:
                self._require_room()
                self._open[name] = open_query
            return name, self._page(name, open_query, count)

    def require_room(self) -> None:
        """Raise `TooManyQueries` where the cap is reached: before the work of ranking is done for nothing."""
        with self._lock:
            self._require_room()

    def require(self, name: str) -> OpenQuery:
        """The cursor of a uuid.

        Raises:
            QueryNotFound: It was stopped, has expired, or never existed.
        """
        with self._lock:
            self._sweep()
            open_query = self._open.get(name)
        if open_query is None:
            raise _unknown(name)
        return open_query

    def fetch_next(self, name: str, count: int) -> list[Match]:
        """The next page; callers of one uuid wait for each other and get disjoint pages."""
        open_query = self.require(name)
        with open_query.busy:
            if open_query.ended:
                raise _unknown(name)
            return self._page(name, open_query, count)

    def stop(self, name: str) -> None:
        """End a query, once the page that is being read is finished."""
        open_query = self.require(name)
        with open_query.busy:
            if open_query.ended:
                raise _unknown(name)
            self._drop(name, open_query)

    def sweep(self) -> None:
        """Drop every cursor that nobody has touched for too long."""
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
