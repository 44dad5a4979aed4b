"""How many requests may be under way at the same time, and how much their bodies may hold together."""

import asyncio
import contextlib
import functools
from collections import deque
from dataclasses import dataclass
from typing import Self

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextk.errors import RefusedError
from nextk.server.fair_places import Claim, FairPlaces

MAX_REQUESTS = 256
"""How many requests may be under way at the same time by default."""
MAX_BODIES = 256 * 2**20
"""How many bytes the bodies of all requests may hold together by default."""

_SMALL = 64 * 2**10  # bytes of a body that waits for no room: the server reads that much ahead in any case
_PATIENCE = 5.0  # seconds for which a large body waits for room; a client may be waiting to send it for longer
_RETRY_AFTER = (b"retry-after", b"1")
_CLAIM = "nextk.claim"


def set_claim(scope: Scope, claim: Claim) -> None:
    """Say what a request counts as, for the `Intake` around the application. To be called before its body is read.

    Args:
        scope: The scope of the request, of ASGI.
        claim: What it counts as.
    """
    scope[_CLAIM] = claim


class BodyRoom:
    """Room for bodies, which is given to those that wait for it in the order in which they came.

    Args:
        size: The number of bytes.
        patience: The seconds for which a body waits for room.
    """

    def __init__(self, size: int, patience: float = _PATIENCE) -> None:
        self._size = size
        self._patience = patience
        self._taken = 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> int:
        """Take room for a body, and wait for it if need be.

        Args:
            size: The number of bytes. A body that is larger than all room there is takes all of it.

        Returns:
            The number of bytes to give back.

        Raises:
            RefusedError: There was no room for too long. The status is 503.
        """
        size = min(size, self._size)
        if self._queue or not self._fits(size):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.append((size, turn))
            try:
                async with asyncio.timeout(self._patience):
                    await turn
            except BaseException as error:
                self._forget(size, turn)
                if isinstance(error, TimeoutError):
                    raise _busy("too many large bodies are under way") from None
                raise
        else:
            self._taken += size
        return size

    def take_now(self, size: int) -> None:
        """Take room for a body without waiting for it.

        Args:
            size: The number of bytes.

        Raises:
            RefusedError: There is no room. The status is 503.
        """
        if self._queue or not self._fits(size):
            raise _busy("too many large bodies are under way")
        self._taken += size

    def give_back(self, size: int) -> None:
        """Give room back, to the bodies that have waited for it longest."""
        self._taken -= size
        while self._queue:
            waiting, turn = self._queue[0]
            if not (turn.cancelled() or self._fits(waiting)):
                return
            self._queue.popleft()
            if not turn.cancelled():
                self._taken += waiting
                turn.set_result(None)

    def _fits(self, size: int) -> bool:
        return self._taken + size <= self._size

    def _forget(self, size: int, turn: "asyncio.Future[None]") -> None:
        """Take back what a body that no longer waits has, or will have."""
        if turn.done() and not turn.cancelled():
            self.give_back(size)
        else:
            with contextlib.suppress(ValueError):
                self._queue.remove((size, turn))
            self.give_back(0)  # the next one may fit


@dataclass(slots=True)
class _Visit:
    """A request on its way through."""

    scope: Scope
    declared: int | None
    began: bool = False
    complete: bool = False
    claim: Claim | None = None
    held: int = 0
    received: int = 0
    refused: bool = False

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """Begin the visit of a request; a body in chunks declares no length."""
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        chunked = b"transfer-encoding" in headers
        return cls(scope, None if chunked or not length.isdigit() else int(length))


class Intake:
    """An application around another one, which lets only so many requests and so much of their bodies in.

    A request counts from the end of its body to the end of its reply, and its body from the beginning to the beginning
    of the reply. One that does not read its body does not count at all. Who may have how many requests under way is
    decided by `FairPlaces`, from what the application has said by `set_claim`. For a request that is refused, `receive`
    raises `RefusedError`, and the application is to answer by it.

    Args:
        app: The application.
        max_requests: The number of requests.
        room: The room for bodies of more than 64 KiB.
    """

    def __init__(self, app: ASGIApp, max_requests: int, room: BodyRoom) -> None:
        self._app = app
        self._places = FairPlaces(max_requests)
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _Visit.of(scope)
        try:
            await self._app(
                scope, functools.partial(self._receive, visit, receive), functools.partial(self._send, visit, send)
            )
        finally:
            self._empty(visit)
            if visit.claim is not None:
                self._places.give_back(visit.claim)

    async def _receive(self, visit: _Visit, receive: Receive) -> Message:
        if visit.complete:
            return await receive()
        try:
            await self._begin(visit)
            message = await receive()
            if message["type"] == "http.request":
                self._continue(visit, message)
        except RefusedError:
            visit.refused = True
            raise
        return message

    async def _begin(self, visit: _Visit) -> None:
        """Wait for room, once, for a body whose length is known."""
        if not visit.began:
            visit.began = True
            if visit.declared is not None and visit.declared > _SMALL:
                visit.held = await self._room.take(visit.declared)

    def _continue(self, visit: _Visit, message: Message) -> None:
        """Count a part of a body, and the request when it was the last one."""
        visit.received += len(message.get("body", b""))
        if visit.declared is None and visit.received > max(visit.held, _SMALL):
            self._room.take_now(visit.received - visit.held)
            visit.held = visit.received
        if not message.get("more_body", False):
            claim = visit.scope.get(_CLAIM, Claim())
            if not self._places.take(claim):
                raise _busy("too many requests are under way")
            visit.claim = claim
            visit.complete = True

    async def _send(self, visit: _Visit, send: Send, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._empty(visit)
            if visit.refused:
                message = {**message, "headers": [*message.get("headers", []), _RETRY_AFTER]}
        await send(message)

    def _empty(self, visit: _Visit) -> None:
        if visit.held:
            self._room.give_back(visit.held)
            visit.held = 0


def _busy(reason: str) -> RefusedError:
    message = f"The server is busy: {reason}; try again later"
    return RefusedError(message, 503)
