"""The client's side of an open resumable query: its state, and the two handles that callers hold.

    open ──fetch_next──> open                        ──stop──> stopped
      ├──a page's fate is unknown──> uncertain       ──stop──> stopped
      └──the server has dropped it─> gone

`HandleState` keeps the state and decides what is sent; the two handles send it. The server opens no query in a
namespace that does not exist; the handle of such a query is absent, and returns empty pages without asking the server.
"""

import asyncio
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from types import TracebackType
from typing import Self

import anyio

from nextk.errors import NextKError, PageUncertain, QueryNotFound, RefusedError
from nextk.loop_lock import LoopLock
from nextk.operations import Operation, fetch_next, stop
from nextk.transport import CLOSE_TIMEOUT, Transport
from nextk.transport.orphans import orphan_at_exit
from nextk.types import QueryResult

__all__ = ["AsyncResumableQueryHandle", "HandleStatus", "ResumableQueryHandle"]

log = logging.getLogger("nextk.handle")


class HandleStatus(Enum):
    """The states of a handle; the diagram above shows how one leads to another."""

    OPEN = "open"
    UNCERTAIN = "uncertain"  # a page may have been lost: only to be stopped
    STOPPED = "stopped"
    GONE = "gone"  # expired, or stopped by someone else
    ABSENT = "absent"  # never opened: the namespace does not exist


class HandleState:
    """The state of one handle. It does no I/O and takes no lock.

    Args:
        uuid: The resumable query on the server; `""` if the server opened none.
    """

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid
        self.status = HandleStatus.OPEN if uuid else HandleStatus.ABSENT
        self.reply_lost = False
        """Whether the reply to a page was lost. The server may then have dropped the query, too."""

    @property
    def held(self) -> bool:
        """Whether the server may still keep the query open, so that a stop would free it."""
        return self.status in (HandleStatus.OPEN, HandleStatus.UNCERTAIN)

    def next_page(self, count: int) -> Operation[list[QueryResult]] | None:
        """Return the operation that fetches the next page, or `None` if the handle is absent.

        Args:
            count: How many matches the page has at the most.

        Raises:
            RefusedError: The handle is stopped, or the server has dropped it (`QueryNotFound`).
            PageUncertain: An earlier page may have been lost.
        """
        self._refuse_gone()
        if self.status is HandleStatus.STOPPED:
            message = "this resumable query has been stopped"
            raise RefusedError(message)
        if self.status is HandleStatus.UNCERTAIN:
            message = (
                "an earlier page may have been lost, so the next one would skip it: stop this query and start anew"
            )
            raise PageUncertain(message)
        return None if self.status is HandleStatus.ABSENT else fetch_next(self.uuid, count)

    def failed(self, error: BaseException) -> None:
        """Take note that a page was requested and did not arrive.

        Args:
            error: What was raised instead.
        """
        if self.status is not HandleStatus.OPEN:
            return
        if isinstance(error, QueryNotFound):
            self.status = HandleStatus.GONE
        elif isinstance(error, PageUncertain) or not isinstance(error, NextKError):  # lost, or interrupted on its way
            self.status, self.reply_lost = HandleStatus.UNCERTAIN, True

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
            The uuid, or `None` if the query cannot be continued.
        """
        if self.status is not HandleStatus.OPEN:
            return None
        self.status = HandleStatus.STOPPED
        return self.uuid

    def _refuse_gone(self) -> None:
        if self.status is HandleStatus.GONE:
            message = f"Resumable query with uuid {self.uuid} does not exist. It was stopped, or has expired"
            raise QueryNotFound(message, 404)


class _BaseHandle:
    """The common part of both handles: their state, and a finaliser that does no I/O and takes no lock."""

    _state: HandleState

    def __init__(self, transport: Transport, uuid: str) -> None:
        self._transport = transport
        self._state = HandleState(uuid)
        self._pid = os.getpid()
        if uuid:
            orphan_at_exit(self._orphan)

    @property
    def _held(self) -> bool:
        """Whether there is a query to stop. A forked child leaves the queries of its parent alone."""
        return self._state.held and self._pid == os.getpid()

    def detach_uuid(self) -> str | None:
        """Give up the query without stopping it, so that another handle can continue it.

        Returns:
            The uuid, or `None` if the query cannot be continued.
        """
        return self._state.detach_uuid() if self._held else None

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """Handle the errors of a stop while it is being sent.

        If the reply to a page was lost, "no such query" counts as success. If the stop itself is cancelled or
        interrupted (a shield does not help against a task's own cancellation), the next call stops the query.
        """
        try:
            yield
        except QueryNotFound:
            if not self._state.reply_lost:
                raise
        except NextKError:
            raise
        except BaseException:
            self._transport.orphans.append(self._state.uuid)
            raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state.uuid or 'without a namespace'}: {self._state.status.value}>"

    def _orphan(self) -> None:
        """Leave the query to the orphans if it is still open. The end of the process calls this without a warning."""
        if self._held:
            self._state.status = HandleStatus.STOPPED
            self._transport.orphans.append(self._state.uuid)

    def __del__(self) -> None:
        if hasattr(self, "_pid") and self._held:  # else the constructor did not get that far
            self._orphan()
            warnings.warn(
                f"{type(self).__name__} {self._state.uuid} was dropped while open: use `with`, or call stop()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


class ResumableQueryHandle(_BaseHandle):
    """An open resumable query: `fetch_next` continues it, `stop` ends it, leaving `with` ends it.

    Callers from several threads wait for each other and get disjoint pages.

    Args:
        transport: The transport to the index that holds the query.
        uuid: The uuid of the query; `""` for a query that the index never opened, because its namespace does not exist.
    """

    def __init__(self, transport: Transport, uuid: str) -> None:
        super().__init__(transport, uuid)
        self._lock = threading.Lock()

    def fetch_next(self, additional_k: int) -> list[QueryResult]:
        """Fetch the next matches of this query.

        Args:
            additional_k: How many matches to return at the most, from 1 to 1,000. It may differ from call to call.

        Returns:
            The matches that follow those already returned, best first. A short page is not the end; only an empty page
            is.

        Raises:
            RefusedError: The query is stopped, has expired (`QueryNotFound`), or `additional_k` is out of range.
            PageUncertain: The reply was lost, now or earlier; this handle can only be stopped.
            TransportError: The server could not be reached. No match is lost; call again.
        """
        with self._lock:
            operation = self._state.next_page(additional_k)
            if operation is None:
                return []
            try:
                return self._transport.send(operation)
            except BaseException as error:
                self._state.failed(error)
                raise

    def stop(self) -> None:
        """End the query and free it on the server.

        Raises:
            RefusedError: The query is stopped already, or the server does not know it any more (`QueryNotFound`).
            TransportError: The server could not be reached; the query stays open there until it expires.
        """
        with self._lock:
            operation = self._state.stop_operation()
        if operation is not None:
            with self._stopping():
                self._transport.send(operation)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._held:
            try:
                self.stop()
            except NextKError as failure:
                log.info("leaving a resumable query to expire: %s", failure)


class AsyncResumableQueryHandle(_BaseHandle):
    """An open resumable query: `fetch_next` continues it, `stop` ends it, leaving `async with` ends it.

    Tasks wait for each other and get disjoint pages. If `fetch_next` is cancelled, it is unknown whether its page was
    served, so the query is stopped at once, under a shield.

    Args:
        transport: The transport to the index that holds the query.
        uuid: The uuid of the query; `""` for a query that the index never opened, because its namespace does not exist.
    """

    def __init__(self, transport: Transport, uuid: str) -> None:
        super().__init__(transport, uuid)
        self._lock = LoopLock()

    async def fetch_next(self, additional_k: int) -> list[QueryResult]:
        """Fetch the next matches of this query.

        Args:
            additional_k: How many matches to return at the most, from 1 to 1,000. It may differ from call to call.

        Returns:
            The matches that follow those already returned, best first. A short page is not the end; only an empty page
            is.

        Raises:
            RefusedError: The query is stopped, has expired (`QueryNotFound`), or `additional_k` is out of range.
            PageUncertain: The reply was lost, now or earlier; this handle can only be stopped.
            TransportError: The server could not be reached. No match is lost; call again.
        """
        async with self._lock.guard():
            operation = self._state.next_page(additional_k)
            if operation is None:
                return []
            try:
                return await self._transport.asend(operation)
            except BaseException as error:
                self._state.failed(error)
                if isinstance(error, asyncio.CancelledError):
                    await self._stop_quietly()
                raise

    async def stop(self) -> None:
        """End the query and free it on the server.

        Raises:
            RefusedError: The query is stopped already, or the server does not know it any more (`QueryNotFound`).
            TransportError: The server could not be reached; the query stays open there until it expires.
        """
        async with self._lock.guard():
            operation = self._state.stop_operation()
        if operation is not None:
            with self._stopping():
                await self._transport.asend(operation)

    async def _stop_quietly(self) -> None:
        """Stop without raising, even while the task is being cancelled."""
        operation = self._state.stop_operation()
        if operation is None:
            return
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
            try:
                with self._stopping():
                    await self._transport.asend(operation)
            except NextKError as failure:
                log.info("leaving a resumable query to expire: %s", failure)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._held:
            await self._stop_quietly()
