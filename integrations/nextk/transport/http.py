"""HTTP: the only file that imports httpx."""

import asyncio
import atexit
import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

import httpx

from nextk.errors import ClientError
from nextk.operations import Operation, stop
from nextk.transport import FAREWELL
from nextk.transport.outcome import Attempts, encode

log = logging.getLogger("nextk.transport")

T = TypeVar("T")

# The server surely did not see a request that failed like this.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_MISUSE = (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError)


@dataclass(frozen=True, slots=True)
class Server:
    """Where requests go, and as whom. The token never shows in a representation."""

    url: str
    token: str = field(repr=False)

    @property
    def place(self) -> str:
        """The URL as an error may show it: without the user and password that it may hold."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    def request(
        self, client: httpx.Client | httpx.AsyncClient, operation: Operation[T], timeout: float
    ) -> httpx.Request:
        """An operation as an HTTP request."""
        headers = {"Authorization": f"Bearer {self.token}"}
        content = encode(operation)
        if content:
            headers["Content-Type"] = "application/json"
        try:
            url = f"{self.url}/{operation.path}"
            return client.build_request("POST", url, content=content, headers=headers, timeout=timeout)
        except httpx.InvalidURL as error:
            message = f"{self.place!r} is not a usable URL: {error}"
            raise ClientError(message) from error


class Connections:
    """Open connections: those of the blocking calls, and those of each event loop, all of one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.blocking: httpx.Client | None = None
        # A connection belongs to the event loop that made it, and is lost with it.
        self.by_loop: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}

    def forget_closed_loops(self) -> None:
        """Drop the connections of loops that are gone; they can no longer be closed, only let go of."""
        for loop in [loop for loop in list(self.by_loop) if loop.is_closed()]:
            self.by_loop.pop(loop, None)


# One queue per server, not per carrier: a query that is dropped together with its index still has its end.
_orphans: dict[Server, deque[str]] = {}


class HttpCarrier:
    """Carries operations to a server: one pool of connections per process, and one per event loop.

    Args:
        url: The base URL of the index.
        token: Its token.
        retries: How often an operation may be repeated.
        retry_interval: Seconds between two attempts.
        timeout: Seconds for connecting, sending and waiting each.
    """

    def __init__(self, url: str, token: str, *, retries: int, retry_interval: float, timeout: float) -> None:
        self.server = Server(url.rstrip("/"), token)
        self.orphans = _orphans.setdefault(self.server, deque())
        self._retries = retries
        self._retry_interval = retry_interval
        self._timeout = timeout
        self._connections = Connections()

    def __repr__(self) -> str:
        return f"HttpCarrier({self.server.place!r})"

    def send(self, operation: Operation[T]) -> T:
        """Carry an operation; see `nextk.transport.Carrier`."""
        client = self._sync_client()
        self.stop_orphans(client)
        request = self.server.request(client, operation, self._timeout)
        attempts = Attempts(operation, self._retries)
        while True:
            try:
                response = client.send(request)
            except httpx.HTTPError as error:
                self._lost(attempts, error)
            else:
                answer = attempts.reply(response.status_code, response.content)
                if answer is not None:
                    return answer.value
            time.sleep(self._retry_interval)

    async def asend(self, operation: Operation[T]) -> T:
        """Carry an operation without blocking the event loop."""
        client = self._async_client()
        await self._astop_orphans(client)
        request = self.server.request(client, operation, self._timeout)
        attempts = Attempts(operation, self._retries)
        while True:
            try:
                response = await client.send(request)
            except httpx.HTTPError as error:
                self._lost(attempts, error)
            else:
                answer = attempts.reply(response.status_code, response.content)
                if answer is not None:
                    return answer.value
            await asyncio.sleep(self._retry_interval)

    def close(self) -> None:
        """Stop orphans and close the connections of the blocking calls."""
        own = self._own()
        if own.blocking is None and not self.orphans:
            return
        client = self._sync_client()
        self.stop_orphans(client)
        own.blocking = None
        client.close()

    async def aclose(self) -> None:
        """Stop orphans and close the connections of the running event loop, and those of the blocking calls."""
        client = self._own().by_loop.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await self._astop_orphans(client)
            await client.aclose()
        await asyncio.to_thread(self.close)

    def _lost(self, attempts: Attempts[T], error: httpx.HTTPError) -> None:
        """Decide what follows from a failure; return to try again."""
        if isinstance(error, _MISUSE):
            message = f"the request to {self.server.place} cannot be sent: {error}"
            raise ClientError(message) from error
        attempts.lost(error, where=self.server.place, sent=not isinstance(error, _NEVER_SENT))

    def _own(self) -> Connections:
        """The connections of this process; a forked child must not use its parent's."""
        if self._connections.pid != os.getpid():
            self._connections = Connections()
        return self._connections

    def _sync_client(self) -> httpx.Client:
        own = self._own()
        with own.lock:
            own.blocking = own.blocking or httpx.Client()
            return own.blocking

    def _async_client(self) -> httpx.AsyncClient:
        own, loop = self._own(), asyncio.get_running_loop()
        client = own.by_loop.get(loop)
        if client is None:
            own.forget_closed_loops()
            client = own.by_loop[loop] = httpx.AsyncClient()
        return client

    def stop_orphans(self, client: httpx.Client) -> None:
        """Stop the queries whose handles were dropped, as far as that can be done in 2 seconds."""
        deadline = time.monotonic() + FAREWELL
        while (uuid := _next_orphan(self.orphans, deadline)) is not None:
            request = self.server.request(client, stop(uuid), FAREWELL)
            try:
                client.send(request)
            except httpx.HTTPError as error:
                log.info("a dropped query could not be stopped and is left to expire: %s", error)

    async def _astop_orphans(self, client: httpx.AsyncClient) -> None:
        deadline = time.monotonic() + FAREWELL
        while (uuid := _next_orphan(self.orphans, deadline)) is not None:
            request = self.server.request(client, stop(uuid), FAREWELL)
            try:
                await client.send(request)
            except httpx.HTTPError as error:
                log.info("a dropped query could not be stopped and is left to expire: %s", error)


def _next_orphan(orphans: deque[str], deadline: float) -> str | None:
    if time.monotonic() > deadline:
        return None
    try:
        return orphans.popleft()
    except IndexError:
        return None


@atexit.register
def _say_farewell() -> None:
    """Stop the queries whose handles were dropped and that no later call has stopped."""
    for server, orphans in list(_orphans.items()):
        if orphans:
            with httpx.Client() as client:
                HttpCarrier(server.url, server.token, retries=0, retry_interval=0, timeout=FAREWELL).stop_orphans(
                    client
                )
