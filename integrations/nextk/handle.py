"""The client's side of an open resumable query.

    open ──fetch_next──> open                        ──stop──> stopped
      ├──a page's fate is unknown──> uncertain       ──stop──> stopped
      └──the server has dropped it─> gone

`HandleState` holds the state and decides; the two handles only carry. An absent handle (the namespace does not exist,
so the server opened nothing) answers by itself, for ever.
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
from nextk.types import QueryResult

__all__ = ["AsyncResumableQueryHandle", "HandleStatus", "ResumableQueryHandle"]

log = logging.getLogger("nextk.handle")


class HandleStatus(Enum):
    """Where a handle is in its life."""

    OPEN = "open"
    UNCERTAIN = "uncertain"  # a page may have been lost: only to be stopped
    STOPPED = "stopped"
    GONE = "gone"  # expired, or stopped by someone else
    ABSENT = "absent"  # never opened: the namespace does not exist


class HandleState:
    """The state of one handle. No I/O, no lock."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid
        self.status = HandleStatus.OPEN if uuid else HandleStatus.ABSENT
        self.reply_lost = False
        """Whether a page's reply was lost, so that the server may have let go of the query as well."""

    @property
    def held(self) -> bool:
        """Whether the server holds something that a stop would free."""
        return self.status in (HandleStatus.OPEN, HandleStatus.UNCERTAIN)

    def next_page(self, count: int) -> Operation[list[QueryResult]] | None:
        """What to send for the next page; `None` for a handle that is absent.

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
        """A page was asked for, and none came."""
        if self.status is not HandleStatus.OPEN:
            return
        if isinstance(error, QueryNotFound):
            self.status = HandleStatus.GONE
        elif isinstance(error, PageUncertain) or not isinstance(error, NextKError):  # lost, or interrupted on its way
            self.status, self.reply_lost = HandleStatus.UNCERTAIN, True

    def stop_operation(self) -> Operation[None] | None:
        """What to send to stop; stopped from now on, so that nothing can stop it twice.

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
        """Part with the query: its uuid, and stopped as far as this handle goes. `None` if it cannot go on."""
        if self.status is not HandleStatus.OPEN:
            return None
        self.status = HandleStatus.STOPPED
        return self.uuid

    def _refuse_gone(self) -> None:
        if self.status is HandleStatus.GONE:
            message = f"Resumable query with uuid {self.uuid} does not exist. It was stopped, or has expired"
            raise QueryNotFound(message, 404)


class _BaseHandle:
    """What both colours share: their state, and a finaliser that does no I/O and takes no lock."""

    _state: HandleState

    def __init__(self, transport: Transport, uuid: str) -> None:
        self._transport = transport
        self._state = HandleState(uuid)
        self._pid = os.getpid()

    @property
    def _held(self) -> bool:
        """Whether there is something to stop, and it is ours: a forked child leaves its parent's queries alone."""
        return self._state.held and self._pid == os.getpid()

    def detach_uuid(self) -> str | None:
        """Part with the query without stopping it: its uuid, for another handle; `None` if it cannot go on."""
        return self._state.detach_uuid() if self._held else None

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """While a stop is on its way.

        Where a page's reply was lost, "no such query" is what was wanted. A stop that is cancelled or interrupted, for
        which a shield does not help against a task's own cancellation, leaves the query to the next call.
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

    def __del__(self) -> None:
        if hasattr(self, "_pid") and self._held:  # else the constructor did not get that far
            state = self._state
            state.status = HandleStatus.STOPPED
            self._transport.orphans.append(state.uuid)
            warnings.warn(
                f"{type(self).__name__} {state.uuid} was dropped while open: use `with`, or call stop()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


class ResumableQueryHandle(_BaseHandle):
    """An open resumable query: `fetch_next` continues it, `stop` ends it, leaving `with` ends it.

    Callers from several threads wait for each other and get disjoint pages.
    """

    def __init__(self, transport: Transport, uuid: str) -> None:
        super().__init__(transport, uuid)
        self._lock = threading.Lock()

    def fetch_next(self, additional_k: int) -> list[QueryResult]:
        """Fetch the next matches of this query.

        Args:
            additional_k: How many at the most, 1 to 1,000; it may differ on every call.

        Returns:
            The matches that follow those already served, best first. Fewer than asked are not the end: only an empty
            page is.

        Raises:
            RefusedError: The query is stopped, has expired (`QueryNotFound`), or the number is out of range.
            PageUncertain: The reply was lost, now or earlier; this handle can only be stopped.
            TransportError: The server could not be reached; the page is not lost, ask again.
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
            RefusedError: It is stopped already, or the server does not know it any more (`QueryNotFound`).
            TransportError: The server could not be reached; the query is left to expire.
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

    Tasks wait for each other and get disjoint pages. A cancelled `fetch_next` leaves its page uncertain, so the query
    is stopped at once, under a shield.
    """

    def __init__(self, transport: Transport, uuid: str) -> None:
        super().__init__(transport, uuid)
        self._lock = LoopLock()

    async def fetch_next(self, additional_k: int) -> list[QueryResult]:
        """Fetch the next matches of this query.

        Args:
            additional_k: How many at the most, 1 to 1,000; it may differ on every call.

        Returns:
            The matches that follow those already served, best first. Fewer than asked are not the end: only an empty
            page is.

        Raises:
            RefusedError: The query is stopped, has expired (`QueryNotFound`), or the number is out of range.
            PageUncertain: The reply was lost, now or earlier; this handle can only be stopped.
            TransportError: The server could not be reached; the page is not lost, ask again.
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
            RefusedError: It is stopped already, or the server does not know it any more (`QueryNotFound`).
            TransportError: The server could not be reached; the query is left to expire.
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
