"""The state of a handle: which pages of a resumable query were delivered, and what may be asked of it next.

    open ──a page is requested──> uncertain ──it arrives, or surely was not served──> open    ──stop──> stopped
      │                             ├──the server numbers pages: the same page is requested again
      │                             └──it does not, or somebody else has advanced the query    ──stop──> stopped
      └──the server has dropped it──> gone

The server opens no query in a namespace that does not exist; the handle of such a query is absent, and returns empty
pages without asking the server.
"""

import os
from dataclasses import dataclass, replace
from enum import Enum

from nextk.arguments import require_count
from nextk.errors import NextKError, PageUncertain, QueryNotFound, RefusedError
from nextk.operations import Operation, Page, fetch_next, stop
from nextk.transport.numbering import Numbering
from nextk.transport.retries import may_have_arrived, require_number
from nextk.types import QueryResult

__all__ = ["HandleState", "HandleStatus"]

_REFUSED_COUNTS = (400, 422)  # statuses by which a server refuses the size of a page; it served none then

_forks = 0  # how often this process, and those that it was forked from, have forked


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - there is one process
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_count_fork)


class HandleStatus(Enum):
    """The states of a handle; the diagram above shows how one leads to another."""

    OPEN = "open"
    UNCERTAIN = "uncertain"  # a page may have been lost: it is requested again by number, or the query is stopped
    STOPPED = "stopped"
    GONE = "gone"  # expired, or stopped by someone else
    ABSENT = "absent"  # never opened: the namespace does not exist


@dataclass(frozen=True, slots=True)
class _PageRequest:
    """A page that was requested and is not known to have been delivered.

    Attributes:
        number: The number of the page.
        count: How many matches it was to have at the most.
        by_number: Whether the number was sent.
        repeated: Whether the page may have been served before.
    """

    number: int
    count: int
    by_number: bool
    repeated: bool


def _may_be_lost(request: _PageRequest, error: BaseException) -> bool:
    """Return whether the server may have served a page that did not arrive."""
    if request.by_number:
        return may_have_arrived(error)
    return isinstance(error, PageUncertain) or not isinstance(error, NextKError)  # lost, or interrupted on its way


class HandleState:
    """The state of one handle. It does no I/O and takes no lock.

    A caller takes the operation from `next_page`, sends it, and reports what became of it to `arrived` or `failed`.

    Args:
        uuid: The resumable query on the server; `""` if the server opened none.
        numbering: Whether the server numbers pages, as far as it has said so.
        page_number: The number of the last page of the query that was delivered. Default 1, for that of its start.
        patient: Whether the transport repeats requests for pages; see `Operation.patient`. Default `True`.

    Attributes:
        uuid: The resumable query on the server.
        status: The state.
        page_number: The number of the last page that was delivered.
        reply_lost: Whether the reply to a page was lost. The server may then have dropped the query, too.
    """

    def __init__(self, uuid: str, numbering: Numbering, page_number: int = 1, *, patient: bool = True) -> None:
        self.uuid = uuid
        self.status = HandleStatus.OPEN if uuid else HandleStatus.ABSENT
        self.page_number = page_number
        self.reply_lost = False
        self._numbering = numbering
        self._patient = patient
        self._requested: _PageRequest | None = None
        self._waiting: list[QueryResult] = []  # matches of a repeated page for which the caller has not asked yet
        self._forks_before = _forks

    @property
    def held(self) -> bool:
        """Whether the server may still keep the query open, so that a stop would free it."""
        return self.status in (HandleStatus.OPEN, HandleStatus.UNCERTAIN)

    @property
    def can_repeat(self) -> bool:
        """Whether a page was requested that has not arrived, and that may be requested again by its number."""
        return self.held and self._requested is not None and self._counts_pages

    @property
    def _counts_pages(self) -> bool:
        """Whether the server numbers pages, and this process alone counts those of the query."""
        # Two processes that each counted the pages of one query would both be given the same page.
        return self._numbering.said is True and self._forks_before == _forks

    def go_on_after_loss(self) -> None:
        """Let the next page be requested although the last one was lost, from a server that does not number pages.

        Only for a caller that knows the ids of the pages, so that they tell whether one was passed.
        """
        if self.status is HandleStatus.UNCERTAIN:
            self.status, self._requested = HandleStatus.OPEN, None
            self._numbering = Numbering(False)  # from now on nobody knows how many pages there were

    def next_page(self, count: int) -> Operation[Page] | None:
        """Return the operation that fetches the next page.

        Args:
            count: How many matches the page has at the most.

        Returns:
            The operation. If the last page has not arrived, it is one that requests that page again, with the count
            that it was requested with. `None` if there is nothing to send: `take_waiting` has the page.

        Raises:
            ClientError: `count` is not a whole number from 1 on, while matches wait or a page is requested again.
            RefusedError: The handle is stopped, or the server has dropped it (`QueryNotFound`).
            PageUncertain: An earlier page may have been lost, and cannot be requested again.
        """
        self._refuse_gone()
        if self.status is HandleStatus.STOPPED:
            message = "this resumable query has been stopped"
            raise RefusedError(message)
        if self.status is HandleStatus.ABSENT:
            return None
        if self._waiting:
            require_count(count, "additional_k")
            return None
        self._requested = self._next_request(count)
        number = self._requested.number if self._requested.by_number else None
        return fetch_next(self.uuid, self._requested.count, number, patient=self._patient)

    def take_waiting(self, count: int) -> list[QueryResult]:
        """Return the matches that wait, at most `count` of them; an empty page if none do."""
        if not self._waiting:
            return []
        page, self._waiting = self._waiting[:count], self._waiting[count:]
        return page

    def arrived(self, page: Page, count: int) -> list[QueryResult]:
        """Take note that the page of the last operation has arrived.

        Args:
            page: The page.
            count: How many matches the caller has asked for now.

        Returns:
            The matches of the page, at most `count` of them. The others wait for the next call.

        Raises:
            PageUncertain: The page was requested again, and the server has ignored its number.
        """
        request = self._requested
        assert request is not None, "a page arrived that was not requested"
        if request.repeated:
            require_number(page)
        self.page_number, self._waiting = request.number, page.matches[count:] if request.repeated else []
        self._requested, self.reply_lost = None, False
        if self.held:  # else it was stopped while the page was under way
            self.status = HandleStatus.OPEN
        return page.matches[:count] if request.repeated else page.matches

    def failed(self, error: BaseException) -> None:
        """Take note that a page was requested and did not arrive.

        Args:
            error: What was raised instead.
        """
        request = self._requested
        if request is None or not self.held:
            return
        if isinstance(error, QueryNotFound):
            self.status = HandleStatus.GONE
        elif isinstance(error, RefusedError) and error.status in _REFUSED_COUNTS:
            self.status, self._requested = HandleStatus.OPEN, None
        elif request.repeated or _may_be_lost(request, error):
            self.status, self.reply_lost = HandleStatus.UNCERTAIN, True
            if request.by_number and isinstance(error, PageUncertain):
                self._requested = None
        else:
            self._requested = None

    def stop_operation(self) -> Operation[None] | None:
        """Return the operation that stops the query, or `None` if the handle is absent.

        The handle counts as stopped from now on, so that nothing stops it twice.

        Raises:
            RefusedError: The handle is stopped already, or the server has dropped it (`QueryNotFound`).
        """
        self._refuse_gone()
        if self.status is HandleStatus.STOPPED:
            message = "this resumable query has been stopped already"
            raise RefusedError(message)
        if self.status is HandleStatus.ABSENT:
            return None
        self.status = HandleStatus.STOPPED
        return stop(self.uuid)

    def detach_uuid(self) -> str | None:
        """Give up the query without stopping it on the server; this handle counts as stopped.

        Returns:
            The uuid, or `None` if the query cannot be continued by another handle: a page has not arrived, or matches
            wait in this one.
        """
        if self.status is not HandleStatus.OPEN or self._requested is not None or self._waiting:
            return None
        self.status = HandleStatus.STOPPED
        return self.uuid

    def _next_request(self, count: int) -> _PageRequest:
        """Return the request for the next page, or that for the last one if it has not arrived."""
        by_number = self._counts_pages
        if self.status is HandleStatus.OPEN and self._requested is None:
            return _PageRequest(self.page_number + 1, count, by_number, repeated=False)
        if self._requested is None or not by_number:
            message = (
                "an earlier page may have been lost, so the next one would skip it: stop this query and start anew"
            )
            raise PageUncertain(message)
        require_count(count, "additional_k")  # the server is told the count of the first request
        return replace(self._requested, by_number=True, repeated=True)

    def _refuse_gone(self) -> None:
        if self.status is HandleStatus.GONE:
            message = f"Resumable query with uuid {self.uuid} does not exist. It was stopped, or has expired"
            raise QueryNotFound(message, 404)
