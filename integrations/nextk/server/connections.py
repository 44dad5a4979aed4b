"""Connections of uvicorn that hold their clients to the limits of `nextk.server.limits`, whichever parser they use.

A connection collects the head of a request itself and decides on it before the parser sees it, hands the parser one
request at a time, and closes when its client takes too long.
"""

import asyncio
import contextlib
import functools
import http
import importlib.util
import logging
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol

from nextk.errors import RefusedError
from nextk.server.codec import refusal
from nextk.server.heads import BodyEnd, find_end, read_head
from nextk.server.limits import ConnectionClock, ConnectionLimits, Overdue, Stage
from nextk.server.routing import METHODS
from nextk.transport import numbering

log = logging.getLogger("nextk.server")

_LARGE = 2**20  # bytes of a reply from which on it matters what all replies together hold
_MOST_LINGERING = 64  # refused connections that are read for a while; beyond, they are closed at once
_AT_A_TIME = 20  # connections that are looked at without a pause
_PAUSE = 0.002  # seconds
_AT_ONCE = struct.pack("ii", 1, 0)

if TYPE_CHECKING:

    class _Parsing(asyncio.Protocol):
        """The attributes and methods that both protocols of uvicorn have."""

        transport: Any
        cycle: Any
        flow: FlowControl
        loop: asyncio.AbstractEventLoop

        def __init__(self, **options: Any) -> None: ...
        def on_response_complete(self) -> None: ...
        def shutdown(self) -> None: ...
        def eof_received(self) -> Any: ...
        def _unset_keepalive_if_required(self) -> None: ...
else:
    _Parsing = asyncio.Protocol


class ConnectionTable:
    """The connections of one server.

    Args:
        limits: The limits.
        on_refusal: Called with the error of each request that is refused before the application sees it.
        clock: A function that returns the time in seconds.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        on_refusal: Callable[[RefusedError], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.on_refusal = on_refusal
        self.clock = clock
        self._open: set[_Guarded] = set()
        self._lingering: set[_Guarded] = set()
        self._timer: asyncio.TimerHandle | None = None

    def protocol(self, parser: str) -> Callable[..., asyncio.Protocol]:
        """Return what makes the protocol of a new connection for uvicorn.

        Args:
            parser: The parser: `h11`, `httptools`, or `auto` for the faster one that is installed.
        """
        if parser == "auto":
            parser = "httptools" if importlib.util.find_spec("httptools") else "h11"
        return functools.partial(_GuardedH11 if parser == "h11" else _guarded_httptools(), table=self)

    def add(self, connection: "_Guarded") -> bool:
        """Take a new connection in. Returns whether there was room for it, if need be instead of a silent one."""
        self._open.add(connection)
        if self._timer is None:
            self._timer = connection.loop.call_later(
                self.limits.interval, self._look, connection.loop, deque[_Guarded]()
            )
        if len(self._open) <= self.limits.connections:
            return True
        silent = min((each for each in self._waiting() if each is not connection), key=_silent_since, default=None)
        if silent is None:
            return False
        log.warning("refused=connection reason=full closed=silent")
        silent.abort()
        self.remove(silent)
        return True

    def remove(self, connection: "_Guarded") -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)
        self._lingering.discard(connection)
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def let_linger(self, connection: "_Guarded") -> bool:
        """Return whether a connection that was refused may be read for a while; only so many may at the same time."""
        if len(self._lingering) < _MOST_LINGERING:
            self._lingering.add(connection)
        return connection in self._lingering

    def bound_unsent(self) -> None:
        """Close the connections whose clients have not taken anything of a large reply for longest, if need be."""
        excess = sum(each.unsent() for each in self._open) - self.limits.unsent
        if excess <= 0:
            return
        large = [(each.unsent(), each) for each in self._open if each.unsent() >= _LARGE]
        for size, connection in sorted(large, key=lambda pair: pair[1].clock.took):
            log.warning("refused=reply reason=unsent bytes=%d", size)
            connection.abort()
            excess -= size
            if excess <= 0:
                return

    def _waiting(self) -> Iterator["_Guarded"]:
        return (each for each in self._open if not each.is_under_way())

    def _look(self, loop: asyncio.AbstractEventLoop, waiting: "deque[_Guarded]") -> None:
        """Look at some connections, and at the others a little later: many of them may have to be told something."""
        if not waiting:
            waiting.extend(self._open)
        for connection in [waiting.popleft() for _ in range(min(_AT_A_TIME, len(waiting)))]:
            if connection in self._open:
                connection.look()
        self._timer = loop.call_later(_PAUSE if waiting else self.limits.interval, self._look, loop, waiting)


def _silent_since(connection: "_Guarded") -> tuple[bool, float]:
    """Return what sorts connections by how long they are silent; those that are sending a body come last."""
    return connection.clock.stage is Stage.BODY, connection.clock.since


class _Guarded(_Parsing):
    """A connection whose client is held to the limits; the base of one class for each parser.

    Attributes:
        clock: Where the connection stands, and since when.
    """

    def __init__(self, *, table: ConnectionTable, **options: Any) -> None:
        super().__init__(**options)
        self.clock = ConnectionClock(table.limits, table.clock)
        self._table = table
        self._limits = table.limits
        self._input = bytearray()
        self._seen = 0
        self._end = BodyEnd(0)
        self._waits = False

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._table.add(self):
            self._refuse(RefusedError("Too many connections; try again later", 503), linger=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.remove(self)
        self._input.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.clock.stage is Stage.ENDING:
            return
        self._input += data
        self._advance()

    def eof_received(self) -> Any:  # for uvicorn it returns nothing, but the event loop reads a truth value
        """Keep the connection for a moment if its client only waits for the reply."""
        if self.clock.stage is not Stage.REPLY:
            return False
        self.clock.close_half()
        return True

    # What uvicorn calls

    def send_400_response(self, msg: str) -> None:
        self._refuse(RefusedError(msg, 400))

    def on_response_complete(self) -> None:
        super().on_response_complete()
        unsent = self.unsent()
        if unsent >= _LARGE:
            self.clock.note_unsent(unsent)
            self._table.bound_unsent()
        if self.transport.is_closing():
            return
        if self.clock.stage is Stage.REPLY:
            self.clock.enter(Stage.IDLE)
            self._advance()
        # A client that waited to be told to go on may now send its body, or not: nobody can tell where it ends.
        unclear = self._waits and not self._end.reached
        if unclear or (self.clock.half_closed and self.clock.stage is Stage.IDLE):
            self.transport.close()

    def shutdown(self) -> None:
        if self.clock.stage is Stage.ENDING:
            self.abort()
        else:
            super().shutdown()

    # What the table of connections calls

    def is_under_way(self) -> bool:
        """Return whether a complete request is being answered, or a reply sent."""
        return self.clock.stage is Stage.REPLY or self.unsent() > 0

    def unsent(self) -> int:
        """Return the number of bytes that wait to be taken by the client."""
        size: int = self.transport.get_write_buffer_size()
        return size

    def abort(self) -> None:
        """Close the connection at once, so that neither this process nor the kernel keeps what is left to send."""
        with contextlib.suppress(OSError):  # the client may have closed it
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()

    def look(self) -> None:
        """End the connection if its client has taken too long."""
        overdue = self.clock.look(self.unsent(), reading=not self.flow.read_paused)
        if overdue is None:
            return
        if overdue is Overdue.ABORT:
            self.abort()
        elif overdue is Overdue.CLOSE or self._is_answered():
            self.transport.close()
        else:
            self._refuse(RefusedError("The request did not arrive in time", 408))

    # Steps

    def _advance(self) -> None:
        """Hand on what has arrived, one request at a time, until more is needed or a reply has to come first."""
        try:
            while self._input and not self.transport.is_closing():
                if self.clock.stage is Stage.REPLY:
                    if len(self._input) > self._limits.head_bytes:
                        self.flow.pause_reading()
                        self.clock.lose_sight()
                    return
                more = self._take_body() if self.clock.stage is Stage.BODY else self._take_head()
                if not more:
                    return
        except RefusedError as error:
            self._refuse(error)

    def _take_head(self) -> bool:
        """Hand on a head if it is complete. Returns whether it was."""
        if self.clock.stage is not Stage.HEAD:
            if self._input.startswith(b"\r"):  # old clients send an empty line behind a body
                is_line = self._input.startswith(b"\r\n")
                if not is_line and len(self._input) > 1:
                    raise RefusedError("Malformed request: a request begins with its method", 400)
                del self._input[: 2 * is_line]
                return is_line
            self._unset_keepalive_if_required()
            self.clock.enter(Stage.HEAD)
            self._seen = 0
        end = find_end(self._input, self._limits, self._seen)
        self._seen = len(self._input)
        if end is None:
            return False
        head = read_head(bytes(self._input[:end]), self._limits)
        del self._input[:end]
        self._end, self._waits = BodyEnd(head.length), head.waits
        self.clock.enter(Stage.BODY)
        super().data_received(head.data)
        self._note_end()
        return True

    def _take_body(self) -> bool:
        """Hand on what has arrived of a body. Returns whether there was something."""
        count = self._end.take(self._input)
        data = bytes(self._input[:count])
        del self._input[:count]
        self.clock.received(count)
        super().data_received(data)
        self._note_end()
        return count > 0

    def _note_end(self) -> None:
        if self._end.reached and self.clock.stage is Stage.BODY:
            self.clock.enter(Stage.IDLE if self._is_answered() else Stage.REPLY)

    def _is_answered(self) -> bool:
        """Return whether a reply has begun to the request whose body is still arriving."""
        return self.clock.stage is Stage.BODY and self.cycle is not None and self.cycle.response_started

    def _refuse(self, error: RefusedError, *, linger: bool = True) -> None:
        """Answer that the request is refused, unless an answer has begun, and end the connection."""
        kind = {"kind": f"refused status={error.status}"}
        log.warning("refused=request status=%d reason=%s", error.status, error, extra=kind)
        self._table.on_refusal(error)
        answered = self._is_answered()
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._input.clear()
        if not answered:
            self.transport.write(_reply(error))
        linger = linger and self._table.let_linger(self)
        self.clock.enter(Stage.ENDING)
        if linger and self.transport.can_write_eof():
            self.flow.resume_reading()
            self.transport.write_eof()
        else:
            self.transport.close()


class _GuardedH11(_Guarded, H11Protocol):
    """A connection whose requests are read by h11."""


@functools.cache
def _guarded_httptools() -> type[_Guarded]:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class _GuardedHttpTools(_Guarded, HttpToolsProtocol):
        """A connection whose requests are read by httptools."""

    return _GuardedHttpTools


def _reply(error: RefusedError) -> bytes:
    body = refusal(str(error), error.status).body
    special = {
        401: b"www-authenticate: Bearer\r\n",
        405: b"allow: %s\r\n" % ", ".join(METHODS).encode(),
        503: b"retry-after: 1\r\n",
    }
    lines = [
        b"HTTP/1.1 %d %s\r\n" % (error.status, http.HTTPStatus(error.status).phrase.encode()),
        b"content-type: application/json\r\n",
        b"content-length: %d\r\n" % len(body),
        b"connection: close\r\n",
        b"%s: %s\r\n" % (numbering.HEADER.lower().encode(), numbering.VERSION.encode()),
        special.get(error.status, b""),
        b"\r\n",
        body,
    ]
    return b"".join(lines)
