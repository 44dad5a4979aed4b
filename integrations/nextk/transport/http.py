"""The transport over HTTP. This is the only file that imports httpx."""

import asyncio
import atexit
import contextlib
import functools
import logging
import os
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from http.cookiejar import CookieJar
from typing import Any, TypeVar

import httpx

from nextk.errors import ClientError
from nextk.operations import Operation
from nextk.transport import CLOSE_TIMEOUT
from nextk.transport.encoding import decode, encode, estimated_size, plain_body, write_json
from nextk.transport.orphans import Orphans, ServerAddress, orphan_all
from nextk.transport.retries import Answer, Attempts

log = logging.getLogger("nextk.transport")

T = TypeVar("T")

_MAX_STOPS = 8  # requests to one server at a time when the process ends
_watched_pid = 0  # the process of multiprocessing whose end we watch
_LARGE = 64 * 1024  # bytes of JSON; more are written and read beside the event loop

# The server surely did not see a request that failed like this.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_MISUSE = (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError)


class _NoCookies(CookieJar):
    """A jar that keeps and sends no cookies: the protocol has none, and looking for them costs CPU time per request."""

    def extract_cookies(self, response: object, request: object) -> None: ...

    def add_cookie_header(self, request: object) -> None: ...


@functools.cache
def _trust() -> ssl.SSLContext:
    """Return the certificates that httpx trusts by default. httpx itself would load them anew for every event loop."""
    return httpx.create_ssl_context()


class HttpClients:
    """The open connections of one process: those of blocking calls, and those of each event loop."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.blocking: httpx.Client | None = None
        # A connection belongs to the event loop that made it, and is lost with it.
        self.by_loop: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}
        _stop_queries_of_worker()

    def forget_closed_loops(self) -> None:
        """Drop the connections of event loops that are closed. Such connections can no longer be closed themselves."""
        for loop in [loop for loop in list(self.by_loop) if loop.is_closed()]:
            self.by_loop.pop(loop, None)


class HttpTransport:
    """Carries operations to a server: one pool of connections per process, and one per event loop.

    Args:
        url: The base URL of the index.
        token: Its token.
        retries: How often an operation may be repeated.
        retry_interval: The longest pause before the first repeat, in seconds; see `nextk.transport.retries`.
        timeout: Seconds for connecting, sending and waiting each.
    """

    def __init__(self, url: str, token: str, *, retries: int, retry_interval: float, timeout: float) -> None:
        self.server = ServerAddress(url.rstrip("/"), token)
        self._orphans = Orphans.of(self.server)
        self.orphans: deque[str] = self._orphans
        self.closing_hooks: list[Callable[[], None]] = []
        self._retries = retries
        self._retry_interval = retry_interval
        self._timeout = timeout
        self._connections = HttpClients()
        self._abandoned: set[asyncio.Task[Any]] = set()  # starts that nobody waits for any more

    def __repr__(self) -> str:
        return f"HttpTransport({self.server.safe_url!r})"

    @property
    def identity(self) -> str:
        """The URL of the index, without the user and password that it may hold."""
        return self.server.safe_url

    def send(self, operation: Operation[T]) -> T:
        """Carry an operation; see `nextk.transport.Transport`."""
        content = encode(operation)
        self._stop_orphans()
        attempts = Attempts(operation, self._retries, self._retry_interval)
        while (answer := self._attempt(operation, content, attempts)) is None:
            time.sleep(attempts.pause)
        return answer.value

    async def asend(self, operation: Operation[T]) -> T:
        """Carry an operation without blocking the event loop.

        If the caller is cancelled during the start of a resumable query, the request goes on, and its query is stopped
        like one whose handle was dropped. If the event loop ends before the reply, the query is left to expire.

        Bodies and replies of more than 64 KiB are written and read in a thread.
        """
        # Read before anything is awaited, for the caller may change his records afterwards; only writing may take long.
        body, large = plain_body(operation), estimated_size(operation) > _LARGE
        content = await asyncio.to_thread(write_json, body) if large else write_json(body)
        await self._astop_orphans()
        attempts = Attempts(operation, self._retries, self._retry_interval)
        while True:
            attempt = self._aattempt(operation, content, attempts)
            answer = await (self._see_through(attempt) if operation.starts else attempt)
            if answer is not None:
                return answer.value
            await asyncio.sleep(attempts.pause)

    def backup(self, path: str | os.PathLike[str], *, overwrite: bool) -> None:  # noqa: ARG002 - refused
        """Refuse: a server makes no files at the wish of a client.

        Args:
            path: Not used.
            overwrite: Not used.

        Raises:
            ClientError: Always.
        """
        message = (
            "backup copies the file of an embedded index, and this index is behind a server: run "
            "`nextk backup TARGET --index FILE` on the machine of the server"
        )
        raise ClientError(message)

    async def abackup(self, path: str | os.PathLike[str], *, overwrite: bool) -> None:
        """Refuse; see `backup`."""
        self.backup(path, overwrite=overwrite)

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
            response = self._send(operation, content, self._timeout)
        except httpx.HTTPError as error:
            self._on_failure(attempts, error)
            return None
        return _read(response, attempts)

    async def _aattempt(self, operation: Operation[T], content: bytes, attempts: Attempts[T]) -> Answer[T] | None:
        try:
            response = await self._asend(operation, content, self._timeout)
        except httpx.HTTPError as error:
            self._on_failure(attempts, error)
            return None
        if len(response.content) > _LARGE:
            return await asyncio.to_thread(_read, response, attempts)
        return _read(response, attempts)

    async def _see_through(self, attempt: Coroutine[Any, Any, Answer[T] | None]) -> Answer[T] | None:
        """Await an attempt to start a query. It goes on if we are cancelled, since only its reply names the query."""
        task = asyncio.create_task(attempt)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            self._abandoned.add(task)
            task.add_done_callback(self._disown)
            raise
        return task.result()

    def _disown(self, start: asyncio.Task[Any]) -> None:
        """Add the query of a cancelled start to the orphans."""
        self._abandoned.discard(start)
        if start.cancelled() or (error := start.exception()) is not None:
            reason = "the event loop has ended, or the index was closed" if start.cancelled() else error
            log.info("a query whose start was cancelled is left to expire, if there is one: %s", reason)
        elif (answer := start.result()) is not None and answer.value[0]:
            self.orphans.append(answer.value[0])

    async def _await_abandoned(self, loop: asyncio.AbstractEventLoop) -> None:
        starts = [start for start in list(self._abandoned) if start.get_loop() is loop]
        if starts:
            _, late = await asyncio.wait(starts, timeout=CLOSE_TIMEOUT)
            for start in late:
                start.cancel()

    def _stop_orphans(self) -> None:
        self._orphans.drain(
            lambda operation: self._send(operation, encode(operation), CLOSE_TIMEOUT), time.monotonic() + CLOSE_TIMEOUT
        )

    async def _astop_orphans(self) -> None:
        await self._orphans.adrain(
            lambda operation: self._asend(operation, encode(operation), CLOSE_TIMEOUT), time.monotonic() + CLOSE_TIMEOUT
        )

    def _on_failure(self, attempts: Attempts[T], error: httpx.HTTPError) -> None:
        """Raise what follows from a failure, or return if the operation is to be sent again."""
        if isinstance(error, _MISUSE):
            message = f"the request to {self.server.safe_url} cannot be sent: {error}"
            raise ClientError(message) from error
        attempts.no_reply(error, where=self.server.safe_url, sent=not isinstance(error, _NEVER_SENT))

    def _own(self) -> HttpClients:
        """Return the connections of this process; a forked child must not use those of its parent."""
        if self._connections.pid != os.getpid():
            self._connections = HttpClients()
        return self._connections

    def _send(self, operation: Operation[Any], content: bytes, seconds: float) -> httpx.Response:
        """Send a request once, with a new client if another thread closes the present one before it is sent."""
        while True:
            client = self._sync_client()
            request = _request(self.server, client, operation, content, seconds)
            try:
                return client.send(request)
            except RuntimeError as error:
                _require_closed(client, error)

    async def _asend(self, operation: Operation[Any], content: bytes, seconds: float) -> httpx.Response:
        while True:
            client = self._async_client()
            request = _request(self.server, client, operation, content, seconds)
            try:
                return await client.send(request)
            except RuntimeError as error:
                _require_closed(client, error)

    def _sync_client(self) -> httpx.Client:
        own = self._own()
        with own.lock:
            own.blocking = own.blocking or httpx.Client(cookies=_NoCookies(), verify=_trust())
            return own.blocking

    def _async_client(self) -> httpx.AsyncClient:
        own, loop = self._own(), asyncio.get_running_loop()
        client = own.by_loop.get(loop)
        if client is None:
            own.forget_closed_loops()
            client = own.by_loop[loop] = httpx.AsyncClient(cookies=_NoCookies(), verify=_trust())
        return client


def _request(
    server: ServerAddress,
    client: httpx.Client | httpx.AsyncClient,
    operation: Operation[Any],
    content: bytes,
    seconds: float,
) -> httpx.Request:
    headers = {"Authorization": f"Bearer {server.token}"}
    if content:
        headers["Content-Type"] = "application/json"
    try:
        url = f"{server.url}/{operation.path}"
        return client.build_request("POST", url, content=content, headers=headers, timeout=seconds)
    except httpx.InvalidURL as error:
        message = f"{server.safe_url!r} is not a usable URL: {error}"
        raise ClientError(message) from error


def _read(response: httpx.Response, attempts: Attempts[T]) -> Answer[T] | None:
    return attempts.reply(
        response.status_code, decode(response.content), retry_after=response.headers.get("Retry-After")
    )


def _require_closed(client: httpx.Client | httpx.AsyncClient, error: RuntimeError) -> None:
    """Raise the error again, unless it says that the client was closed before it sent anything."""
    if not (client.is_closed and str(error).startswith("Cannot send a request")):
        raise error


@atexit.register
def _stop_queries_at_exit() -> None:
    """Stop all queries that are still open, as far as `CLOSE_TIMEOUT` for all of them together allows."""
    orphan_all()
    queues = list(Orphans.waiting.values())
    if not queues:
        return
    try:
        _stop_together(queues, time.monotonic() + CLOSE_TIMEOUT)
    except Exception as error:  # the end of a process is no place for a traceback
        log.info("queries cannot be stopped at the end of the process: %r", error)
    for queue in queues:
        if queue:
            queue.abandon("the process ends")


def _stop_together(queues: list[Orphans], deadline: float) -> None:
    """Empty some queues in an event loop of its own: a process that ends can start no thread.

    All servers are asked at the same time, so that a silent one takes no time from the others. An interruption by the
    keyboard ends it at once.
    """
    loop = asyncio.SelectorEventLoop()
    try:
        loop.set_default_executor(_InlineExecutor())
        stopping = loop.create_task(_stop_all(queues, deadline))
        try:
            loop.run_until_complete(stopping)
        except KeyboardInterrupt:
            stopping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(stopping)
    finally:
        loop.close()


async def _stop_all(queues: list[Orphans], deadline: float) -> None:
    """Empty some queues at the same time, and give up at the deadline."""
    tasks = [asyncio.create_task(_empty(queue, deadline)) for queue in queues]
    try:
        await asyncio.wait(tasks, timeout=deadline - time.monotonic())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _empty(queue: Orphans, deadline: float) -> None:
    """Stop the queries of one server: the first one alone, and those after it together once the server has answered."""
    async with httpx.AsyncClient(cookies=_NoCookies(), verify=_trust()) as client:

        async def send(operation: Operation[None]) -> httpx.Response:
            seconds = max(deadline - time.monotonic(), 0.001)
            return await client.send(_request(queue.server, client, operation, encode(operation), seconds))

        await queue.astop_first(send, deadline)
        await asyncio.gather(*(queue.adrain(send, deadline) for _ in range(min(len(queue), _MAX_STOPS))))


class _InlineExecutor(ThreadPoolExecutor):
    """Runs a function at once, in the thread that submits it: an event loop looks up the names of hosts that way."""

    def submit(self, function: Callable[..., T], /, *arguments: Any, **options: Any) -> "Future[T]":
        done: Future[T] = Future()
        done.set_result(function(*arguments, **options))  # an error reaches the coroutine that waits for the answer
        return done


def _stop_queries_of_worker() -> None:
    """Have the queries stopped at the end of a process of `multiprocessing`, which calls no function of `atexit`."""
    global _watched_pid  # noqa: PLW0603 - once for each process
    if _watched_pid == os.getpid() or "multiprocessing.util" not in sys.modules:  # it is loaded in such a process
        return
    from multiprocessing import parent_process, util

    _watched_pid = os.getpid()
    if parent_process() is not None:
        util.Finalize(None, _stop_queries_at_exit, exitpriority=0)
