"""A server on this machine that fails as a plan says. Needs `pip install 'nextk[server]'`."""

import asyncio
import contextlib
import json
import secrets
import socket
import struct
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextk.dispatch import COMMANDS
from nextk.engine.factory import open_engine
from nextk.engine.protocol import Engine
from nextk.errors import RefusedError
from nextk.server.app import create_app
from nextk.server.listening import configure, listen, url_of
from nextk.server.routing import RequestTarget
from nextk.testing.faults import ERROR_PAGE, ERROR_STATUS, Fault, FaultPlan, RequestKind
from nextk.testing.unnumbered import UnnumberedApp, answered, body_of, fields_of, whole_body

__all__ = ["FaultyApp", "FaultyServer", "ServerThread"]

_NAME = "faulty"


class FaultyApp:
    """The application of `nextk.server.app.create_app`, except where the plan has a fault.

    Args:
        engines: The indexes by name. The caller closes them.
        plan: The faults. It may be replaced between requests.
        numbered_pages: Whether the server numbers its pages. `False` for one that behaves as if it did not know the
            numbers, like the hosted service. Default `True`.
        options: Further arguments of `create_app`.
    """

    def __init__(
        self, engines: Mapping[str, Engine], plan: FaultPlan, *, numbered_pages: bool = True, **options: Any
    ) -> None:
        self.plan = plan
        self._engines = engines
        app = create_app(engines, **options)
        self._app: ASGIApp = app if numbered_pages else UnnumberedApp(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of ASGI, or fail to answer it as the plan says."""
        command = RequestTarget.parse(scope["path"]).command if scope["type"] == "http" else ""
        if command not in COMMANDS:
            await self._app(scope, receive, send)
            return
        kind = RequestKind.of(command)
        plan, body = self.plan, await body_of(receive)
        fault = plan.on_request(kind)
        for uuid in plan.queries_to_end(fault, _uuid(body)):
            await run_in_threadpool(self._end, uuid)
        if fault is Fault.DROP_REQUEST:
            await _break_off(send)
            return
        reply = await answered(self._app, scope, body)
        _record(plan, kind, body, reply)
        if fault is not None and fault.loses_reply:
            await _lose(fault, reply, send)
        elif fault is not Fault.DELAY or await _still_there(receive, plan.delay):
            if kind is RequestKind.START:
                plan.delivered(_uuid_of_reply(reply))
            for message in reply:
                await send(message)

    def _end(self, uuid: str) -> None:
        for engine in self._engines.values():
            with contextlib.suppress(RefusedError):
                engine.stop(uuid)


class ServerThread:
    """A server that runs an ASGI application in a thread, on a free port of this machine, inside a `with` block.

    Args:
        app: The application.

    Attributes:
        url: The base URL of the server.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._listener = listen("127.0.0.1", 0, protected=True)
        self.url = url_of(self._listener)
        self._server = uvicorn.Server(self._configuration(app))
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],), daemon=True)

    def _configuration(self, app: ASGIApp) -> uvicorn.Config:
        return configure(app, graceful_seconds=1)

    def __enter__(self) -> Self:
        self._thread.start()  # the socket listens already: whoever connects now is answered as soon as all is up
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()


class FaultyServer(ServerThread):
    """A server of one index in memory that fails as planned, on a free port of this machine, inside a `with` block.

    Args:
        plan: The faults. `server.app.plan` may be replaced between requests. The engine uses the clock of this plan.
        max_open_queries: How many resumable queries may be open at once. Default 100.
        numbered_pages: Whether the server numbers its pages. `False` for one that behaves as if it did not know the
            numbers, like the hosted service. Default `True`.
        schema: The keywords of `nextk.Index.embedded`.

    Attributes:
        url: The base URL, for `nextk.Index(server.url, server.token)`.
        token: The token that clients have to send.
        engine: The engine of the index, so that a test can look at it behind the client's back.
        app: The application, whose plan may be replaced.
    """

    def __init__(
        self, plan: FaultPlan, *, max_open_queries: int = 100, numbered_pages: bool = True, **schema: Any
    ) -> None:
        self.token = secrets.token_urlsafe()
        self.engine = open_engine(None, schema, name=_NAME, clock=plan.clock, max_open_queries=max_open_queries)
        self.app = FaultyApp({_NAME: self.engine}, plan, numbered_pages=numbered_pages, token=self.token)
        super().__init__(self.app)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        self.engine.close()


def _uuid(body: bytes) -> str | None:
    """Return the uuid in the body of a request, or `None` if there is none."""
    uuid = (fields_of(body) or {}).get("uuid")
    return uuid if isinstance(uuid, str) else None


def _record(plan: FaultPlan, kind: RequestKind, body: bytes, reply: list[Message]) -> None:
    """Tell the plan which query the application has opened or ended by a reply."""
    status, uuid = reply[0]["status"], _uuid(body)
    if kind is RequestKind.START:
        opened = _uuid_of_reply(reply) if status == 200 else ""
        plan.started(opened, known=opened == uuid)
        return
    failed = status >= 500 and "pageNumber" not in (fields_of(body) or {})  # a numbered page may be requested again
    if failed or status == 404 or (status == 200 and kind is RequestKind.STOP):
        plan.ended(uuid or "")


def _uuid_of_reply(reply: list[Message]) -> str:
    """Return the uuid of the query that a start opened; `""` for none."""
    envelope = json.loads(whole_body(reply))
    result = envelope.get("result")
    return str(result["uuid"]) if isinstance(result, dict) else ""


async def _lose(fault: Fault, reply: list[Message], send: Send) -> None:
    """Send what is left of a reply that a fault loses."""
    if fault is Fault.ERROR_PAGE:
        await _send_error_page(send)
    elif fault is Fault.TRUNCATE:
        await _send_half(reply, send)
    else:
        await _break_off(send)
    if fault is Fault.RESET:
        _reset(send)


async def _break_off(send: Send) -> None:
    """Begin a reply and never finish it, so that the server closes the connection."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{", "more_body": True})


def _reset(send: Send) -> None:
    """Close the connection of uvicorn's `send` at once, with a TCP RST instead of an orderly end."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is not None:  # without it the server closes the connection that was broken off
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


async def _send_half(reply: list[Message], send: Send) -> None:
    """Send the first half of a reply's body, as if that were all of it."""
    body = whole_body(reply)
    half = body[: len(body) // 2]
    headers = [(name, value) for name, value in reply[0]["headers"] if name.lower() != b"content-length"]
    headers.append((b"content-length", str(len(half)).encode()))
    await send({**reply[0], "headers": headers})
    await send({"type": "http.response.body", "body": half})


async def _send_error_page(send: Send) -> None:
    headers = [(b"content-type", b"text/html"), (b"content-length", str(len(ERROR_PAGE)).encode())]
    await send({"type": "http.response.start", "status": ERROR_STATUS, "headers": headers})
    await send({"type": "http.response.body", "body": ERROR_PAGE})


async def _still_there(receive: Receive, seconds: float) -> bool:
    """Wait for some seconds, and return whether the client is still connected then."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return True
    return False
