"""The transport over HTTP."""

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import httpx

from nextk.errors import ClientError
from nextk.operations import Operation
from nextk.payloads import estimated_size
from nextk.transport import CLOSE_TIMEOUT
from nextk.transport.connections import Route, WayToServer
from nextk.transport.deadlines import Deadline
from nextk.transport.encoding import decode, encode, plain_body, write_json
from nextk.transport.exactness import question_before, require_exact_search
from nextk.transport.exchange import areceived, received, request_of
from nextk.transport.exit import stop_queries_of_worker
from nextk.transport.numbering import Numbering
from nextk.transport.orphans import Orphans, ServerAddress
from nextk.transport.pacing import REAL, Pacing
from nextk.transport.replies import HttpReply, ReplyTooLarge
from nextk.transport.retries import Answer, Attempts, may_have_arrived

log = logging.getLogger("nextk.transport")

T = TypeVar("T")

_LARGE = 64 * 1024  # bytes of JSON; more are written and read beside the event loop

# The server surely did not see a request that failed like this: a proxy fails before it is sent through.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_MISUSE = (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError)


class HttpClients:
    """The open connections of one process: those of blocking calls, and those of each event loop."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.blocking: httpx.Client | None = None
        # A connection belongs to the event loop that made it, and is lost with it.
        self.by_loop: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}
        stop_queries_of_worker()

    def forget_closed_loops(self) -> None:
        """Drop the connections of event loops that are closed. Such connections can no longer be closed themselves."""
        for loop in [loop for loop in list(self.by_loop) if loop.is_closed()]:
            self.by_loop.pop(loop, None)


class HttpTransport:
    """Carries operations to a server: one pool of connections per process, and one per event loop.

    What the environment says of proxies and certificates is read once, here.

    Args:
        url: The base URL of the index, as `nextk.transport.address.usable_url` returned it.
        token: Its token.
        retries: How often an operation may be repeated.
        retry_interval: The longest pause before the first repeat, in seconds; see `nextk.transport.retries`.
        timeout: Seconds that an attempt may take, from connecting to the last byte of the reply.
        route: The way to the server. Default `None`, for the one that the environment says.
        pacing: How time is measured, and how pauses are made. Default: real time.

    Raises:
        ClientError: The URL has no host that could be looked up, or the environment names a proxy or certificates that
            cannot be used.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        retries: int,
        retry_interval: float,
        timeout: float,
        route: WayToServer | None = None,
        pacing: Pacing = REAL,
    ) -> None:
        self.server = ServerAddress(url, token)
        self._route: WayToServer = Route(url) if route is None else route
        self._pacing = pacing
        self._orphans = Orphans.of(self.server)
        self.orphans: deque[str] = self._orphans
        self.closing_hooks: list[Callable[[], None]] = []
        self.numbering = Numbering()
        self._retries = retries
        self._retry_interval = retry_interval
        self._timeout = timeout
        self._connections = HttpClients()
        self._abandoned: set[asyncio.Task[Any]] = set()  # starts that nobody waits for any more

    def __repr__(self) -> str:
        return f"HttpTransport({self.server.url!r})"

    @property
    def identity(self) -> str:
        """The URL of the index, which holds no secret."""
        return self.server.url

    def send(self, operation: Operation[T]) -> T:
        """Carry an operation; see `nextk.transport.Transport`."""
        content = encode(operation)
        question = question_before(operation, self.numbering)
        if question is not None:
            self.numbering.note_info(numbered=self.send(question).numbered_pages)
        require_exact_search(operation, self.numbering)
        self._stop_orphans()
        attempts = self._attempts(operation)
        while (answer := self._attempt(operation, content, attempts)) is None:
            self._pacing.sleep(attempts.pause)
        return answer.value

    async def asend(self, operation: Operation[T]) -> T:
        """Carry an operation without blocking the event loop.

        If the caller is cancelled during the start of a resumable query, the request goes on, and its query is stopped
        like one whose handle was dropped. If the event loop ends before the reply, the query is left to expire.

        Bodies and replies of more than 64 KiB are written and read in a thread.
        """
        # Read before anything is awaited, for the caller may change his records afterwards; only writing may take long.
        body, large = plain_body(operation), estimated_size(operation.body) > _LARGE
        content = await asyncio.to_thread(write_json, body) if large else write_json(body)
        question = question_before(operation, self.numbering)
        if question is not None:
            self.numbering.note_info(numbered=(await self.asend(question)).numbered_pages)
        require_exact_search(operation, self.numbering)
        await self._astop_orphans()
        attempts = self._attempts(operation)
        while True:
            attempt = self._aattempt(operation, content, attempts)
            answer = await (self._see_through(attempt, operation) if operation.starts else attempt)
            if answer is not None:
                return answer.value
            try:
                await asyncio.sleep(attempts.pause)
            except asyncio.CancelledError:
                if operation.own_uuid is not None:
                    self.orphans.append(operation.own_uuid)
                raise

    def close(self) -> None:
        """Stop the orphans and close the connections of blocking calls.

        The index may be used again afterwards, which opens new connections. A call that another thread is about to
        send opens one, too; a call that has been sent already fails.
        """
        self._run_closing_hooks()
        self._close_blocking()

    async def aclose(self) -> None:
        """Stop the orphans and close the connections of the running event loop, and those of blocking calls."""
        self._run_closing_hooks()
        own, loop = self._own(), asyncio.get_running_loop()
        try:
            await self._await_abandoned(loop)
            if loop in own.by_loop:
                await self._astop_orphans()
        finally:
            client = own.by_loop.pop(loop, None)
            if client is not None:
                await client.aclose()
        await asyncio.to_thread(self._close_blocking)

    def backup(self, path: str | os.PathLike[str], *, overwrite: bool) -> None:  # noqa: ARG002 - refused
        """Refuse: no client has a server make a file at a path of the client's choice.

        Args:
            path: Not used.
            overwrite: Not used.

        Raises:
            ClientError: Always.
        """
        message = (
            "backup copies the file of an embedded index, and this index is behind a server: run "
            "`nextk backup URL TARGET` if that is `nextk serve`"
        )
        raise ClientError(message)

    async def abackup(self, path: str | os.PathLike[str], *, overwrite: bool) -> None:
        """Refuse; see `backup`."""
        self.backup(path, overwrite=overwrite)

    def _attempts(self, operation: Operation[T]) -> Attempts[T]:
        return Attempts(operation, self._retries, self._retry_interval, chance=self._pacing.chance)

    def _run_closing_hooks(self) -> None:
        for hook in tuple(self.closing_hooks):
            hook()

    def _close_blocking(self) -> None:
        own = self._own()
        if own.blocking is None and not self.orphans:
            return
        self._stop_orphans()
        with own.lock:
            client, own.blocking = own.blocking, None
        if client is not None:
            client.close()

    def _attempt(self, operation: Operation[T], content: bytes, attempts: Attempts[T]) -> Answer[T] | None:
        try:
            reply = self._send(operation, content, self._timeout)
            return self._read(reply, attempts)
        except httpx.HTTPError as error:
            self._on_failure(attempts, error)
        except ReplyTooLarge as error:
            attempts.no_use(error)
        return None

    async def _aattempt(self, operation: Operation[T], content: bytes, attempts: Attempts[T]) -> Answer[T] | None:
        try:
            reply = await self._asend(operation, content, self._timeout)
            if reply.takes_longer_than(_LARGE):
                return await asyncio.to_thread(self._read, reply, attempts)
            return self._read(reply, attempts)
        except httpx.HTTPError as error:
            self._on_failure(attempts, error)
        except ReplyTooLarge as error:
            attempts.no_use(error)
        return None

    def _read(self, reply: HttpReply, attempts: Attempts[T]) -> Answer[T] | None:
        content = reply.take_content()
        envelope = None if content is None else decode(content)
        if envelope is not None and not envelope.keys().isdisjoint(("result", "error")):  # else a proxy may have spoken
            self.numbering.note_header(reply.numbered_pages)
        return attempts.reply(reply.status, envelope, retry_after=reply.retry_after)

    async def _see_through(
        self, attempt: Coroutine[Any, Any, Answer[T] | None], operation: Operation[T]
    ) -> Answer[T] | None:
        """Await an attempt to start a query. It goes on if we are cancelled, since its reply may name the query."""
        task = asyncio.create_task(attempt)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            self._abandoned.add(task)
            task.add_done_callback(partial(self._disown, operation.own_uuid))
            raise
        return task.result()

    def _disown(self, own_uuid: str | None, start: asyncio.Task[Any]) -> None:
        """Add the query of a cancelled start to the orphans.

        Args:
            own_uuid: The uuid that the client has made for the query, if it has made one.
            start: The attempt, which is done.
        """
        self._abandoned.discard(start)
        closed = asyncio.CancelledError("the event loop has ended, or the index was closed")
        failure = closed if start.cancelled() else start.exception()
        if failure is not None:
            uuid = own_uuid if may_have_arrived(failure) else None
        else:
            answer = start.result()
            uuid = own_uuid if answer is None else answer.value[0]  # `None` if it would have been sent again
        if uuid:
            self.orphans.append(uuid)
        elif failure is not None:
            log.info("a query whose start was cancelled is left to expire, if there is one: %s", failure)

    async def _await_abandoned(self, loop: asyncio.AbstractEventLoop) -> None:
        starts = [start for start in list(self._abandoned) if start.get_loop() is loop]
        if starts:
            _, late = await asyncio.wait(starts, timeout=CLOSE_TIMEOUT)
            for start in late:
                start.cancel()

    def _stop_orphans(self) -> None:
        clock = self._pacing.clock
        self._orphans.drain(
            lambda operation: self._send(operation, encode(operation), CLOSE_TIMEOUT), clock() + CLOSE_TIMEOUT, clock
        )

    async def _astop_orphans(self) -> None:
        clock = self._pacing.clock
        await self._orphans.adrain(
            lambda operation: self._asend(operation, encode(operation), CLOSE_TIMEOUT), clock() + CLOSE_TIMEOUT, clock
        )

    def _on_failure(self, attempts: Attempts[T], error: httpx.HTTPError) -> None:
        """Raise what follows from a failure, or return if the operation is to be sent again."""
        if isinstance(error, _MISUSE):
            message = f"the request to {self.server.url} cannot be sent: {error}"
            raise ClientError(message) from error
        reason, timed_out = None, isinstance(error, httpx.TimeoutException)
        if timed_out:
            reason = f"no whole reply within {self._timeout:g} seconds, which is what timeout= grants an attempt"
        sent = not isinstance(error, _NEVER_SENT)
        attempts.no_reply(error, reason, where=self.server.url, sent=sent, timed_out=timed_out)

    def _own(self) -> HttpClients:
        """Return the connections of this process; a forked child must not use those of its parent."""
        if self._connections.pid != os.getpid():
            self._connections = HttpClients()
        return self._connections

    def _send(self, operation: Operation[Any], content: bytes, seconds: float) -> HttpReply:
        """Send a request once, with a new client if another thread closes the present one before it is sent."""
        deadline = Deadline(seconds)
        while True:
            client = self._sync_client()
            request = request_of(self.server, client, operation, content, deadline)
            try:
                return received(client.send(request, stream=True))
            except RuntimeError as error:
                _require_closed(client, error)

    async def _asend(self, operation: Operation[Any], content: bytes, seconds: float) -> HttpReply:
        deadline = Deadline(seconds)
        while True:
            client = self._async_client()
            request = request_of(self.server, client, operation, content, deadline)
            try:
                return await areceived(await client.send(request, stream=True))
            except RuntimeError as error:
                _require_closed(client, error)

    def _sync_client(self) -> httpx.Client:
        own = self._own()
        with own.lock:
            own.blocking = own.blocking or self._route.open()
            return own.blocking

    def _async_client(self) -> httpx.AsyncClient:
        own, loop = self._own(), asyncio.get_running_loop()
        client = own.by_loop.get(loop)
        if client is None:
            own.forget_closed_loops()
            client = own.by_loop[loop] = self._route.aopen()
        return client


def _require_closed(client: httpx.Client | httpx.AsyncClient, error: RuntimeError) -> None:
    """Raise the error again, unless it says that the client was closed before it sent anything."""
    if not (client.is_closed and str(error).startswith("Cannot send a request")):
        raise error
