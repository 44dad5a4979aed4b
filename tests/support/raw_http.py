"""A server with limits of one's own on a free port of this machine, and clients that send it bytes as they are."""

import asyncio
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextk.server.limits import ConnectionLimits
from nextk.server.listening import configure
from nextk.testing.server import ServerThread

PARSERS = ("h11", "httptools")


class LimitedServer(ServerThread):
    """A server whose connections have limits, with one of the parsers of HTTP."""

    def __init__(self, app: ASGIApp, limits: ConnectionLimits, parser: str = "auto") -> None:
        self._limits, self._parser = limits, parser
        super().__init__(app)

    def _configuration(self, app: ASGIApp) -> uvicorn.Config:
        return configure(app, graceful_seconds=1, limits=self._limits, parser=self._parser)


class PlainApp:
    """Answers every path by the number of bytes of the body that came.

    `/wait` answers when `go_on` is set, `/large` by many bytes, and `/early` before it reads the body.

    Attributes:
        waiting: Set when a request for `/wait` has come.
        go_on: What `/wait` waits for.
        left: Set when the client of a request has left before it was answered.
        large: The number of bytes of `/large`.
    """

    def __init__(self, large: int = 16 * 2**20) -> None:
        self.waiting, self.go_on, self.left = threading.Event(), threading.Event(), threading.Event()
        self.large = large

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or begin and end with the server."""
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        size = 0
        message: Message = {"more_body": scope["path"] != "/early"}
        while message.get("more_body"):
            message = await receive()
            size += len(message.get("body", b""))
            if message["type"] == "http.disconnect":
                self.left.set()
                return
        if scope["path"] == "/wait":
            await self._wait(receive)
        content = b"x" * self.large if scope["path"] == "/large" else b'{"bytes":%d}' % size
        headers = [(b"content-length", b"%d" % len(content)), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _wait(self, receive: Receive) -> None:
        leaving = asyncio.ensure_future(receive())
        self.waiting.set()
        while not self.go_on.is_set() and not leaving.done():  # noqa: ASYNC110 - tests are in other threads
            await asyncio.sleep(0.005)
        if leaving.done():
            self.left.set()
        leaving.cancel()


@dataclass(frozen=True, slots=True)
class RawReply:
    """A reply of HTTP.

    Attributes:
        status: The status.
        headers: The headers by their names in lower case.
        body: The bytes of the body.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> tuple[int, str]:
        """The status and the words of a refusal, its envelope checked."""
        envelope: dict[str, Any] = json.loads(self.body)
        assert envelope.keys() == {"error", "status"}
        assert envelope["status"] == self.status
        assert self.headers["content-type"] == "application/json"
        return self.status, envelope["error"]


class RawClient:
    """One connection on which bytes are sent as they are."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._input = connection.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def reply(self) -> RawReply:
        """Read the next reply."""
        lines = [line.decode().strip() for line in iter(self._input.readline, b"\r\n") if line]
        found = re.match(r"HTTP/1\.[01] (\d+)", lines[0])
        assert found, lines
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        return RawReply(int(found[1]), headers, self._input.read(int(headers.get("content-length", 0))))

    def is_closed(self) -> bool:
        """Wait until the server ends the connection. Returns whether nothing else came."""
        try:
            return self._input.read() == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """Close the connection."""
        self._input.close()
        self.socket.close()


@contextmanager
def raw_client(server: ServerThread) -> Iterator[RawClient]:
    """Connect to a server while the block runs."""
    host, port = server.url.removeprefix("http://").split(":")
    client = RawClient(socket.create_connection((host, int(port)), timeout=10))
    try:
        yield client
    finally:
        client.close()
