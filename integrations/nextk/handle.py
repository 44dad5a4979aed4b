"""The two handles of an open resumable query, which carry what `nextk.handle_state` decides to the index."""

import asyncio
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import anyio

from nextk.errors import NextKError, QueryNotFound, TransportError
from nextk.handle_state import HandleState, HandleStatus
from nextk.loop_lock import LoopLock
from nextk.transport import CLOSE_TIMEOUT, Transport
from nextk.transport.orphans import orphan_at_exit
from nextk.types import QueryResult

__all__ = ["AsyncResumableQueryHandle", "HandleStatus", "ResumableQueryHandle"]

log = logging.getLogger("nextk.handle")


class _BaseHandle:
    """The common part of both handles: their state, and a finaliser that does no I/O and takes no lock."""

    _state: HandleState

    def __init__(self, transport: Transport, uuid: str, page_number: int = 1, *, patient: bool = True) -> None:
        self._transport = transport
        self._state = HandleState(uuid, transport.numbering, page_number, patient=patient)
        self._pid = os.getpid()
        if uuid:
            orphan_at_exit(self._orphan)

    @property
    def _held(self) -> bool:
        """Whether there is a query to stop. A forked child leaves the queries of its parent alone."""
        return self._state.held and self._pid == os.getpid()

    @property
    def page_number(self) -> int:
        """The number of the last page that was delivered. That of the first page, which the start brought, is 1."""
        return self._state.page_number

    @property
    def can_repeat(self) -> bool:
        """Whether a page was requested that has not arrived, and that the next `fetch_next` requests again."""
        return self._state.can_repeat

    def go_on_after_loss(self) -> None:
        """Let `fetch_next` request a further page although one was lost; see `HandleState.go_on_after_loss`."""
        self._state.go_on_after_loss()

    def detach_uuid(self) -> str | None:
        """Give up the query without stopping it, so that another handle can continue it from `page_number` on.

        Returns:
            The uuid, or `None` if the query cannot be continued: it is closed, or a page of it has not arrived.
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

    def _not_stopped(self, failure: NextKError) -> None:
        """Take note that a stop failed when the handle was left. If it was lost, the next request repeats it."""
        if isinstance(failure, TransportError) and failure.sent:
            self._transport.orphans.append(self._state.uuid)
        log.info("leaving a resumable query to the next request, or to expire: %s", failure)

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

    Callers from several threads wait for each other and get disjoint pages. If a page does not arrive, and the server
    numbers pages, the next `fetch_next` requests the same page again.

    Args:
        transport: The transport to the index that holds the query.
        uuid: The uuid of the query; `""` for a query that the index never opened, because its namespace does not exist.
        page_number: The number of the last page of the query that was delivered. Default 1, for that of its start.
        patient: Whether the transport repeats requests for pages, and waits in between. `False` for one attempt at
            each: the caller repeats `fetch_next`, and waits. Default `True`.
    """

    def __init__(self, transport: Transport, uuid: str, page_number: int = 1, *, patient: bool = True) -> None:
        super().__init__(transport, uuid, page_number, patient=patient)
        self._lock = threading.Lock()

    def fetch_next(self, additional_k: int) -> list[QueryResult]:
        """Fetch the next matches of this query.

        Args:
            additional_k: How many matches to return at the most, from 1 to 1,000. It may differ from call to call. A
                page that is requested again has no more matches than were asked for at first.

        Returns:
            The matches that follow those already returned, best first. A short page is not the end; only an empty page
            is.

        Raises:
            RefusedError: The query is stopped, has expired (`QueryNotFound`), or `additional_k` is out of range.
            PageUncertain: The reply was lost, now or earlier, and the page cannot be requested again; this handle can
                only be stopped.
            TransportError: No usable reply arrived. No match is lost; call again.
            ClientError: A page is requested again, and `additional_k` is not a whole number from 1 on.
        """
        with self._lock:
            operation = self._state.next_page(additional_k)
            if operation is None:
                return self._state.take_waiting(additional_k)
            try:
                return self._state.arrived(self._transport.send(operation), additional_k)
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
                self._not_stopped(failure)


class AsyncResumableQueryHandle(_BaseHandle):
    """An open resumable query: `fetch_next` continues it, `stop` ends it, leaving `async with` ends it.

    Tasks wait for each other and get disjoint pages. If a page does not arrive, and the server numbers pages, the next
    `fetch_next` requests the same page again. If `fetch_next` is cancelled, the query is stopped at once, under a
    shield.

    Args:
        transport: The transport to the index that holds the query.
        uuid: The uuid of the query; `""` for a query that the index never opened, because its namespace does not exist.
        page_number: The number of the last page of the query that was delivered. Default 1, for that of its start.
        patient: Whether the transport repeats requests for pages, and waits in between. `False` for one attempt at
            each: the caller repeats `fetch_next`, and waits. Default `True`.
    """

    def __init__(self, transport: Transport, uuid: str, page_number: int = 1, *, patient: bool = True) -> None:
        super().__init__(transport, uuid, page_number, patient=patient)
        self._lock = LoopLock()

    async def fetch_next(self, additional_k: int) -> list[QueryResult]:
        """Fetch the next matches of this query.

        Args:
            additional_k: How many matches to return at the most, from 1 to 1,000. It may differ from call to call. A
                page that is requested again has no more matches than were asked for at first.

        Returns:
            The matches that follow those already returned, best first. A short page is not the end; only an empty page
            is.

        Raises:
            RefusedError: The query is stopped, has expired (`QueryNotFound`), or `additional_k` is out of range.
            PageUncertain: The reply was lost, now or earlier, and the page cannot be requested again; this handle can
                only be stopped.
            TransportError: No usable reply arrived. No match is lost; call again.
            ClientError: A page is requested again, and `additional_k` is not a whole number from 1 on.
        """
        async with self._lock.guard():
            operation = self._state.next_page(additional_k)
            if operation is None:
                return self._state.take_waiting(additional_k)
            try:
                return self._state.arrived(await self._transport.asend(operation), additional_k)
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
                self._not_stopped(failure)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._held:
            await self._stop_quietly()
