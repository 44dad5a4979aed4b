"""One resumable query: where its next page begins, and what it holds until it has ended."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from nextk.engine.fusion import Order
from nextk.engine.pages import LoadRows, RepeatablePage
from nextk.engine.rewinding import RewindableOrder, rewindable
from nextk.engine.shares import NO_SHARE, Share
from nextk.engine.values import Match
from nextk.errors import RefusedError

__all__ = ["ClosingOrder", "OpenQuery", "QueryStart", "TakeSnapshot"]

TakeSnapshot = Callable[[], tuple[Callable[[], Order], LoadRows] | None]
"""Takes a snapshot and returns a function that ranks it and one that reads its records; `None` if there is nothing."""


@runtime_checkable
class ClosingOrder(Protocol):
    """An order that holds something, which is released when the query ends."""

    def close(self) -> None:
        """Release it. Further calls do nothing."""
        ...


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
        self._held: ClosingOrder | None = None

    def begin(self, order: Order, load: LoadRows) -> RepeatablePage:
        """Set what the pages are read from, and return the first page. The caller holds `busy`.

        Args:
            order: The ranked rows.
            load: Reads the records of rows.
        """
        self._held = order if isinstance(order, ClosingOrder) else None
        self._source = rewindable(order), load
        return self._page

    @property
    def holds(self) -> bool:
        """Whether the order holds something that is to be released."""
        return self._held is not None

    def release(self, *, wait: bool) -> bool:
        """Release what the order of a query holds that has ended.

        Args:
            wait: Whether to wait for a page that is being read.

        Returns:
            Whether that is done; `False` if a page is being read.
        """
        if not self.busy.acquire(blocking=wait):
            return False
        try:
            held, self._held = self._held, None
            if held is not None:
                held.close()
        finally:
            self.busy.release()
        return True

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
